use super::*;
use crate::{Code, Method, TimeLimit, retry::Backoff};

const MS: Duration = Duration::from_millis(1);
const RETRIED: Failure = Failure { class: Class::Retried, asked: None, unreached: false };

#[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
fn start() -> Instant {
    Instant::now()
}

fn asked(wait: Wait) -> Failure {
    Failure { asked: Some(wait), ..RETRIED }
}

fn settings() -> Settings {
    Settings::new(Backoff::exponential(10 * MS)).attempts(4)
}

const fn at(now: Instant, deadline: Option<Instant>) -> When {
    When { now, deadline, draw: 0 }
}

fn again(course: &mut Course, settings: &Settings, failure: Failure) -> Result<u128, Stop> {
    let again = course.again(settings, failure, Ok(()), at(start(), None), || true)?;
    Ok(again.wait.as_millis())
}

#[test]
fn attempts_are_counted_with_the_first() {
    let (mut course, settings) = (Course::new(), settings());

    let waits = [(); 4].map(|()| again(&mut course, &settings, RETRIED));

    assert_eq!(waits, [Ok(10), Ok(20), Ok(40), Err(Stop::Attempts)]);
    assert_eq!(course.previous(), 3);
}

// R08
#[test]
fn pushback_is_obeyed_to_the_millisecond_and_starts_the_backoff_again() {
    let (mut course, settings) = (Course::new(), settings());

    assert_eq!(again(&mut course, &settings, RETRIED), Ok(10));
    assert_eq!(again(&mut course, &settings, asked(Wait::After(1000 * MS))), Ok(1000));
    assert_eq!(again(&mut course, &settings, RETRIED), Ok(10));
    assert_eq!(again(&mut course, &settings, asked(Wait::After(MS))), Err(Stop::Attempts));
}

// R08
#[test]
fn who_asks_not_to_be_tried_again_is_not_and_it_counts() {
    let (mut course, settings) = (Course::new(), settings());
    let never = asked(Wait::Never);

    assert_eq!(again(&mut course, &settings, never), Err(Stop::Pushback));
    assert!(never.is_counted());
}

// R09
#[test]
fn a_wait_is_never_earlier_than_asked_nor_than_our_own_and_never_past_the_ceiling() {
    let settings = Settings::new(Backoff::constant(50 * MS)).ceiling(TimeLimit::from_secs(5));
    let wait = |millis| again(&mut Course::new(), &settings, asked(Wait::After(millis * MS)));

    assert_eq!(wait(3_000), Ok(3_000));
    assert_eq!(wait(10), Ok(50));
    assert_eq!(wait(5_000), Ok(5_000));
    assert_eq!(wait(5_001), Err(Stop::Ceiling));
    assert_eq!(wait(10_000), Err(Stop::Ceiling));
}

#[test]
fn a_wait_that_ends_at_the_deadline_is_too_long() {
    let (settings, now) = (settings(), start());
    let until = |millis| {
        let mut course = Course::new();
        course.again(&settings, RETRIED, Ok(()), at(now, Some(now + millis * MS)), || true).is_ok()
    };

    assert!(until(11));
    assert!(!until(10));
}

#[test]
fn the_budget_is_asked_last_and_spared_for_what_stops_anyway() {
    let (settings, now) = (settings(), start());
    let stop = |failure, deadline| {
        let spent = || unreachable!("it was asked");
        Course::new().again(&settings, failure, Ok(()), at(now, deadline), spent).unwrap_err()
    };

    assert_eq!(stop(asked(Wait::Never), None), Stop::Pushback);
    assert_eq!(stop(asked(Wait::After(Duration::MAX)), None), Stop::Ceiling);
    assert_eq!(stop(RETRIED, Some(now)), Stop::Deadline);
    let refused = Course::new().again(&settings, RETRIED, Ok(()), at(now, None), || false);
    assert_eq!(refused, Err(Stop::Budget));
}

#[test]
fn what_never_reached_the_server_is_sent_again_for_nothing_once() {
    let (mut course, settings) = (Course::new(), settings().attempts(2));
    let unreached = Failure { unreached: true, ..RETRIED };

    let first = course.again(&settings, unreached, Ok(()), at(start(), None), || unreachable!());

    assert_eq!(first, Ok(Again { wait: Duration::ZERO, transparent: true }));
    assert_eq!(again(&mut course, &settings, unreached), Ok(10));
    assert_eq!(again(&mut course, &settings, unreached), Err(Stop::Attempts));
    // The server has seen nothing of the first one, and is told of none.
    assert_eq!(course.previous(), 1);
}

fn failure(settings: &Settings, judgement: Judgement, facts: Facts) -> Option<Class> {
    Failure::of(settings, judgement, facts, None, false).map(|failure| failure.class)
}

fn http(status: u16) -> Facts {
    Facts { protocol: Protocol::Http, method: Method::Get, status: Some(status), code: None }
}

fn of_status(verdict: Verdict) -> Judgement {
    Judgement::new(verdict, Reason::Status)
}

#[test]
fn what_is_bad_is_retried_unless_nothing_would_mend_it() {
    let settings = settings();
    let status = |status, verdict| failure(&settings, of_status(verdict), http(status));

    for bad in [500, 502, 503, 504, 599] {
        assert_eq!(status(bad, Verdict::Bad), Some(Class::Retried), "{bad}");
    }
    for never in [501, 505] {
        assert_eq!(status(never, Verdict::Bad), Some(Class::Not(Stop::Final)), "{never}");
    }
    for ask_again in [408, 425, 429] {
        assert_eq!(status(ask_again, Verdict::Excluded), Some(Class::Retried), "{ask_again}");
    }
    assert_eq!(status(404, Verdict::Excluded), None);
    assert_eq!(status(200, Verdict::Good), None);
    assert_eq!(status(503, Verdict::Good), None, "the classifier is believed");
    assert_eq!(status(200, Verdict::Bad), Some(Class::Retried));
}

#[test]
fn an_error_is_retried_unless_the_classifier_thinks_nothing_of_it() {
    let settings = settings();
    for protocol in [Protocol::Http, Protocol::Grpc, Protocol::Plain] {
        let facts = Facts { protocol, status: None, ..http(0) };
        let failed = |verdict| failure(&settings, Judgement::new(verdict, Reason::Failed), facts);

        assert_eq!(failed(Verdict::Bad), Some(Class::Retried), "{protocol:?}");
        assert_eq!(failed(Verdict::Excluded), None);
        assert_eq!(failed(Verdict::Good), None);
    }
}

#[test]
fn statuses_that_are_named_are_all_there_are() {
    let settings = settings().statuses([503, 418]);
    let status = |status, verdict| failure(&settings, of_status(verdict), http(status));

    assert_eq!(status(418, Verdict::Excluded), Some(Class::Retried));
    assert_eq!(status(503, Verdict::Bad), Some(Class::Retried));
    assert_eq!(status(500, Verdict::Bad), Some(Class::Not(Stop::Final)));
    assert_eq!(status(429, Verdict::Excluded), None);
}

#[test]
fn of_grpc_the_codes_that_are_named() {
    let settings = settings().codes([Code::Unavailable, Code::Aborted]);
    let code = |code, verdict| {
        let facts = Facts { protocol: Protocol::Grpc, code: Some(code), ..http(200) };
        failure(&settings, of_status(verdict), facts)
    };

    assert_eq!(code(Code::Unavailable, Verdict::Bad), Some(Class::Retried));
    assert_eq!(code(Code::Aborted, Verdict::Excluded), Some(Class::Retried));
    assert_eq!(code(Code::Internal, Verdict::Bad), Some(Class::Not(Stop::Final)));
    assert_eq!(code(Code::NotFound, Verdict::Excluded), None);
}

#[test]
fn of_grpc_what_has_no_code_is_retried_where_a_code_is_named_that_leaves_it_open() {
    let grpc = Facts { protocol: Protocol::Grpc, status: None, ..http(0) };
    let of = |codes: &[Code], reason, unreached| {
        let settings = settings().codes(codes.iter().copied());
        let judgement = Judgement::new(Verdict::Bad, reason);
        Failure::of(&settings, judgement, grpc, None, unreached).map(|failure| failure.class)
    };
    let (retried, timed_out) = (Some(Class::Retried), Reason::Refused(Kind::TimedOut));

    for (code, broke, cut) in [
        (Code::Unavailable, Class::Retried, Class::Retried),
        (Code::DeadlineExceeded, Class::Not(Stop::Final), Class::Retried),
        (Code::Aborted, Class::Not(Stop::Final), Class::Not(Stop::Final)),
    ] {
        assert_eq!(of(&[code], Reason::Failed, false), Some(broke), "{code:?}");
        assert_eq!(of(&[code], Reason::Failed, true), retried, "{code:?}");
        let settings = settings().codes([code]).retry_rejections();
        assert_eq!(Failure::cut(&settings, Protocol::Grpc).class, cut, "{code:?}");
        let further_in = of(&[code], timed_out, false);
        assert_eq!(further_in == retried, cut == Class::Retried, "{code:?}");
        for protocol in [Protocol::Http, Protocol::Plain] {
            assert_eq!(Failure::cut(&settings, protocol).class, Class::Retried);
        }
    }
}

#[test]
fn of_grpc_what_never_reached_its_server_is_retried_whatever_code_its_client_made_of_it() {
    let facts = Facts { protocol: Protocol::Grpc, code: Some(Code::Unavailable), ..http(0) };
    let settings = settings().codes([Code::Aborted]);
    let judgement = Judgement::new(Verdict::Bad, Reason::Status);
    let of = |unreached| Failure::of(&settings, judgement, facts, None, unreached).unwrap().class;

    assert_eq!(of(true), Class::Retried);
    assert_eq!(of(false), Class::Not(Stop::Final));
}

#[test]
fn what_a_handler_calls_bad_is_an_answer_where_its_status_is_good() {
    let settings = settings();
    let application = Judgement::new(Verdict::Bad, Reason::Application);
    let of = |facts| failure(&settings, application, facts);
    let grpc = |code| Facts { protocol: Protocol::Grpc, code, ..http(200) };

    assert_eq!(of(http(200)), None);
    assert_eq!(of(http(399)), None);
    assert_eq!(of(http(500)), Some(Class::Retried));
    assert_eq!(of(grpc(None)), None);
    assert_eq!(of(grpc(Some(Code::Ok))), None);
    assert_eq!(of(grpc(Some(Code::Unavailable))), Some(Class::Retried));
    // Of an error somebody's classifier says so, and an error is no answer.
    assert_eq!(of(Facts { status: None, ..http(0) }), Some(Class::Retried));
}

// R18
#[test]
fn refusals_are_answers_but_for_time_that_ran_out() {
    let plain = Facts { protocol: Protocol::Plain, status: None, ..http(0) };
    let refused = |settings: &Settings, kind| {
        failure(settings, Judgement::new(Verdict::Bad, Reason::Refused(kind)), plain)
    };
    let (default, all) = (settings(), settings().retry_rejections());

    assert_eq!(refused(&default, Kind::CircuitOpen), Some(Class::Not(Stop::CircuitOpen)));
    assert_eq!(refused(&default, Kind::RateLimited), Some(Class::Not(Stop::Rejected)));
    assert_eq!(refused(&default, Kind::TimedOut), Some(Class::Retried));
    for kind in Kind::ALL {
        let expected = match kind {
            Kind::Expired => Class::Not(Stop::Rejected),
            _ => Class::Retried,
        };
        assert_eq!(refused(&all, kind), Some(expected), "{kind:?}");
    }
}

#[test]
fn every_reason_stands_at_its_number_and_methods_are_those_of_the_standard() {
    for (number, stop) in Stop::ALL.into_iter().enumerate() {
        assert_eq!(stop as usize, number);
    }
    let settings = settings();
    let repeated: Vec<_> = Method::ALL.into_iter().filter(|m| settings.repeats(*m)).collect();
    assert_eq!(
        repeated,
        [Method::Delete, Method::Get, Method::Head, Method::Options, Method::Put, Method::Trace,]
    );
    assert!(settings.method(Method::Post).repeats(Method::Post));
}

#[test]
fn what_cannot_be_made_again_is_not_sent_again_though_it_never_arrived() {
    let unreached = Failure { unreached: true, ..RETRIED };
    for why in [Stop::Method, Stop::BodyTooLarge, Stop::BodyUnfinished] {
        let again =
            Course::new().again(&settings(), unreached, Err(why), at(start(), None), || true);
        assert_eq!(again, Err(why));
    }
}

// R08
#[test]
fn pushback_is_one_number_or_a_no() {
    assert_eq!(Wait::of_pushback(Some(b"1000")), Some(Wait::After(1000 * MS)));
    for no in [Some(&b"-1"[..]), Some(b"xxx"), Some(b""), None] {
        assert_eq!(Wait::of_pushback(no), Some(Wait::Never));
    }
}

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

#[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
fn start() -> Instant {
    Instant::now()
}

fn race(now: Instant, most: u32) -> Race {
    Race::new(now, 10 * MS, most, None).unwrap()
}

#[test]
fn each_is_due_after_the_delay_and_there_are_no_more_than_allowed() {
    let now = start();
    let mut race = race(now, 2);

    assert_eq!(race.due(), Some(now + 10 * MS));
    assert_eq!(race.fire(now + 12 * MS, Ok(()), || true), Ok(1));
    assert_eq!(
        (race.due(), race.is_last()),
        (Some(now + 22 * MS), false),
        "after when it was sent"
    );
    assert_eq!(race.fire(now + 22 * MS, Ok(()), || true), Ok(2));
    assert_eq!((race.due(), race.is_last(), race.fired()), (None, true, 2));
}

#[test]
fn a_caller_who_would_be_gone_gets_none() {
    let now = start();
    let by = |millis| Some(now + millis * MS);

    assert_eq!(Race::new(now, 10 * MS, 1, by(10)), Err(Unhedged::Deadline));
    assert_eq!(Race::new(now, Duration::MAX, 1, None), Err(Unhedged::Deadline));
    let mut race = Race::new(now, 10 * MS, 3, by(20)).unwrap();
    assert_eq!(race.fire(now + 10 * MS, Ok(()), || true), Ok(1));
    assert_eq!(race.due(), None, "the next would come too late");
    // Polled late.
    let mut race = Race::new(now, 10 * MS, 1, by(20)).unwrap();
    assert_eq!(race.fire(now + 20 * MS, Ok(()), || unreachable!()), Err(Unhedged::Deadline));
}

#[test]
fn what_stands_against_it_is_told_and_the_budget_is_asked_last() {
    let now = start();

    for (stop, why) in [
        (Stop::BodyUnfinished, Unhedged::BodyUnfinished),
        (Stop::BodyTooLarge, Unhedged::BodyTooLarge),
    ] {
        let mut race = race(now, 2);
        assert_eq!(race.fire(now + 10 * MS, Err(stop), || unreachable!()), Err(why));
        assert_eq!(race.due(), None, "nor later");
    }
    let mut race = race(now, 2);
    assert_eq!(race.fire(now + 10 * MS, Ok(()), || false), Err(Unhedged::Budget));
    assert_eq!(race.due(), None);
}

#[test]
fn a_first_attempt_that_fails_alone_is_passed_on_though_another_was_due() {
    let now = start();
    let mut race = race(now, 1);

    assert_eq!(race.failed(0, None, now + MS), (Next::PassOn, None));
    assert_eq!(race.due(), None);
}

#[test]
fn it_is_passed_on_when_the_last_of_them_has_failed() {
    let now = start();
    let mut race = race(now, 2);
    race.fire(now + 10 * MS, Ok(()), || true).unwrap();

    assert_eq!(race.failed(1, None, now + 11 * MS), (Next::Wait, None));
    race.fire(now + 20 * MS, Ok(()), || true).unwrap();
    assert_eq!(race.failed(0, None, now + 21 * MS), (Next::Wait, None));
    assert_eq!(race.failed(2, None, now + 22 * MS), (Next::PassOn, None));
}

// gRFC A6
#[test]
fn who_asks_not_to_be_called_is_sent_no_more_attempts() {
    let now = start();
    let mut race = race(now, 3);
    race.fire(now + 10 * MS, Ok(()), || true).unwrap();

    let (next, why) = race.failed(1, Some(Pushback::Never), now + 11 * MS);

    assert_eq!((next, why, race.due()), (Next::Wait, Some(Unhedged::Pushback), None));
}

// gRFC A6
#[test]
fn who_asks_for_a_wait_gets_it_and_the_delay_counts_from_there() {
    let now = start();
    let mut waiting = race(now, 3);
    waiting.fire(now + 10 * MS, Ok(()), || true).unwrap();

    let asked = Some(Pushback::After(100 * MS));
    assert_eq!(waiting.failed(1, asked, now + 11 * MS), (Next::Wait, None));
    assert_eq!(waiting.due(), Some(now + 111 * MS));
    waiting.fire(now + 111 * MS, Ok(()), || true).unwrap();
    assert_eq!(waiting.due(), Some(now + 121 * MS));

    // A shorter wait brings nothing forward.
    let mut race = race(now, 3);
    race.fire(now + 10 * MS, Ok(()), || true).unwrap();
    race.failed(1, Some(Pushback::After(MS)), now + 11 * MS);
    assert_eq!(race.due(), Some(now + 20 * MS));
}

/// All that a race does, told by a list of what became of each attempt.
struct Model {
    attempts: Vec<bool>,
    most: usize,
    due: Option<u64>,
    delay: u64,
    deadline: u64,
}

impl Model {
    fn set_due(&mut self, at: u64) {
        let is_due = self.attempts.len() <= self.most && at < self.deadline;
        self.due = is_due.then_some(at);
    }

    fn running(&self) -> usize {
        self.attempts.iter().filter(|running| **running).count()
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Fire { kept: bool, granted: bool },
    Fail { attempt: usize, asked: Option<Pushback> },
}

fn op() -> impl Strategy<Value = Op> {
    let after = (0_u64..50).prop_map(|wait| Pushback::After(Duration::from_millis(wait)));
    let asked = proptest::option::weighted(0.2, prop_oneof![Just(Pushback::Never), after]);
    prop_oneof![
        (proptest::bool::weighted(0.9), proptest::bool::weighted(0.9))
            .prop_map(|(kept, granted)| Op::Fire { kept, granted }),
        (0_usize..5, asked).prop_map(|(attempt, asked)| Op::Fail { attempt, asked }),
    ]
}

proptest! {
    #[test]
    fn a_race_does_what_a_list_of_its_attempts_does(
        most in 1_u32..=4,
        delay in 0_u64..30,
        deadline in 1_u64..200,
        ops in proptest::collection::vec((0_u64..10, op()), 1..40),
    ) {
        let start = start();
        let at = |millis| start + Duration::from_millis(millis);
        let mut model = Model { attempts: vec![true], most: most as usize, due: None, delay, deadline };
        model.set_due(delay);
        let new = Race::new(start, Duration::from_millis(delay), most, Some(at(deadline)));
        prop_assert_eq!(new.is_ok(), model.due.is_some());
        let Ok(mut race) = new else { return Ok(()) };

        let mut now = 0;
        for (ahead, op) in ops {
            now += ahead;
            match op {
                Op::Fire { kept, granted } => {
                    // Whoever waits for it comes then, or later.
                    let Some(due) = model.due else { continue };
                    now = now.max(due);
                    let kept = if kept { Ok(()) } else { Err(Stop::BodyUnfinished) };
                    let fired = race.fire(at(now), kept, || granted);
                    model.due = None;
                    let expected = match kept {
                        Err(_) => Err(Unhedged::BodyUnfinished),
                        Ok(()) if now >= model.deadline => Err(Unhedged::Deadline),
                        Ok(()) if !granted => Err(Unhedged::Budget),
                        Ok(()) => {
                            model.attempts.push(true);
                            model.set_due(now + model.delay);
                            Ok(u32::try_from(model.attempts.len() - 1).unwrap())
                        }
                    };
                    prop_assert_eq!(fired, expected);
                }
                Op::Fail { attempt, asked } => {
                    if !model.attempts.get(attempt).copied().unwrap_or_default() {
                        continue;
                    }
                    model.attempts[attempt] = false;
                    let (next, _) = race.failed(u32::try_from(attempt).unwrap(), asked, at(now));
                    prop_assert_eq!(next == Next::PassOn, model.running() == 0);
                    if model.running() == 0 {
                        prop_assert_eq!(race.due(), None);
                        break;
                    }
                    match (model.due, asked) {
                        (Some(_), Some(Pushback::Never)) => model.due = None,
                        (Some(due), Some(Pushback::After(wait))) => {
                            let wait = u64::try_from(wait.as_millis()).unwrap();
                            model.set_due(due.max(now + wait));
                        }
                        _ => {}
                    }
                }
            }
            prop_assert_eq!(race.due(), model.due.map(at));
        }
    }
}

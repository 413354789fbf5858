use std::{ops::Deref, sync::Arc, task::Context};

use buttress_core::{
    Case, End, Judge, Protocol, Resend, Verdict, clock,
    hedge::Settings,
    is_unreached,
    retry::{Class, Failure, Stop},
};

use crate::{clock::read, retry::attempt::Attempt};

/// What an attempt ended in.
pub(super) enum Judged<Response, Error> {
    /// It is handed out, and the others are dropped.
    Answer(Result<Response, Error>, Answered),
    /// Another may do better.
    Failed(Result<Response, Error>, Failure),
}

/// What a budget of tokens makes of an answer that is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// It is good, so far.
    Well,
    /// The server asks not to be tried again, which costs as much as a failure
    /// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md)).
    ForGood,
    /// What the caller asked for is wrong.
    Otherwise,
}

/// Judges an attempt as a retry would: by its head, by trailers that follow at once, or by its
/// error. Whatever a retry has no quarrel with is an answer.
#[inline]
pub(super) fn judge<C, X, Request, Response, Error, Opened>(
    attempt: &mut Attempt<C>,
    exchange: &X,
    outcome: Result<Response, Error>,
    settings: impl FnOnce() -> arc_swap::Guard<Arc<Settings>>,
    cx: &mut Context<'_>,
) -> Judged<Opened, Error>
where
    C: Case,
    X: Judge<Request, Response, Error, Case = C> + Resend<Request, Response, Response = Opened>,
{
    let (outcome, is_good, failure) = match outcome {
        Ok(response) => {
            let (response, is_good, failure) = of_response::<_, _, Request, _, Error, _>(
                attempt, exchange, response, settings, cx,
            );
            (Ok(response), is_good, failure)
        }
        Err(error) => {
            let source = exchange.error(&error);
            let judgement = attempt.end(End::Failed(source), false, clock::ready(read));
            let unreached = source.is_some_and(is_unreached);
            let (facts, asked) = (attempt.case.facts(), exchange.asked(Err(&error)));
            let failure = Failure::of(settings().rules(), judgement, facts, asked, unreached);
            (Err(error), judgement.verdict == Verdict::Good, failure)
        }
    };
    match failure {
        None if is_good => Judged::Answer(outcome, Answered::Well),
        None => Judged::Answer(outcome, Answered::Otherwise),
        // What the caller asked for is wrong, and its server will not be asked again: so it is.
        Some(Failure { class: Class::Not(Stop::Pushback), .. }) => {
            Judged::Answer(outcome, Answered::ForGood)
        }
        Some(failure) => Judged::Failed(outcome, failure),
    }
}

#[inline]
fn of_response<C, X, Request, Response, Error, Opened>(
    attempt: &mut Attempt<C>,
    exchange: &X,
    response: Response,
    settings: impl FnOnce() -> arc_swap::Guard<Arc<Settings>>,
    cx: &mut Context<'_>,
) -> (Opened, bool, Option<Failure>)
where
    C: Case,
    X: Judge<Request, Response, Error, Case = C> + Resend<Request, Response, Response = Opened>,
{
    let now = attempt.ends(|| clock::ready(read));
    exchange.head(&mut attempt.case, &response);
    let judged = attempt.case.judged();
    if judged.is_some_and(|judged| judged.verdict == Verdict::Good) {
        attempt.hand_out(now);
        return (exchange.lay_open(response), true, None);
    }
    let mut asked = exchange.asked(Ok(&response));
    let mut response = exchange.lay_open(response);
    let mut facts = attempt.case.facts();
    let judgement = if let Some(judged) = judged {
        attempt.hand_out(now);
        judged
    } else {
        let grpc = facts.protocol == Protocol::Grpc;
        let Some(peeked) = grpc.then(|| exchange.peek(&mut response, cx)).flatten() else {
            // A message has come, or it may: whatever follows, the caller is to see it.
            attempt.hand_out(now);
            return (response, true, None);
        };
        facts.code = peeked.code;
        asked = peeked.asked.or(asked);
        attempt.end(End::Complete { code: peeked.code }, true, now)
    };
    let failure = Failure::of(settings().deref().rules(), judgement, facts, asked, false);
    (response, judgement.verdict == Verdict::Good, failure)
}

use std::{sync::Arc, task::Context};

use buttress_core::{
    Case, Judge, Resend, Verdict, clock,
    hedge::Settings,
    retry::{Class, Failure, Stop},
};

use crate::{
    clock::read,
    retry::attempt::{Attempt, doubt, failure},
};

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
    let response = match outcome {
        Ok(response) => response,
        failed => {
            return in_doubt::<_, _, Request, _, _, _>(attempt, exchange, failed, settings, cx);
        }
    };
    let now = attempt.ends(|| clock::ready(read));
    exchange.head(&mut attempt.case, &response);
    if attempt.is_good(now) {
        return Judged::Answer(Ok(exchange.lay_open(response)), Answered::Well);
    }
    in_doubt::<_, _, Request, _, _, _>(attempt, exchange, Ok(response), settings, cx)
}

/// As [`judge`], of one whose response is not good by its head alone, if it has one.
#[inline(never)]
pub(super) fn in_doubt<C, X, Request, Response, Error, Opened>(
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
    match outcome {
        Ok(response) => {
            let now = attempt.ends(|| clock::ready(read));
            let (response, doubted) =
                doubt::<X, Request, Response, Error, C>(attempt, exchange, response, now, cx);
            let is_good = doubted.as_ref().is_none_or(|it| it.judgement.verdict == Verdict::Good);
            let failure = doubted.and_then(|doubted| doubted.failure(settings().rules()));
            told(Ok(response), is_good, failure)
        }
        Err(error) => {
            let (now, settings) = (clock::ready(read), settings());
            let (judgement, failure) = failure::<X, Request, Response, _, _>(
                attempt,
                exchange,
                &error,
                now,
                settings.rules(),
            );
            told(Err(error), judgement.verdict == Verdict::Good, failure)
        }
    }
}

fn told<Response, Error>(
    outcome: Result<Response, Error>,
    is_good: bool,
    failure: Option<Failure>,
) -> Judged<Response, Error> {
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

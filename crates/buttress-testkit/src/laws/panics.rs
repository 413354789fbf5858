use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use http_body::Body as _;
use tokio::time::timeout;
use tower_layer::Layer;

use super::{
    Law, Stacked, Subject, Violation,
    rig::{AGES, ROUNDS, Rig, run},
};
use crate::{Body, HttpProbe, ScriptedPanic, Step};

/// A panic goes on unwinding and leaves the layer working.
///
/// A panic in the inner `call`, when the inner response is polled, and in the body; also when the
/// inner service was busy before. After each nothing is held, the call is
/// [settled](Subject::settled) once, and both the service that was called and its clones work.
///
/// # Errors
///
/// With a [`Violation`] when the layer breaks the law.
pub fn survives_panics<L>(fresh: impl Fn() -> Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    run(async {
        for place in [Place::Call, Place::Poll, Place::Body] {
            for busy in [false, true] {
                let after = place.as_str();
                let mut rig = Rig::new(Law::SurvivesPanics, fresh());
                let instances = rig.probe.tally().instances;
                for _ in 0..ROUNDS {
                    let mut service = rig.service.clone();
                    let unwound = unwind(&mut rig, &mut service, place, busy).await;
                    unwound.map_err(|violation| violation.after(after))?;
                    let worked = rig.exchange(&mut service).await;
                    worked.map_err(|violation| violation.after(after))?;
                    drop(service);
                    rig.at_rest(instances, after)?;
                }
                rig.works(after).await?;
                rig.released(after)?;
            }
        }
        Ok(())
    })
}

/// Where it panics.
#[derive(Clone, Copy)]
enum Place {
    Call,
    Poll,
    Body,
}

impl Place {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "a panic in call",
            Self::Poll => "a panic in the response's poll",
            Self::Body => "a panic in the body",
        }
    }
}

/// Makes a call that panics.
async fn unwind<L, S>(
    rig: &mut Rig<L, S>,
    service: &mut S,
    place: Place,
    busy: bool,
) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service = S>,
    S: Stacked,
{
    match place {
        Place::Call => rig.probe.then(Step::PanicInCall),
        Place::Poll => rig.probe.then(Step::PanicInPoll),
        Place::Body => drop(rig.reply(Body::from("first").panic())),
    }
    if busy {
        rig.probe.busy();
        if rig.poll_ready(service)?.is_pending() {
            rig.probe.ready();
        }
    }
    rig.ready(service).await?;
    let calls = rig.probe.tally().calls;
    let payload = payload(rig, service).await;
    rig.probe.ready();
    rig.probe.clear();
    // Who refuses while the inner service is busy has nothing to pass on.
    let refused = rig.probe.tally().calls == calls;
    rig.ensure(refused || payload.is_some_and(|payload| ScriptedPanic::is(&*payload)), || {
        "it went no further".into()
    })
}

/// What a call, or the reading of its body, panics with.
async fn payload<L, S>(rig: &mut Rig<L, S>, service: &mut S) -> Option<Payload>
where
    L: Layer<HttpProbe, Service = S>,
    S: Stacked,
{
    let mut call = match caught(|| rig.call(service)) {
        Ok(call) => call,
        Err(payload) => return Some(payload),
    };
    let answer = poll_fn(|cx| {
        let polled = caught(|| call.as_mut().poll(cx));
        // From its second poll on it finds the inner service ready.
        rig.probe.ready();
        transposed(polled)
    });
    let response = match timeout(AGES, answer).await.ok()? {
        Ok(answer) => answer.ok()?,
        Err(payload) => return Some(payload),
    };
    let mut body = Box::pin(response.into_body());
    loop {
        let frame = poll_fn(|cx| transposed(caught(|| body.as_mut().poll_frame(cx))));
        match timeout(AGES, frame).await.ok()? {
            Ok(frame) => drop(frame?.ok()?),
            Err(payload) => return Some(payload),
        }
    }
}

type Payload = Box<dyn Any + Send>;

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Payload> {
    catch_unwind(AssertUnwindSafe(work))
}

fn transposed<T>(polled: Result<Poll<T>, Payload>) -> Poll<Result<T, Payload>> {
    match polled {
        Ok(polled) => polled.map(Ok),
        Err(payload) => Poll::Ready(Err(payload)),
    }
}

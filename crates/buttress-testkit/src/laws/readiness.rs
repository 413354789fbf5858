use std::{future::poll_fn, task::Poll};

use tokio::time::{Duration, advance, timeout};
use tokio_test::task;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Law, Stacked, Subject, Violation,
    rig::{AGES, ROUNDS, Rig, request, run},
};
use crate::{HttpProbe, ScriptedError, Step};

/// The instance that was found ready is the one called.
///
/// Called right after `poll_ready`, after two of them, after the inner service has become busy
/// again, and after a wait for it: then too by the instance that waited, which may hold a place
/// in a queue. A layer may also refuse while the inner service is busy.
///
/// # Errors
///
/// With a [`Violation`] when the layer breaks the law.
pub fn calls_the_readied_instance<L>(fresh: impl Fn() -> Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    run(async {
        let mut rig = Rig::new(Law::CallsTheReadiedInstance, fresh());
        let mut service = rig.service.clone();
        for earlier_polls in [0, 1, 0] {
            for _ in 0..earlier_polls {
                rig.ready(&mut service).await?;
            }
            rig.exchange(&mut service).await?;
        }

        rig.ready(&mut service).await?;
        rig.probe.busy();
        let call = rig.call(&mut service);
        rig.answer(call).await?;

        let mut waiting = task::spawn(());
        let polled = waiting.enter(|cx, _| rig.poll_ready_in(cx, &mut service))?;
        let waited = rig.probe.waiting();
        let call = if polled.is_ready() {
            let mut call = task::spawn(rig.call(&mut service));
            if call.poll().is_ready() {
                return rig.proper();
            }
            rig.probe.ready();
            rig.ensure(call.is_woken(), || "a call that waits was not woken".into())?;
            call.into_inner()
        } else {
            rig.probe.ready();
            rig.ensure(waiting.is_woken(), || "who polls for readiness was not woken".into())?;
            rig.ready(&mut service).await?;
            rig.call(&mut service)
        };
        rig.answer(call).await?;
        let called = rig.probe.last_called();
        rig.ensure(
            waited.is_empty() || called.is_some_and(|called| waited.contains(&called)),
            || format!("{waited:?} waited to become ready, and {called:?} was called"),
        )
    })
}

/// A clone is never ready.
///
/// A clone of a service that was found ready waits for readiness of its own, and takes away
/// nothing of that of the original.
///
/// # Errors
///
/// With a [`Violation`] when the layer breaks the law.
pub fn keeps_clones_unready<L>(fresh: impl Fn() -> Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    run(async {
        let mut rig = Rig::new(Law::KeepsClonesUnready, fresh());
        let mut original = rig.service.clone();
        rig.ready(&mut original).await?;
        let mut clone = original.clone();

        rig.probe.busy();
        let call = match rig.poll_ready(&mut clone)? {
            Poll::Ready(()) => {
                let mut call = task::spawn(rig.call(&mut clone));
                let polled = call.poll();
                rig.proper()?;
                polled.is_pending().then(|| call.into_inner())
            }
            Poll::Pending => None,
        };
        rig.probe.ready();
        if let Some(call) = call {
            rig.answer(call).await?;
        }
        let call = rig.call(&mut original);
        rig.answer(call).await?;
        rig.exchange(&mut clone).await
    })
}

/// Nothing is refused in `poll_ready`.
///
/// Not while the inner service is busy, nor after failures, nor after a call that hung for an
/// hour, nor when the layer is [exhausted](Subject::exhaust). tonic turns such an error into
/// `Unknown` or a stream reset, tower's `Buffer` closes for good by it.
///
/// # Errors
///
/// With a [`Violation`] when the layer breaks the law.
pub fn refuses_in_call_only<L>(fresh: impl Fn() -> Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    /// Polls a service of the layer while the inner one is ready, and while it is busy.
    fn never_fails<L>(rig: &Rig<L, L::Service>, when: &str) -> Result<(), Violation>
    where
        L: Layer<HttpProbe, Service: Stacked>,
    {
        let poll = || rig.poll_ready(&mut rig.service.clone()).map(drop);
        poll().map_err(|broken| broken.after(when))?;
        rig.probe.busy();
        let polled = poll();
        rig.probe.ready();
        polled.map_err(|broken| broken.after(&format!("{when}, and the inner service was busy")))
    }

    run(async {
        let mut rig = Rig::new(Law::RefusesInCallOnly, fresh());
        never_fails(&rig, "the layer was made")?;

        for _ in 0..ROUNDS {
            let mut service = rig.service.clone();
            rig.probe.then(Step::Reply(Err(ScriptedError("one of many").into())));
            if rig.poll_ready(&mut service)?.is_ready() {
                let call = rig.call(&mut service);
                // Refused or failed, both are well.
                let _ = timeout(AGES, call).await;
            }
            never_fails(&rig, "a call failed")?;
        }

        let mut rig = Rig::new(Law::RefusesInCallOnly, fresh());
        let mut service = rig.service.clone();
        rig.probe.then(Step::Hang);
        rig.ready(&mut service).await?;
        let call = rig.call(&mut service);
        let _ = timeout(AGES, call).await;
        never_fails(&rig, "a call hung")?;

        let rig = Rig::new(Law::RefusesInCallOnly, fresh());
        let _hold = rig.subject.exhausted();
        never_fails(&rig, "the layer was exhausted")
    })
}

/// Who waits is woken, and does not poll until then.
///
/// While the inner service is busy it is polled once for each time that it wakes its task: not in
/// a loop, and not by a timer.
///
/// # Errors
///
/// With a [`Violation`] when the layer breaks the law.
pub fn waits_to_be_woken<L>(fresh: impl Fn() -> Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    /// A layer may poll when it is polled and again in its future.
    const POLLS: u64 = 2;

    run(async {
        let rig = Rig::new(Law::WaitsToBeWoken, fresh());
        let mut service = rig.service.clone();
        rig.probe.busy();
        let mut call = task::spawn(Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(request()).await
        }));
        let polls = || rig.probe.tally().ready_polls;
        if call.poll().is_ready() {
            return Ok(());
        }
        rig.ensure(polls() <= POLLS, || format!("polled {} times at once", polls()))?;

        let before = polls();
        for _ in 0..100 {
            advance(Duration::from_millis(10)).await;
            if call.is_woken() && call.poll().is_ready() {
                return Ok(());
            }
        }
        rig.ensure(polls() - before <= POLLS, || {
            format!("polled {} times in a second in which nothing happened", polls() - before)
        })?;

        for _ in 0..ROUNDS {
            let before = polls();
            rig.probe.wake();
            rig.ensure(call.is_woken(), || "it was not woken".into())?;
            if call.poll().is_ready() {
                return Ok(());
            }
            rig.ensure(polls() - before <= POLLS, || {
                format!("polled {} times when woken once", polls() - before)
            })?;
        }
        rig.probe.ready();
        rig.ensure(call.is_woken(), || "it was not woken".into())?;
        rig.answer(call.into_inner()).await.map(drop)
    })
}

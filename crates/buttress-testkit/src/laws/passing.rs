use std::{fmt::Debug, future::poll_fn};

use http::Request;
use tokio::time::timeout;
use tokio_test::task;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Law, Stacked, Subject, Violation,
    rig::{AGES, Rig, request, run},
};
use crate::{Body, BoxError, HttpProbe, ScriptedError, Step};

/// The layer and its services are `Clone + Debug + Send + Sync + 'static`, and their responses
/// `Send + 'static`.
///
/// The compiler sees to it.
///
/// ```compile_fail,E0277
/// use std::rc::Rc;
/// use buttress_testkit::{Body, laws::{Subject, can_be_shared}};
/// use http::Request;
/// use tower::util::MapRequestLayer;
///
/// let not_send = Rc::new(());
/// let layer = MapRequestLayer::new(move |request: Request<Body>| {
///     let _ = &not_send;
///     request
/// });
/// can_be_shared(|| Subject::new(layer.clone())).unwrap();
/// ```
///
/// # Errors
///
/// Never; it is there to be called like the others.
pub fn can_be_shared<L>(fresh: impl Fn() -> Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe> + Clone + Debug + Send + Sync + 'static,
    L::Service:
        Service<Request<Body>, Future: Send + 'static> + Clone + Debug + Send + Sync + 'static,
{
    let _ = fresh;
    Ok(())
}

/// One layer value has one state, however often it is layered.
///
/// axum calls `Layer::layer` once per connection and handler, and once per request in tests, so
/// state that is made there limits and counts nothing. What is [settled](Subject::settled) and
/// [refused](Subject::refused) by any service is counted, once, where the layer's handle reads,
/// any service keeps the state from being [released](Subject::released), and to be layered does
/// nothing to the inner service.
///
/// # Errors
///
/// With a [`Violation`] when the layer breaks the law, or when the [`Subject`] does not tell
/// enough to see it.
pub fn has_one_state<L>(fresh: impl Fn() -> Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    run(async {
        settles_in_one_place(fresh()).await?;
        refuses_in_one_place(fresh()).await?;
        for kept in 0..SERVICES {
            holds_one_state(fresh(), kept)?;
        }
        Ok(())
    })
}

/// Services of one layer value.
const SERVICES: usize = 8;

/// Calls through any service are settled where the layer's handle reads.
async fn settles_in_one_place<L>(subject: Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    let mut rig = Rig::new(Law::HasOneState, subject);
    let Subject { settled, refused, released, .. } = &rig.subject;
    rig.ensure(settled.is_some() || refused.is_some() || released.is_some(), || {
        "What the layer settles, refuses or holds has not been said, so nobody can tell".into()
    })?;
    let mut services: Vec<_> = (0..SERVICES).map(|_| rig.layer()).collect();
    let tally = rig.probe.tally();
    rig.ensure(tally.ready_polls + tally.calls == 0, || {
        "the inner service was polled or called when it was layered".into()
    })?;

    for service in &mut services {
        rig.exchange(service).await?;
    }
    drop(services);
    let tally = rig.probe.tally();
    rig.at_rest(tally.instances, "calls through services that were layered one by one")
}

/// Calls through any service are refused where the layer's handle reads.
async fn refuses_in_one_place<L>(subject: Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    let mut rig = Rig::new(Law::HasOneState, subject);
    let mut services: Vec<_> = (0..SERVICES).map(|_| rig.layer()).collect();
    let _hold = rig.subject.exhausted();
    let refused = |rig: &Rig<_, _>| rig.subject.refused.as_ref().map(|read| read());
    let Some(before) = refused(&rig) else { return Ok(()) };

    for (expected, service) in (before + 1..).zip(&mut services) {
        rig.probe.then(Step::Hang);
        rig.ready(service).await?;
        let call = rig.call(service);
        let _ = timeout(AGES, call).await;
        rig.probe.clear();
        let now = refused(&rig).unwrap_or_default();
        rig.ensure(now == expected, || {
            format!("{} refusals are counted of {}", now - before, expected - before)
        })?;
    }
    Ok(())
}

/// Any one service keeps the state that the layer's handle reads.
fn holds_one_state<L>(subject: Subject<L>, kept: usize) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    let rig = Rig::new(Law::HasOneState, subject);
    let mut services: Vec<_> = (0..SERVICES).map(|_| rig.layer()).collect();
    let service = services.swap_remove(kept);
    drop(services);
    let (law, subject) = rig.dismantled();
    if subject.released.is_some() && subject.is_released() {
        return Err(law.broken("a service does not hold the state of its layer"));
    }
    drop(service);
    if !subject.is_released() {
        return Err(law.broken("the state of the layer is held when all its services are gone"));
    }
    Ok(())
}

/// An error of the inner service is passed on.
///
/// That of `poll_ready`, also when it comes after a wait, that of a call, and that of a body:
/// somewhere in the chain of what the caller gets. Not for layers that answer in place of a
/// service that fails.
///
/// # Errors
///
/// With a [`Violation`] when the layer breaks the law.
pub fn passes_errors_on<L>(fresh: impl Fn() -> Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    const ERROR: ScriptedError = ScriptedError("lost the connection");

    run(async {
        for place in [Place::Ready, Place::ReadyAfterAWait, Place::Call, Place::Body] {
            let after = place.as_str();
            let mut rig = Rig::new(Law::PassesErrorsOn, fresh());
            let mut service = rig.service.clone();
            match place {
                Place::Ready => rig.probe.fail_ready(ERROR.into()),
                Place::ReadyAfterAWait => rig.probe.busy(),
                Place::Call => {
                    for _ in 0..rig.subject.attempts {
                        rig.probe.then(Step::Reply(Err(ERROR.into())));
                    }
                }
                Place::Body => drop(rig.reply(Body::from("first").fail(ERROR))),
            }
            let mut call = task::spawn(Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(request()).await
            }));
            if place == Place::ReadyAfterAWait {
                if call.poll().is_ready() {
                    // Who refuses while the inner service is busy does not hear of the error.
                    continue;
                }
                rig.probe.fail_ready(ERROR.into());
                rig.ensure(call.is_woken(), || format!("After {after}: it was not woken"))?;
            }
            let error: Option<BoxError> = match timeout(AGES, call.into_inner()).await {
                Ok(Ok(response)) => rig.read(Box::pin(response.into_body())).await?,
                Ok(Err(error)) => Some(error.into()),
                Err(_) => None,
            };
            let found = error.as_ref().and_then(|error| ScriptedError::find(&**error));
            rig.ensure(found == Some(&ERROR), || {
                format!("After {after} the caller saw {error:?}")
            })?;
            rig.probe.ready();
            rig.works(after).await?;
        }
        Ok(())
    })
}

/// Where the inner service fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    ReadyAfterAWait,
    Call,
    Body,
}

impl Place {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "an error of poll_ready",
            Self::ReadyAfterAWait => "an error of poll_ready after a wait",
            Self::Call => "an error of a call",
            Self::Body => "an error of a body",
        }
    }
}

use http::HeaderMap;
use http_body::Body as _;
use tokio::time::{advance, timeout};
use tokio_test::task;
use tower_layer::Layer;

use super::{
    Law, Stacked, Subject, Violation,
    rig::{AGES, ROUNDS, Rig, run},
};
use crate::{Body, HttpProbe, ScriptedError, Step};

/// Each call is settled once and gives back what it held, however it ends.
///
/// Answered, failed, late, or dropped: before its first poll, while the inner service is busy or
/// has not answered, in the body. After each the layer holds no inner call and no more inner
/// services than before, has [settled](Subject::settled) each call once, and works; in the end
/// its state is [released](Subject::released).
///
/// # Errors
///
/// With a [`Violation`] when the layer breaks the law.
pub fn settles_once<L>(fresh: impl Fn() -> Subject<L>) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service: Stacked>,
{
    run(async {
        for ending in Ending::ALL {
            let after = ending.as_str();
            let mut rig = Rig::new(Law::SettlesOnce, fresh());
            let instances = rig.probe.tally().instances;
            for _ in 0..ROUNDS {
                let ended = end(&mut rig, ending).await;
                ended.map_err(|violation| violation.after(after))?;
                rig.probe.ready();
                rig.probe.clear();
                rig.at_rest(instances, after)?;
            }
            rig.works(after).await?;
            rig.at_rest(instances, after)?;
            rig.released(after)?;
        }
        Ok(())
    })
}

/// How a call ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Uncalled,
    Unpolled,
    Waiting,
    Unanswered,
    Forgotten,
    Late,
    Failed,
    InBody(BodyEnding),
}

/// How a call ends whose head is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyEnding {
    Unread,
    Begun,
    Stalled,
    Late,
    Broken,
    Read,
    Trailers,
}

impl Ending {
    const ALL: [Self; 14] = [
        Self::Uncalled,
        Self::Unpolled,
        Self::Waiting,
        Self::Unanswered,
        Self::Forgotten,
        Self::Late,
        Self::Failed,
        Self::InBody(BodyEnding::Unread),
        Self::InBody(BodyEnding::Begun),
        Self::InBody(BodyEnding::Stalled),
        Self::InBody(BodyEnding::Late),
        Self::InBody(BodyEnding::Broken),
        Self::InBody(BodyEnding::Read),
        Self::InBody(BodyEnding::Trailers),
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Uncalled => "a ready service was dropped uncalled",
            Self::Unpolled => "a response was dropped before its first poll",
            Self::Waiting => "a call was dropped while the inner service was busy",
            Self::Unanswered => "a response was dropped before it was there",
            Self::Forgotten => "a response was dropped unpolled for an hour",
            Self::Late => "a response was awaited for an hour",
            Self::Failed => "a call failed",
            Self::InBody(BodyEnding::Unread) => "a body was dropped unread",
            Self::InBody(BodyEnding::Begun) => "a body was dropped after its first frame",
            Self::InBody(BodyEnding::Stalled) => "a body was dropped while it stalled",
            Self::InBody(BodyEnding::Late) => "a body stalled for an hour",
            Self::InBody(BodyEnding::Broken) => "a body broke",
            Self::InBody(BodyEnding::Read) => "a body was read",
            Self::InBody(BodyEnding::Trailers) => "a body was read to its trailers",
        }
    }
}

/// Makes a call that ends so.
async fn end<L, S>(rig: &mut Rig<L, S>, ending: Ending) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service = S>,
    S: Stacked,
{
    let mut service = rig.service.clone();
    match ending {
        Ending::Uncalled => rig.ready(&mut service).await?,
        Ending::Unpolled => {
            rig.ready(&mut service).await?;
            drop(rig.call(&mut service));
        }
        Ending::Waiting => {
            rig.probe.busy();
            if rig.poll_ready(&mut service)?.is_ready() {
                let _ = task::spawn(rig.call(&mut service)).poll();
            }
        }
        Ending::Unanswered | Ending::Forgotten => {
            rig.probe.then(Step::Hang);
            rig.ready(&mut service).await?;
            let mut call = task::spawn(rig.call(&mut service));
            let _ = call.poll();
            if ending == Ending::Forgotten {
                advance(AGES).await;
            }
        }
        Ending::Late | Ending::Failed => {
            rig.probe.then(match ending {
                Ending::Late => Step::Hang,
                _ => Step::Reply(Err(ScriptedError("no").into())),
            });
            rig.ready(&mut service).await?;
            let call = rig.call(&mut service);
            let _ = timeout(AGES, call).await;
        }
        Ending::InBody(ending) => end_in_body(rig, &mut service, ending).await?,
    }
    Ok(())
}

async fn end_in_body<L, S>(
    rig: &mut Rig<L, S>,
    service: &mut S,
    ending: BodyEnding,
) -> Result<(), Violation>
where
    L: Layer<HttpProbe, Service = S>,
    S: Stacked,
{
    let begun = Body::from("first");
    let fate = rig.reply(match ending {
        BodyEnding::Stalled | BodyEnding::Late => begun.stall().data("last"),
        BodyEnding::Broken => begun.fail(ScriptedError("torn")),
        BodyEnding::Trailers => begun.trailers(HeaderMap::new()),
        BodyEnding::Unread | BodyEnding::Begun | BodyEnding::Read => begun.data("last"),
    });
    rig.ready(service).await?;
    let call = rig.call(service);
    let body = Box::pin(rig.answer(call).await?.into_body());
    match ending {
        BodyEnding::Unread => drop(body),
        BodyEnding::Broken | BodyEnding::Read | BodyEnding::Trailers => {
            rig.read(body).await?;
        }
        BodyEnding::Begun | BodyEnding::Stalled | BodyEnding::Late => {
            let mut body = task::spawn(body);
            let mut poll = || body.enter(|cx, mut body| body.as_mut().poll_frame(cx).is_ready());
            while poll() && ending != BodyEnding::Begun {}
            if ending == BodyEnding::Late {
                advance(AGES).await;
                poll();
            }
        }
    }
    rig.ensure(fate.is_dropped(), || "the inner body is still there".into())
}

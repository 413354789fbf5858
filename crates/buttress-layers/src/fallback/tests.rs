use std::{
    convert::Infallible,
    future::{pending, ready},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress_core::{
    BoxError, Change, Event, Kind, Observe, Plain, Reason, Rejection, TimeLimit,
    fallback::{Degraded, Skip, Triggers, Why},
    http::{StaleCache, StaleSettings},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::*;
use crate::timeout::{TimeoutHandle, TimeoutLayer};

mod classic;
mod grpc;
mod order;
mod rungs;
mod stale;
mod told;

type Answer = Response<Full<Bytes>>;

/// A response with this status and body.
fn answer(status: u16, body: &'static str) -> Answer {
    let body = Full::from(Bytes::from_static(body.as_bytes()));
    Response::builder().status(status).body(body).unwrap()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).unwrap()
}

/// A service that answers what the script says, and goes on saying the last of it.
#[derive(Clone)]
struct Script {
    calls: Arc<AtomicU32>,
    steps: Arc<[Result<(u16, &'static str), &'static str>]>,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Result<(u16, &'static str), &'static str>>) -> Self {
        Self { calls: Arc::default(), steps: steps.into_iter().collect() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn service(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Answer, Error = BoxError, Future: Send>
    + Clone
    + Send
    + use<> {
        let this = self.clone();
        service_fn(move |_: Request<Full<Bytes>>| {
            let call = this.calls.fetch_add(1, Ordering::Relaxed) as usize;
            let step = this.steps[call.min(this.steps.len() - 1)];
            ready(step.map(|(status, body)| answer(status, body)).map_err(BoxError::from))
        })
    }
}

fn failing() -> Script {
    Script::new([Err("connection reset")])
}

/// Calls a service, and reads what it answers to its end.
async fn ask<S, B>(service: S, request: Request<Full<Bytes>>) -> (u16, String, Option<Degraded>)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: std::fmt::Debug>,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let response = service.oneshot(request).await.expect("an answer");
    let (status, note) = (response.status().as_u16(), response.extensions().get().cloned());
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap(), note)
}

fn refused(error: &BoxError) -> Option<Kind> {
    Rejection::find(&**error).map(Rejection::kind)
}

/// What observers are told.
#[derive(Default)]
struct Log(Mutex<Vec<(Option<String>, Change)>>);

impl Observe for Log {
    fn observe(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push((event.key.map(str::to_owned), event.change));
    }
}

impl Log {
    fn of(handle: &FallbackHandle) -> Arc<Self> {
        let log = Arc::new(Self::default());
        handle.observe(Arc::clone(&log) as Arc<dyn Observe>);
        log
    }

    /// The keys and what happened, as they would be logged.
    fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let line = |(key, change): &(Option<String>, Change)| match key {
            Some(key) => format!("[{key}] {change}"),
            None => change.to_string(),
        };
        lines.iter().map(line).collect()
    }
}

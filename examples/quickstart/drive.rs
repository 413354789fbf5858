//! The traffic: real HTTP over loopback, a request every few milliseconds whether the last ones
//! have been answered or not, as callers are.

use std::{net::SocketAddr, time::Duration};

use buttress::{
    BoxError, TimeLimit,
    reqwest::HttpClient,
    sli::{Counts, SliHandle, SliLayer},
    timeout::TimeoutLayer,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use reqwest::{Body, Client};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::{app::App, report::Report};

/// A client of the service, and how long it keeps on.
#[derive(Debug)]
pub(crate) struct Drive {
    address: SocketAddr,
    seconds: u64,
    layer: SliLayer,
}

/// 200 requests a second: enough for a steady p99, and little for a laptop.
const PACE: Duration = Duration::from_millis(5);

impl Drive {
    pub(crate) fn new(address: SocketAddr, seconds: u64) -> Self {
        Self { address, seconds, layer: SliLayer::client("quickstart-client") }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.handle().counts()
    }

    fn handle(&self) -> SliHandle {
        self.layer.handle()
    }

    /// Sends requests until time is up and the last one is answered; says so once a second.
    pub(crate) async fn run(&self, app: &App, report: &Report) -> Result<(), BoxError> {
        let client = Client::builder().retry(reqwest::retry::never()).build()?;
        let service = ServiceBuilder::new()
            .layer(self.layer.clone())
            .layer(TimeoutLayer::new("quickstart-client", TimeLimit::from_secs(1)).propagate())
            .service(HttpClient::new(client));
        let started = Instant::now();
        report.start(started.into_std());
        let mut calls = JoinSet::new();
        let mut pace = interval(PACE);
        // A stalled machine sends what it owes at once: callers do not wait for it.
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut said = 0;
        for number in 0.. {
            pace.tick().await;
            let elapsed = started.elapsed();
            if elapsed >= Duration::from_secs(self.seconds) {
                break;
            }
            app.stock().set_ill(report.is_spell(elapsed));
            if elapsed.as_secs() > said {
                said = elapsed.as_secs();
                println!("{}", report.progress(elapsed, app));
            }
            calls.spawn(call(service.clone(), self.address, number));
            while calls.try_join_next().is_some() {}
        }
        while calls.join_next().await.is_some() {}
        if self.counts().good == 0 {
            return Err("not one request was answered well: is something else in the way?".into());
        }
        Ok(())
    }
}

/// Sends one request and reads its answer to the end. What becomes of it, the layers record.
async fn call<S, B>(service: S, address: SocketAddr, number: u64)
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Error = BoxError>,
{
    // One in twenty asks for what is not there: its own mistake.
    let item = if number % 20 == 19 { 4040 } else { number % 100 };
    let request = Request::get(format!("http://{address}/items/{item}")).body(Body::default());
    let request = request.expect("a well-formed request");
    if let Ok(response) = service.oneshot(request).await {
        let _ = response.into_body().collect().await;
    }
}

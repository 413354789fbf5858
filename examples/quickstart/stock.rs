//! What the service depends on: a server of its own on loopback, which has bad days.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use buttress::{BoxError, Random, Ratio};
use tokio::{net::TcpListener, time::sleep};

/// The stock of a shop, somewhere else on the network.
#[derive(Clone, Debug)]
pub(crate) struct Stock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    ill: AtomicBool,
    random: Random,
    calls: AtomicU64,
}

impl Stock {
    /// Serves for as long as the program runs.
    pub(crate) async fn serve() -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let stock = Self(Arc::new(Shared {
            address: listener.local_addr()?,
            ill: AtomicBool::new(false),
            random: Random::seeded(7),
            calls: AtomicU64::new(0),
        }));
        let router = Router::new().route("/{id}", get(find)).with_state(stock.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok(stock)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Makes it ill, or well again.
    pub(crate) fn set_ill(&self, ill: bool) {
        self.0.ill.store(ill, Ordering::Relaxed);
    }

    /// How many calls have reached it.
    pub(crate) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }
}

/// Finds an item: in a few milliseconds when well; when ill, half of the calls fail and a quarter
/// of the others take longer than anybody waits.
async fn find(
    State(Stock(stock)): State<Stock>,
    Path(id): Path<u64>,
) -> Result<String, StatusCode> {
    stock.calls.fetch_add(1, Ordering::Relaxed);
    sleep(Duration::from_millis(2 + Random::below(stock.random.draw(), 15))).await;
    if stock.ill.load(Ordering::Relaxed) {
        if Random::hits(stock.random.draw(), Ratio::percent(50)) {
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
        if Random::hits(stock.random.draw(), Ratio::percent(25)) {
            sleep(Duration::from_secs(2)).await;
        }
    }
    if id < 1000 { Ok(format!("item {id}\n")) } else { Err(StatusCode::NOT_FOUND) }
}

//! The load: requests that arrive by the clock, so that a slow answer delays none of those after it.

use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// A rate of arrivals that holds for some time.
#[derive(Clone, Copy)]
pub struct Phase {
    /// Requests a second.
    pub rate: f64,
    /// Seconds.
    pub length: f64,
}

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When it was due, in seconds since the load began.
    pub due: f64,
    /// From then to the answer: what the sender waited for, its own delays included.
    pub took: Duration,
    pub served: bool,
}

impl Phase {
    pub const fn new(rate: f64, length: f64) -> Self {
        Self { rate, length }
    }
}

/// When requests are due, in seconds.
fn arrivals(phases: &[Phase]) -> Vec<f64> {
    let (mut begin, mut due) = (0.0, Vec::new());
    for phase in phases {
        let count = (phase.rate * phase.length).round() as u32;
        due.extend((0..count).map(|index| begin + f64::from(index) / phase.rate));
        begin += phase.length;
    }
    due
}

/// Sends the requests of `phases` to `address`, and waits for all answers.
pub async fn drive(address: SocketAddr, phases: &[Phase]) -> Vec<Answer> {
    let client = Client::builder(TokioExecutor::new()).build_http::<String>();
    let uri: axum::http::Uri = format!("http://{address}/").parse().expect("a URI");
    let mut requests = JoinSet::new();
    let began = Instant::now();
    for due in arrivals(phases) {
        let instant = began + Duration::from_secs_f64(due);
        sleep_until(instant).await;
        let (client, uri) = (client.clone(), uri.clone());
        requests.spawn(async move {
            let response = client.get(uri).await.expect("an answer");
            Answer { due, took: instant.elapsed(), served: response.status().is_success() }
        });
    }
    requests.join_all().await
}

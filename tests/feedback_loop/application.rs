//! The application: one query for each request, by a pool that makes a request wait for a connection only so long.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use deadpool_postgres::{Manager, Pool, PoolError, Runtime};
use tokio_postgres::NoTls;
use tracing::Dispatch;

use crate::log::Log;

/// Connections. With [`QUERY`] they serve less than 800 requests a second.
pub const POOL: usize = 4;
/// Longer than this, a request does not wait for one.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// It keeps its connection for 5 ms and no core busy, so that the connections are what there is too little of.
const QUERY: &str = "SELECT pg_sleep(0.005)";

/// A running application. It ends when it is dropped.
pub struct Application {
    address: SocketAddr,
    // A runtime may not be dropped where one is running, so it is taken out.
    runtime: Option<tokio::runtime::Runtime>,
}

struct Service {
    pool: Pool,
    log: Arc<Log>,
    requests: AtomicU64,
}

/// A pool as the application has it.
pub fn pool(dsn: &str) -> Pool {
    let mut config: tokio_postgres::Config = dsn.parse().expect("a DSN");
    config.application_name("application");
    Pool::builder(Manager::new(config, NoTls))
        .max_size(POOL)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(PATIENCE))
        .build()
        .expect("a pool")
}

impl Application {
    /// Starts it, on threads of its own. What these trace goes to `traces`, as with a program's global subscriber.
    pub fn start(pool: Pool, log: Arc<Log>, traces: Dispatch) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            // For as long as the thread lives.
            .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&traces)))
            .build()
            .expect("a runtime");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket for tokio");
        let address = listener.local_addr().expect("a port");
        let service = Arc::new(Service { pool, log, requests: AtomicU64::new(0) });
        let router = Router::new().route("/", get(answer)).with_state(service);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket for tokio");
            axum::serve(listener, router).await
        });
        Self { address, runtime: Some(runtime) }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(State(service): State<Arc<Service>>) -> StatusCode {
    let number = service.requests.fetch_add(1, Ordering::Relaxed);
    service.log.request(number);
    match service.ask().await {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            service.log.failure(number, &error).await;
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

impl Service {
    async fn ask(&self) -> Result<(), PoolError> {
        let connection = self.pool.get().await?;
        let query = connection.prepare_cached(QUERY).await?;
        connection.execute(&query, &[]).await?;
        Ok(())
    }
}

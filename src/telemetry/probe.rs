//! Reads the health page of a running forebay, for containers without a shell and Kubernetes probes.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::UnreadyReason;
use super::config::HealthCheckConfig;

/// The abilities that a probe may require; each includes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// It answers. If it does not, only a restart helps.
    Alive,
    /// It accepts records, and buffers them while the database is away.
    Accepting,
    /// It accepts records and can write them.
    Ready,
}

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether forebay has the required ability.
    pub well: bool,
    /// The health page.
    pub page: String,
}

/// Why a probe has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers there, or something other than forebay.
    #[error("no forebay answers at {0}: {1}")]
    Silent(String, String),
}

/// The longest wait for an answer, which is computed from memory.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most bytes that are read; a page is shorter.
const LONGEST: usize = 64 << 10;

/// Reads the page that `config` names, and returns whether its forebay has `ability`.
pub async fn ask(config: &HealthCheckConfig, ability: Ability) -> Result<Finding, Error> {
    let silent = |why: String| Error::Silent(config.endpoint.clone(), why);
    let answer =
        timeout(PATIENCE, get(config)).await.map_err(|_| silent(format!("no answer in {PATIENCE:?}")))?;
    let (status, page) = answer.map_err(|error| silent(error.to_string()))?;
    let has = ability_of(status, &page).ok_or_else(|| silent(format!("it says {status}")))?;
    Ok(Finding { well: has as u8 >= ability as u8, page })
}

/// The ability that a page shows; `None` if it is not forebay's.
fn ability_of(status: StatusCode, page: &str) -> Option<Ability> {
    let page: Value = serde_json::from_str(page).ok()?;
    match status {
        StatusCode::OK => page.get("status").map(|_| Ability::Ready),
        StatusCode::SERVICE_UNAVAILABLE => {
            let reason = UnreadyReason::named(page.get("reason")?.as_str()?)?;
            Some(if reason.lets_accept() { Ability::Accepting } else { Ability::Alive })
        }
        _ => None,
    }
}

async fn get(
    config: &HealthCheckConfig,
) -> Result<(StatusCode, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(&*addresses(&config.endpoint).await?).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(&config.path).header(header::HOST, &config.endpoint).body(String::new())?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let page = read(answer.into_body()).await?;
        Ok((status, String::from_utf8_lossy(&page).trim_end().to_owned()))
    };
    tokio::pin!(connection);
    tokio::select! {
        answer = answer => answer,
        // The connection ends before the answer only if it fails.
        Err(error) = &mut connection => Err(error.into()),
    }
}

/// Reads up to [`LONGEST`] bytes.
async fn read(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut page = Vec::new();
    while page.len() < LONGEST
        && let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        page.extend_from_slice(frame?.data_ref().map_or(b"", |data| data));
    }
    Ok(page)
}

/// The addresses to connect to for `endpoint`.
async fn addresses(endpoint: &str) -> std::io::Result<Vec<SocketAddr>> {
    Ok(lookup_host(endpoint)
        .await?
        .map(|address| SocketAddr::new(reachable(address.ip()), address.port()))
        .collect())
}

/// Maps the unspecified address, on which a server listens, to loopback.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Health, StoreTrouble};

    fn ability(health: &Health) -> Option<Ability> {
        let report = health.report();
        let status = if report.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        ability_of(status, &report.to_json(&[]))
    }

    #[test]
    fn a_database_that_is_away_leaves_it_accepting() {
        let health = Health::new();
        assert_eq!(ability(&health), Some(Ability::Accepting), "starting");
        health.store_ready();
        assert_eq!(ability(&health), Some(Ability::Ready));
        for trouble in
            [StoreTrouble::DatabaseUnreachable, StoreTrouble::SchemaMismatch, StoreTrouble::DatabaseRefuses]
        {
            health.store_unavailable(trouble, "");
            assert_eq!(ability(&health), Some(Ability::Accepting), "{trouble:?}");
        }
        health.memory(Some("81 MiB".to_owned()));
        assert_eq!(ability(&health), Some(Ability::Alive));
        health.memory(None);
        health.draining();
        assert_eq!(ability(&health), Some(Ability::Alive));
    }

    #[test]
    fn another_page_is_not_forebays() {
        assert_eq!(ability_of(StatusCode::OK, "<html>"), None);
        assert_eq!(ability_of(StatusCode::NOT_FOUND, r#"{"status":"x"}"#), None);
        assert_eq!(ability_of(StatusCode::SERVICE_UNAVAILABLE, r#"{"reason":"tired"}"#), None);
    }

    #[tokio::test]
    async fn an_unspecified_address_is_probed_on_loopback() {
        for (endpoint, address) in
            [("0.0.0.0:13133", "127.0.0.1:13133"), ("[::]:1", "[::1]:1"), ("10.0.0.7:2", "10.0.0.7:2")]
        {
            assert_eq!(addresses(endpoint).await.unwrap(), [address.parse().unwrap()]);
        }
    }
}

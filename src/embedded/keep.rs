//! Keeps the private PostgreSQL running: if it ends by itself, it is started again on the same port and socket, so that its
//! clients find it again.

use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::Embedded;
use super::cluster::Cluster;
use super::error::Error;
use super::process::Stop;
use super::server::{self, Server};

impl Embedded {
    /// Starts the server again whenever it ends by itself, until `end`; then stops it, by force if that takes too long. Calls
    /// `tell` with the reason when it does not run, and with `None` when it runs again.
    ///
    /// # Errors
    ///
    /// The server does not end.
    pub async fn keep(
        self,
        tell: impl Fn(Option<String>),
        end: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let Self { mut server, cluster, restarts } = self;
        let mut children = signal(SignalKind::child()).map_err(Error::io("watch over", cluster.data()))?;
        let mut end = pin!(end);
        let (port, mut pauses, mut began) = (server.port(), Pauses::default(), Instant::now());
        loop {
            let status = tokio::select! {
                status = server.ended(&mut children) => status,
                () = &mut end => break,
            };
            let (ended, reason, ran) = (Instant::now(), describe(status), began.elapsed());
            tell(Some(format!("the private PostgreSQL has ended ({reason}) and is started again")));
            warn!(reason, ?ran, log = %cluster.log().display(), "the private PostgreSQL has ended by itself; it is started again");
            server = tokio::select! {
                server = start_again(&cluster, port, pauses.after(ran), &mut pauses, &tell) => server,
                () = &mut end => return end_half_started(&cluster).await,
            };
            restarts.fetch_add(1, Ordering::Relaxed);
            warn!(after = ?ended.elapsed(), port, "the private PostgreSQL runs again");
            tell(None);
            began = Instant::now();
        }
        server.stop(Stop::Fast).await?;
        info!("private PostgreSQL stopped");
        Ok(())
    }
}

/// Starts the server after a `pause`, however often that has to be tried.
async fn start_again(
    cluster: &Cluster,
    port: u16,
    mut pause: Duration,
    pauses: &mut Pauses,
    tell: &impl Fn(Option<String>),
) -> Server {
    loop {
        sleep(pause).await;
        let error = match cluster.start_again(port).await {
            Ok(server) => return server,
            Err(error) => error,
        };
        pause = pauses.after(Duration::ZERO);
        let brief = error.brief();
        tell(Some(format!("the private PostgreSQL cannot be started again, which is tried again: {brief}")));
        warn!(%error, next_try_in = ?pause, "the private PostgreSQL cannot be started again");
    }
}

/// Waits for the end of a server whose start was cancelled. It got the signal when it was dropped.
async fn end_half_started(cluster: &Cluster) -> Result<(), Error> {
    match server::leftover(cluster.data())? {
        Some(pid) => server::end_other(pid, cluster.data()).await,
        None => Ok(()),
    }
}

/// How the server has ended, for people.
fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) if signal == Signal::KILL.as_raw() => {
            "killed by SIGKILL, as the kernel does when memory runs out".to_owned()
        }
        None if status.success() => "exit status 0: somebody has stopped it, as with pg_ctl stop".to_owned(),
        _ => format!("{status}; its log says why"),
    }
}

/// The pauses before the server is started again: none after a long run, and then longer ones, so that a server that cannot run
/// is not restarted in a tight loop.
#[derive(Debug, Default)]
struct Pauses {
    next: Duration,
}

impl Pauses {
    /// After a run of this length the pauses begin anew.
    const LONG: Duration = Duration::from_secs(60);
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);

    /// The pause after a run of this length.
    fn after(&mut self, ran: Duration) -> Duration {
        let pause = if ran >= Self::LONG { Duration::ZERO } else { self.next };
        self.next = (pause * 2).clamp(Self::FIRST, Self::LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_has_run_for_long() {
        let mut pauses = Pauses::default();
        let seconds = [0; 8].map(|ran| pauses.after(Duration::from_secs(ran)).as_secs());
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pauses.after(Pauses::LONG), Duration::ZERO);
        assert_eq!(pauses.after(Duration::ZERO), Pauses::FIRST);
    }

    #[test]
    fn an_end_is_told_by_its_reason() {
        assert!(describe(ExitStatus::from_raw(9)).starts_with("killed by SIGKILL"));
        assert!(describe(ExitStatus::from_raw(0)).contains("pg_ctl stop"));
        assert!(describe(ExitStatus::from_raw(6)).contains("signal: 6"));
        assert!(describe(ExitStatus::from_raw(1 << 8)).contains("exit status: 1"));
    }
}

//! A running server: its start, its readiness and its end.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::signal::unix::Signal as Signals;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::NAME;
use super::binaries::Binaries;
use super::error::Error;
use super::home::Home;
use super::log::Log;
use super::passfile;
use super::process::{POLL, Stop, end, orphans, serves};

/// How long a start may take. It is long only if there is a crash to recover from.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running server on a [`Cluster`](super::Cluster). Dropping it ends the server, unwaited for.
#[derive(Debug)]
pub struct Server {
    // Not tokio's: this one may be waited for in Drop, and from another runtime than the one that started it.
    child: Child,
    data: PathBuf,
    sockets: PathBuf,
    port: u16,
    log: Log,
}

impl Server {
    /// Starts a server on `port` and waits until it accepts connections; there must not be another one on this cluster.
    /// With `sockets_only` it does so by the Unix socket, which is called after the port.
    pub(super) async fn start(
        home: &Home,
        binaries: &Binaries,
        port: u16,
        sockets_only: bool,
    ) -> Result<Self, Error> {
        let (data, sockets) = (home.data().to_owned(), home.sockets()?);
        let addresses = if sockets_only { "" } else { "127.0.0.1" };
        let (log, output) = Log::open(home.log())?;
        let mut command = home.account().command(binaries.postgres());
        command.arg("-D").arg(&data);
        for setting in [
            &format!("listen_addresses={addresses}"),
            &format!("port={port}"),
            &format!("unix_socket_directories={}", sockets.display()),
            "logging_collector=off",
            "log_destination=stderr",
        ] {
            command.args(["-c", setting]);
        }
        // A group of its own, so that Ctrl-C in the terminal reaches forebay alone, which still has rows to write.
        command.stdout(Stdio::null()).stderr(output).process_group(0);
        let child = command.spawn().map_err(Error::io("run", &binaries.postgres()))?;
        let mut server = Self { child, data, sockets, port, log };
        server.ready().await?;
        Ok(server)
    }

    /// The port, on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the Unix socket, to be used as a connection's host.
    pub fn socket_dir(&self) -> &Path {
        &self.sockets
    }

    /// The process, for those who want to do something to it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The connection string for `database`, through the Unix socket. Neither the socket's path, which
    /// was chosen for that, nor the password needs quoting.
    pub fn dsn(&self, database: &str, password: Option<&str>) -> String {
        let (host, port) = (self.sockets.display(), self.port);
        let mut dsn = format!("host={host} port={port} user={NAME} dbname={database}");
        if let Some(password) = password {
            dsn.push_str(" password=");
            dsn.push_str(password);
        }
        dsn
    }

    /// Waits until the server ends by itself; `children` is the signal SIGCHLD.
    pub(super) async fn ended(&mut self, children: &mut Signals) -> ExitStatus {
        loop {
            if let Some(status) = self.status() {
                return status;
            }
            children.recv().await;
        }
    }

    /// Ends the server, beginning with the means `stop`, and waits for it.
    pub async fn stop(mut self, stop: Stop) -> Result<(), Error> {
        let pid = Pid::from_child(&self.child);
        end(pid, stop, || self.status().is_some()).await?;
        // Empty after an orderly end; otherwise the next start clears it.
        let _ = fs::remove_dir(&self.sockets);
        Ok(())
    }

    /// Waits until the server's own status says that it is ready. This is how `pg_ctl` does it: it takes no
    /// connection, which recovery would refuse, and no client program.
    async fn ready(&mut self) -> Result<(), Error> {
        let limit = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.status() {
                let (log, tail) = (self.log.path().to_owned(), self.log.tail());
                return Err(Error::Died { status: status.to_string(), log, tail });
            }
            let status = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            if is_ready(&status, self.child.id()) {
                return Ok(());
            }
            if Instant::now() >= limit {
                let (log, tail) = (self.log.path().to_owned(), self.log.tail());
                return Err(Error::Slow { seconds: START_LIMIT.as_secs(), log, tail });
            }
            sleep(POLL).await;
        }
    }

    /// How the server has ended, if it has.
    fn status(&mut self) -> Option<ExitStatus> {
        // It fails only for a process that is not a child of ours.
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.status().is_none() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        }
    }
}

/// Ends a server that an earlier forebay, killed, has left on the cluster in `data`.
pub(super) async fn end_leftover(data: &Path) -> Result<(), Error> {
    let Some(pid) = leftover(data)? else { return Ok(()) };
    warn!(pid = pid.as_raw_nonzero(), "ending the PostgreSQL that an earlier forebay left running");
    end_other(pid, data).await
}

/// Ends the server `pid` on the cluster in `data`, which is no child of ours, or no longer held as one.
pub(super) async fn end_other(pid: Pid, data: &Path) -> Result<(), Error> {
    end(pid, Stop::Fast, || !serves(pid, data)).await
}

/// The server that runs on the cluster in `data`, by the file that it keeps there; a file that names something else goes.
pub(super) fn leftover(data: &Path) -> Result<Option<Pid>, Error> {
    let path = data.join("postmaster.pid");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(absent) if absent.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(Error::io("read", &path)(cause)),
    };
    // Negative for a server without a postmaster. What cannot be read is left to PostgreSQL's judgement.
    let number = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()?.checked_abs());
    let Some(pid) = number.and_then(Pid::from_raw) else { return Ok(None) };
    if serves(pid, data) {
        return Ok(Some(pid));
    }
    if test_kill_process(pid).is_ok() {
        // The number is somebody else's by now, perhaps a thread of forebay's own, as it goes in containers.
        // PostgreSQL would take that for a running server. It notices real ones by their shared memory, too.
        let (pid, shown) = (pid.as_raw_nonzero(), path.display());
        info!(pid, "removing {shown}, which names a process that is not PostgreSQL");
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(None)
}

/// Ends the processes that a killed postmaster left on the cluster in `data`, as it would have done itself after a crash.
pub(super) fn end_orphans(data: &Path) {
    for pid in orphans(data) {
        warn!(pid = pid.as_raw_nonzero(), "ending a process of a PostgreSQL whose first process was killed");
        // It can only fail because the process is gone already.
        let _ = kill_process(pid, Signal::QUIT);
    }
}

/// The connection string of the server that accepts connections to the cluster kept in `dir`, for those who are not its
/// forebay; `None` where none does, or what is needed to connect cannot be read.
pub(super) fn running(dir: &Path) -> Option<String> {
    let data = fs::canonicalize(dir.join("cluster")).ok()?;
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
    if !serves(pid, &data) || !is_ready(&text, pid.as_raw_nonzero().get().unsigned_abs()) {
        return None;
    }
    // PostgreSQL's own order (`pidfile.h`): the process, the directory, the start, the port, the socket's directory.
    let (port, sockets) = (text.lines().nth(3)?, text.lines().nth(4)?);
    let password = passfile::read_password(&fs::read_to_string(dir.join("pgpass")).ok()?)?;
    Some(format!("host={sockets} port={port} user={NAME} dbname={NAME} password={password}"))
}

/// Whether the text of `postmaster.pid` says that the server `pid` accepts connections: its eighth line does.
fn is_ready(text: &str, pid: u32) -> bool {
    let mut lines = text.lines();
    lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid)
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_what_this_server_says() {
        let text = "42\n/cluster\n1\n5432\n/run\n127.0.0.1\n 1 2\nready   \n";
        assert!(is_ready(text, 42));
        assert!(!is_ready(text, 43), "the file of another server");
        assert!(!is_ready(&text.replace("ready", "starting"), 42));
        assert!(!is_ready("42\n/cluster\n", 42), "half written");
        assert!(!is_ready("", 42));
    }
}

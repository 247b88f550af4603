//! The errors of a private PostgreSQL, each with its cure.

use std::io;
use std::path::{Path, PathBuf};

/// Why the private PostgreSQL could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are no server binaries of a usable version.
    #[error(
        "no PostgreSQL server found (looked in PATH, in what `pg_config --bindir` names and in the usual places for \
         version {oldest} or newer): install one (Debian, Ubuntu: apt-get install postgresql), or set DATABASE_URL \
         to a PostgreSQL that runs elsewhere"
    )]
    NotInstalled {
        /// The oldest major version that will do.
        oldest: u32,
    },

    /// The cluster needs another major version than those which are installed.
    #[error(
        "the cluster in {} was made by PostgreSQL {wanted}, but installed is: {installed}. Install PostgreSQL \
         {wanted} (Debian, Ubuntu: apt-get install postgresql-{wanted}), or choose another data directory",
        data.display()
    )]
    OtherVersion {
        /// The cluster's directory.
        data: PathBuf,
        /// The version it was made by, as its `PG_VERSION` states it.
        wanted: String,
        /// The major versions that were found.
        installed: String,
    },

    /// forebay runs as root and there is nobody else to run PostgreSQL as.
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` to run it as: add one (useradd --system \
         postgres), run forebay as an ordinary user, or set DATABASE_URL to a PostgreSQL that runs elsewhere"
    )]
    NoAccount,

    /// An existing cluster lies where its owner cannot get at it.
    #[error(
        "the user that PostgreSQL has to run as (uid {uid}) cannot enter {}: let it (chmod o+x on the directories \
         above), or choose another data directory",
        path.display()
    )]
    Unreachable {
        /// The directory.
        path: PathBuf,
        /// Who cannot enter it.
        uid: u32,
    },

    /// As root, in a directory of somebody who is neither root nor the server's user.
    #[error(
        "{} belongs to uid {uid} or is everybody's to write to, and forebay runs as root: let root or uid {account} own it alone (chown, \
         chmod o-w), run forebay as its owner, or choose another data directory",
        path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// The user that PostgreSQL runs as.
        account: u32,
    },

    /// Another forebay uses the directory.
    #[error(
        "{} is in use by another forebay (pid {pid}): stop that one, or give this one a data directory of its own",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The other process, or a question mark.
        pid: String,
    },

    /// The directory for the Unix socket belongs to somebody else.
    #[error(
        "{} should hold PostgreSQL's socket but belongs to another user: remove it, or choose a data directory with \
         a shorter, plain path",
        path.display()
    )]
    SocketDirectory {
        /// The directory.
        path: PathBuf,
    },

    /// One of PostgreSQL's programs failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// The program's path.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        output: String,
    },

    /// The server ended before it was ready.
    #[error("PostgreSQL ended while starting ({status}); its log {} ends with:\n{tail}", log.display())]
    Died {
        /// How it ended.
        status: String,
        /// The log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// The server did not become ready.
    #[error("PostgreSQL was not ready after {seconds} s; its log {} ends with:\n{tail}", log.display())]
    Slow {
        /// How long it was given.
        seconds: u64,
        /// The log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },

    /// The cluster was taken away under its server.
    #[error(
        "the cluster in {} is gone: put it back, or restart forebay, which makes a new and empty one",
        data.display()
    )]
    Gone {
        /// The cluster's directory.
        data: PathBuf,
    },

    /// Another forebay keeps the cluster, and its server does not run.
    #[error(
        "the private PostgreSQL in {} does not accept connections: the forebay that runs it (pid {pid}) starts it again as soon as that \
         is possible; its messages and postgresql.log in that directory say what is in the way",
        dir.display()
    )]
    Down {
        /// The directory.
        dir: PathBuf,
        /// The other process, or a question mark.
        pid: String,
    },

    /// A server outlived even SIGKILL for a while.
    #[error("PostgreSQL (pid {pid}) did not end, not even when killed: it probably waits for a disk")]
    Unstoppable {
        /// The postmaster.
        pid: i32,
    },

    /// The file system or the system said no.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        cause: io::Error,
    },
}

impl Error {
    /// The same in a line, without what PostgreSQL wrote into its log, which may repeat a row.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Died { status, log, .. } => {
                format!("it ended while starting ({status}); {} says why", log.display())
            }
            Self::Slow { seconds, log, .. } => {
                format!("it was not ready after {seconds} s; {} says why", log.display())
            }
            other => other.to_string(),
        }
    }

    /// An [`Error::Io`] from an [`io::Error`], for `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { action, path: path.to_owned(), cause }
    }
}

//! The files of a cluster and their places.
//!
//! All are in the data directory: `cluster`, `run` with the Unix socket, `lock`, `pgpass`, `port` and `postgresql.log`. Only
//! if the user that PostgreSQL has to run as cannot enter it, `cluster`, `run` and `lock` are in a directory under
//! `/var/lib/forebay`, and `cluster` is a link to there.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, fchmod, fstat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tracing::info;

use super::account::Account;
use super::error::Error;
use super::lock::is_held;
use super::own;
use super::passfile::write_private;

/// The place of clusters whose data directory the server's user cannot enter.
const ELSEWHERE: &str = "/var/lib/forebay";
/// The place of sockets that cannot be in the data directory. Not TMPDIR, which may be too long or private as well.
const SOCKETS_ELSEWHERE: &str = "/tmp";
/// The longest directory for a socket: an address has 104 bytes on some systems (108 on Linux), of which
/// `/.s.PGSQL.65535` and a closing zero take 16.
const SOCKET_DIR_BYTES: usize = 88;

/// The directories of one cluster.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    /// PostgreSQL's own directory; what else belongs to the server lies beside it.
    data: PathBuf,
    account: Account,
}

impl Home {
    /// The home whose data directory is `dir`, which has to exist. `program` is one that `account` can run.
    pub(super) async fn at(dir: &Path, account: Account, program: &Path) -> Result<Self, Error> {
        let dir = fs::canonicalize(dir).map_err(Error::io("find", dir))?;
        let mut data = dir.join("cluster");
        if let Ok(target) = fs::read_link(&data) {
            let link = fs::symlink_metadata(&data).map_err(Error::io("read", &data))?;
            if account.is_switched() && link.uid() != 0 {
                return Err(Error::NotOurs { path: data, uid: link.uid(), account: account.uid() });
            }
            data = dir.join(target);
        } else if !data.exists() && !account.reaches(&dir, program).await? {
            let elsewhere = Path::new(ELSEWHERE).join(short_hash(&dir)).join("cluster");
            symlink(&elsewhere, &data).map_err(Error::io("link", &data))?;
            data = elsewhere;
        }
        let home = Self { dir, data, account };
        if home.server_dir() != home.dir {
            create_dir(home.server_dir(), 0o711)?;
            info!(
                "PostgreSQL's files are in {}, because the user that it has to run as (uid {uid}) cannot enter {}",
                home.server_dir().display(),
                home.dir.display(),
                uid = account.uid(),
            );
        }
        account.check(home.server_dir())?;
        if !account.reaches(home.server_dir(), program).await? {
            return Err(Error::Unreachable { path: home.server_dir().to_owned(), uid: account.uid() });
        }
        Ok(home)
    }

    /// The user that the server runs as.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// The data directory: what forebay itself keeps.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of what the server keeps.
    pub(super) fn server_dir(&self) -> &Path {
        self.data.parent().unwrap_or(&self.dir)
    }

    /// PostgreSQL's own data directory.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// The file whose lock is the right to all this.
    pub(super) fn lock(&self) -> PathBuf {
        self.server_dir().join("lock")
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("postgresql.log")
    }

    /// The directory for the server's socket, private and without sockets of earlier servers; none may be running.
    pub(super) fn sockets(&self) -> Result<PathBuf, Error> {
        let mut sockets = self.server_dir().join("run");
        if !fits_socket(&sockets) {
            sockets = Path::new(SOCKETS_ELSEWHERE).join(format!("forebay-{}", short_hash(self.server_dir())));
        }
        let is_new = match DirBuilder::new().mode(0o700).create(&sockets) {
            Err(exists) if exists.kind() == ErrorKind::AlreadyExists => false,
            made => made.map(|()| true).map_err(Error::io("create", &sockets))?,
        };
        // In a directory that everybody may write to, somebody else may have made it. It is opened first, so that it cannot be
        // exchanged after the checks.
        let elses = || Error::SocketDirectory { path: sockets.clone() };
        let dir = own::directory(&sockets).map_err(|_| elses())?;
        let failed = |action| {
            let failed = Error::io(action, &sockets);
            move |cause: Errno| failed(cause.into())
        };
        if is_new {
            self.account.own_open(&dir, &sockets)?;
        } else if fstat(&dir).map_err(failed("read"))?.st_uid != self.account.uid() {
            return Err(elses());
        }
        fchmod(&dir, Mode::RWXU).map_err(failed("change the mode of"))?;
        for left in Dir::read_from(&dir).map_err(failed("read"))?.filter_map(Result::ok) {
            if ![c".", c".."].contains(&left.file_name()) {
                unlinkat(&dir, left.file_name(), AtFlags::empty()).map_err(failed("empty"))?;
            }
        }
        Ok(sockets)
    }

    /// A free port on the loopback address: the one of the run before where it is still free.
    pub(super) fn port(&self) -> Result<u16, Error> {
        let path = self.dir.join("port");
        let kept = own::read(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|bound| bound.local_addr());
        let port =
            bind(kept).or_else(|_| bind(0)).map_err(Error::io("find a free port for", &self.dir))?.port();
        if port != kept {
            write_private(&path, &format!("{port}\n"))?;
        }
        Ok(port)
    }
}

/// Whether a forebay keeps the cluster of the data directory `dir`, be the cluster there or not.
pub(super) fn is_kept(dir: &Path) -> bool {
    let data = dir.join("cluster");
    let data = fs::read_link(&data).map_or(data, |target| dir.join(target));
    data.parent().is_some_and(|server_dir| is_held(&server_dir.join("lock")))
}

/// Whether nobody has this port of the loopback address.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Creates `dir` and those above it, `dir` with `mode`; leaves a directory that exists as it is.
pub(super) fn create_dir(dir: &Path, mode: u32) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    let create = || {
        fs::create_dir_all(dir)?;
        // Beyond what the umask grants: the server's user has to get through.
        fs::set_permissions(dir, Permissions::from_mode(mode))
    };
    create().map_err(Error::io("create", dir))
}

/// Whether a socket can lie in `dir`: its address is short, a comma separates addresses in PostgreSQL's settings and
/// connection strings, and those are text.
fn fits_socket(dir: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte);
    let bytes = dir.as_os_str().as_bytes();
    bytes.len() <= SOCKET_DIR_BYTES && bytes.iter().all(plain)
}

/// Twelve hexadecimal digits that stand for `path`.
fn short_hash(path: &Path) -> String {
    const_hex::encode(&Sha256::digest(path.as_os_str().as_bytes())[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(dir: &Path) -> Home {
        let account = Account::for_cluster(&dir.join("cluster")).unwrap();
        Home { dir: dir.to_owned(), data: dir.join("cluster"), account }
    }

    #[test]
    fn sockets_lie_in_short_and_plain_paths() {
        assert!(fits_socket(Path::new("/home/somebody/app/.forebay/run")));
        for unfit in ["/srv/a,b/run", "/srv/a b/run", "/srv/it's/run", "/srv/ü/run", &"/long".repeat(20)] {
            assert!(!fits_socket(Path::new(unfit)), "{unfit}");
        }
    }

    #[test]
    fn sockets_of_an_unfit_path_lie_elsewhere() {
        let dir = tempfile::Builder::new().prefix("a, b").tempdir().unwrap();
        let home = home(dir.path());
        let sockets = home.sockets().unwrap();
        assert!(sockets.starts_with(SOCKETS_ELSEWHERE) && fits_socket(&sockets));
        assert_eq!(fs::metadata(&sockets).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&sockets).unwrap().uid(), home.account.uid());
        fs::write(sockets.join(".s.PGSQL.5432.lock"), "1").unwrap();
        assert_eq!(home.sockets().unwrap(), sockets, "the same every time");
        assert_eq!(fs::read_dir(&sockets).unwrap().count(), 0, "nothing is left of an earlier server");
        fs::remove_dir(&sockets).unwrap();
        symlink("/", &sockets).unwrap();
        assert!(matches!(home.sockets(), Err(Error::SocketDirectory { .. })), "somebody was there first");
        fs::remove_file(&sockets).unwrap();
    }

    #[test]
    fn the_port_is_kept_while_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        let port = home.port().unwrap();
        assert_eq!(home.port().unwrap(), port);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let other = home.port().unwrap();
        assert_ne!(other, port);
        drop(taken);
        assert_eq!(home.port().unwrap(), other, "the last one that was used");
    }

    #[test]
    fn a_directory_that_exists_keeps_its_mode() {
        let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        create_dir(dir.path(), 0o711).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
        let new = dir.path().join("a/b");
        create_dir(&new, 0o711).unwrap();
        assert_eq!(mode(&new), 0o711);
    }
}

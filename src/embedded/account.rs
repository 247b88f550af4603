//! The user that runs PostgreSQL's programs: forebay's own or, since PostgreSQL refuses root, another one.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Gid, Uid};

use super::error::Error;
use super::process::{ASK_LIMIT, run};

/// The user that runs PostgreSQL if forebay runs as root: every package of PostgreSQL creates it.
const SERVER_USER: &str = "postgres";

/// The user that PostgreSQL's programs run as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
    /// Whether that is another user than forebay's own, which is then root.
    switched: bool,
}

impl Account {
    /// forebay's own user; for root the owner of the cluster at `data` or, without one, the user `postgres`.
    pub(super) fn for_cluster(data: &Path) -> Result<Self, Error> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if !uid.is_root() {
            return Ok(Self { uid: uid.as_raw(), gid: gid.as_raw(), switched: false });
        }
        let owner =
            fs::metadata(data).ok().map(|found| (found.uid(), found.gid())).filter(|&(uid, _)| uid != 0);
        let passwd = || fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, gid) = owner.or_else(|| look_up(&passwd(), SERVER_USER)).ok_or(Error::NoAccount)?;
        Ok(Self { uid, gid, switched: true })
    }

    /// The user's number.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether it is another user than forebay's own.
    pub(super) fn is_switched(&self) -> bool {
        self.switched
    }

    /// Hands `path`, which forebay has just made, over to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), Error> {
        if !self.switched {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid)).map_err(Error::io("change the owner of", path))
    }

    /// Hands the open `file`, which forebay has just made at `path`, over to this user.
    pub(super) fn own_open(&self, file: impl AsFd, path: &Path) -> Result<(), Error> {
        if !self.switched {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let changed = rustix::fs::fchown(file, Some(uid), Some(gid));
        changed.map_err(|cause| Error::io("change the owner of", path)(cause.into()))
    }

    /// Checks that nobody can mislead root in `dir`: it has to belong to root or to this user, and must not be writable for
    /// everybody.
    pub(super) fn check(&self, dir: &Path) -> Result<(), Error> {
        let found = fs::metadata(dir).map_err(Error::io("read", dir))?;
        let is_ours = found.uid() == 0 || found.uid() == self.uid;
        if !self.switched || is_ours && found.mode() & 0o002 == 0 {
            return Ok(());
        }
        Err(Error::NotOurs { path: dir.to_owned(), uid: found.uid(), account: self.uid })
    }

    /// `program`, to be run as this user, in `/`, free of the caller's PostgreSQL settings and language.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
        if self.switched {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Whether this user can enter `dir`; `program` is one that it can run.
    pub(super) async fn reaches(&self, dir: &Path, program: &Path) -> Result<bool, Error> {
        if !self.switched {
            return Ok(true);
        }
        // The change of directory comes after the change of user, so the kernel itself answers, ACLs and all.
        let mut command = self.command(program);
        command.arg("--version").current_dir(dir);
        match run(command, "", ASK_LIMIT).await {
            Err(Error::Io { cause, .. }) if cause.kind() == ErrorKind::PermissionDenied => Ok(false),
            other => other.map(|_| true),
        }
    }
}

/// User and group number of `name` in the text of `/etc/passwd`.
fn look_up(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2).map(|field| field.parse::<u32>().map_err(io::Error::other));
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?)).filter(|&(uid, _)| uid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_up_a_user_by_its_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\npostgres2:x:7:8::/:\npostgres:x:101:104:PG:/var/lib:/bin/sh\n";
        assert_eq!(look_up(passwd, "postgres"), Some((101, 104)));
        assert_eq!(look_up(passwd, "post"), None);
        assert_eq!(look_up(passwd, "root"), None, "root would be refused again");
        assert_eq!(look_up("postgres:x:many:1::/:", "postgres"), None);
    }
}

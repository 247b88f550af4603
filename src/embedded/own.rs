//! Opens forebay's own files and directories without following links, and checks them once they are open.
//!
//! forebay may be root, and the server's user, or an earlier owner of the directory, may have placed something there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

/// NONBLOCK, because opening a pipe would block.
const FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The file at `path`, opened by `options`; one that is made is forebay's user's alone.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    checked(options.mode(0o600).custom_flags(FLAGS.bits().cast_signed()).open(path)?)
}

/// The text of the file at `path`.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path, OpenOptions::new().read(true))?.read_to_string(&mut text)?;
    Ok(text)
}

/// The file `name` to append to, in the directory `inner` of the directory `outer`.
pub(super) fn append(outer: &Path, inner: &str, name: &str) -> io::Result<File> {
    let dir = openat(directory(outer)?, inner, FLAGS | OFlags::DIRECTORY, Mode::empty())?;
    checked(openat(dir, name, FLAGS | OFlags::WRONLY | OFlags::APPEND, Mode::empty())?.into())
}

/// The directory at `path`.
pub(super) fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, FLAGS | OFlags::DIRECTORY, Mode::empty())?)
}

/// Refuses a file with a second name (hard link), which may be somebody else's.
fn checked(file: File) -> io::Result<File> {
    let found = file.metadata()?;
    if found.is_file() && found.nlink() <= 1 {
        return Ok(file);
    }
    Err(io::Error::other("it is not a plain file, or has a second name"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    #[test]
    fn what_leads_elsewhere_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("victim"), "kept").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("none"), at("dangling")).unwrap();
        fs::hard_link(at("victim"), at("second")).unwrap();
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        fs::create_dir(at("folder")).unwrap();
        for name in ["link", "dangling", "second", "victim", "pipe", "folder"] {
            assert!(open(&at(name), OpenOptions::new().create(true).append(true)).is_err(), "{name}");
            assert!(read(&at(name)).is_err(), "{name}");
        }
        assert!(!at("none").exists());
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "kept");
        open(&at("new"), OpenOptions::new().create(true).append(true)).unwrap();
        assert_eq!(fs::metadata(at("new")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&at("new")).unwrap(), "");
    }

    #[test]
    fn no_step_below_a_directory_is_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("real/inner")).unwrap();
        fs::write(at("real/inner/conf"), "").unwrap();
        symlink(at("real"), at("link")).unwrap();
        symlink("inner", at("real/linked")).unwrap();
        symlink("conf", at("real/inner/alias")).unwrap();
        assert!(append(&at("real"), "inner", "conf").is_ok());
        assert!(append(&at("link"), "inner", "conf").is_err());
        assert!(append(&at("real"), "linked", "conf").is_err());
        assert!(append(&at("real"), "inner", "alias").is_err());
        assert!(directory(&at("link")).is_err() && directory(&at("real")).is_ok());
    }
}

//! The cluster's password, kept where `psql` can read it: a file in libpq's passfile format.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::NAME;
use super::error::Error;
use super::own;

/// A password and the file that keeps it.
pub(super) struct Passfile {
    /// The file.
    pub(super) path: PathBuf,
    /// The password: hexadecimal digits, so that it needs no quoting anywhere.
    pub(super) password: String,
    /// Whether the password has only now been made, so that no existing cluster can know it.
    pub(super) is_new: bool,
}

// By hand, so that the password does not get into a message.
impl std::fmt::Debug for Passfile {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Passfile")
            .field("path", &self.path)
            .field("is_new", &self.is_new)
            .finish_non_exhaustive()
    }
}

impl Passfile {
    /// Reads `dir`'s passfile; makes one, with a random password, where there is none or it is of no use.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("pgpass");
        match own::read(&path) {
            Ok(text) => {
                if let Some(password) = read_password(&text) {
                    return Ok(Self { path, password, is_new: false });
                }
            }
            Err(absent) if absent.kind() == ErrorKind::NotFound => {}
            Err(cause) => return Err(Error::io("read", &path)(cause)),
        }
        // Two random UUIDs: 244 bits from the operating system.
        let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        write_private(&path, &format!("*:*:*:{NAME}:{password}\n"))?;
        Ok(Self { path, password, is_new: true })
    }
}

/// Writes `text` to `path`, readable for forebay's user alone, whole or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let new = path.with_extension("new");
    let write = || {
        // It may be left from an interrupted run, with whatever mode and owner.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(Error::io("write", path))
}

/// The password in the text of a passfile that was written here.
pub(super) fn read_password(text: &str) -> Option<String> {
    let (entry, password) = text.lines().next()?.rsplit_once(':')?;
    let ours = entry.ends_with(&format!(":{NAME}"))
        && !password.is_empty()
        && password.bytes().all(|b| b.is_ascii_alphanumeric());
    ours.then(|| password.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_password_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Passfile::open(dir.path()).unwrap();
        let second = Passfile::open(dir.path()).unwrap();
        assert!(first.is_new && !second.is_new);
        assert_eq!(first.password, second.password);
        assert_eq!(first.password.len(), 64);
        assert_eq!(fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{first:?}").contains(&first.password));
    }

    #[test]
    fn a_spoilt_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "*:*:*:forebay:\n", "*:*:*:somebody:secret\n", "*:*:*:forebay:it's\n"] {
            fs::write(dir.path().join("pgpass"), text).unwrap();
            assert!(Passfile::open(dir.path()).unwrap().is_new, "{text:?}");
        }
    }
}

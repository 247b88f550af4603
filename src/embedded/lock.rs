//! One forebay per cluster.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use super::error::Error;
use super::own;

/// The exclusive use of a directory, as long as this lives. The kernel releases it if the process is killed.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks the file at `path`, and with it `dir`; the error names the holder. The file holds the process number and is never
    /// removed, since otherwise two processes could hold a lock each.
    pub(super) fn acquire(path: &Path, dir: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = own::open(path, &mut options).map_err(Error::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
                let pid = if known { pid.trim().to_owned() } else { "?".to_owned() };
                return Err(Error::Locked { dir: dir.to_owned(), pid });
            }
            Err(TryLockError::Error(cause)) => return Err(Error::io("lock", path)(cause)),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(Error::io("write", path))?;
        Ok(Self { _file: file })
    }
}

/// Whether somebody holds the lock that is the file at `path`.
pub(super) fn is_held(path: &Path) -> bool {
    let file = own::open(path, OpenOptions::new().read(true));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!is_held(&path));
        let first = Lock::acquire(&path, dir.path()).unwrap();
        assert!(is_held(&path));
        let refused = Lock::acquire(&path, dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        assert!(refused.contains(dir.path().to_str().unwrap()), "{refused}");
        drop(first);
        assert!(!is_held(&path));
        Lock::acquire(&path, dir.path()).unwrap();
    }
}

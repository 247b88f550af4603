//! Small files that may change while forebay runs: certificates, keys, tokens, passwords.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tokio::runtime::{Handle, RuntimeFlavor};

/// A key of the configuration whose value, or whose file, cannot be used. The text never repeats what is secret.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Unusable {
    key: String,
    problem: String,
}

/// Certificates of many authorities have some 200 KiB.
const MOST: u64 = 4 << 20;

impl Unusable {
    pub(super) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

/// What is in the file at `path`, which `key` names.
pub(super) fn read(key: &str, path: &Path) -> Result<Vec<u8>, Unusable> {
    let failed = |error| Unusable::new(key, format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST {
        return Err(Unusable::new(key, format!("{} is larger than {MOST} bytes", path.display())));
    }
    Ok(bytes)
}

/// Does `work` that takes long while other tasks move away from this thread.
pub(super) fn aside<T>(work: impl FnOnce() -> T) -> T {
    if Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread) {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

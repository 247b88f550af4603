//! Small files that may change while forebay runs: certificates, keys, tokens, passwords.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tracing::warn;

use crate::values::text::unmarked;

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
    // Text or DER, which does not begin as UTF-16 does.
    unmarked(bytes).map_err(|problem| Unusable::new(key, format!("{}: {problem}", path.display())))
}

/// The same of a file that says who may send. One that is not there says that nobody may.
pub(super) fn read_senders(key: &str, path: &Path) -> Result<Vec<u8>, Unusable> {
    let is_gone = path.try_exists().is_ok_and(|exists| !exists);
    if is_gone { Ok(Vec::new()) } else { read(key, path) }
}

/// What tells files from what they were.
pub(super) type Fingerprint = [u8; 32];

/// The fingerprint of files with these bytes.
pub(super) fn fingerprint<'a>(files: impl IntoIterator<Item = &'a Vec<u8>>) -> Fingerprint {
    let mut hash = Sha256::new();
    for bytes in files {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    }
    hash.finalize().into()
}

/// Sees whether files change.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Seen>);

/// What the files were when they were last looked at.
#[derive(Debug, Default)]
struct Seen {
    /// `None` where they could not be read.
    files: Option<Fingerprint>,
    /// They were not taken over the first time.
    is_pending: bool,
}

/// How sure it is that files are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They may be in the middle of being written, or one of two may have been.
    First,
    /// They are as they were at the look before.
    Second,
}

impl Watch {
    /// Of files that were read once.
    pub(super) fn new(files: Fingerprint) -> Self {
        Self(Mutex::new(Seen { files: Some(files), is_pending: false }))
    }

    /// Has `take` take over what was `read`, where it is not what it was. What it does not take it gets once more at the next
    /// look; what it does not take then is told. Gives whether there is no need for that look.
    pub(super) fn look<T>(
        &self,
        read: Result<(Fingerprint, T), Unusable>,
        take: impl FnOnce(T, Look) -> Result<(), Unusable>,
    ) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let files = read.as_ref().ok().map(|(files, _)| *files);
        let look = if seen.files == files { Look::Second } else { Look::First };
        if look == Look::Second && !seen.is_pending {
            return true;
        }
        let taken = read.and_then(|(_, read)| take(read, look));
        *seen = Seen { files, is_pending: taken.is_err() && look == Look::First };
        if let (Err(error), Look::Second) = (taken, look) {
            warn!(%error, "a file has changed and cannot be used; what was read before stays in force");
        }
        !seen.is_pending
    }
}

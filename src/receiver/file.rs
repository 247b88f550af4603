//! Small files that may change while forebay runs: certificates, keys, tokens, passwords.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tracing::warn;

use crate::values::text::unmarked;

/// A key of the configuration whose value or file cannot be used. The text contains no secret.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Unusable {
    key: String,
    problem: String,
}

/// The most bytes of a file. A bundle of all public authorities has some 200 KiB.
const MOST: u64 = 4 << 20;

impl Unusable {
    pub(super) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

/// Reads the file at `path`, the value of `key`.
pub(super) fn read(key: &str, path: &Path) -> Result<Vec<u8>, Unusable> {
    let failed = |error| Unusable::new(key, format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST {
        return Err(Unusable::new(key, format!("{} is larger than {MOST} bytes", path.display())));
    }
    // Text, or DER, which does not begin as UTF-16 does.
    unmarked(bytes).map_err(|problem| Unusable::new(key, format!("{}: {problem}", path.display())))
}

/// Reads a file of senders. A missing file means that nobody may send.
pub(super) fn read_senders(key: &str, path: &Path) -> Result<Vec<u8>, Unusable> {
    let is_gone = path.try_exists().is_ok_and(|exists| !exists);
    if is_gone { Ok(Vec::new()) } else { read(key, path) }
}

/// A hash of files' contents.
pub(super) type Fingerprint = [u8; 32];

pub(super) fn fingerprint<'a>(files: impl IntoIterator<Item = &'a Vec<u8>>) -> Fingerprint {
    let mut hash = Sha256::new();
    for bytes in files {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    }
    hash.finalize().into()
}

/// Detects changes of files.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Seen>);

/// The state of the files at the last look.
#[derive(Debug, Default)]
struct Seen {
    /// `None` if they could not be read.
    files: Option<Fingerprint>,
    /// They could not be used at the first look.
    is_pending: bool,
}

/// How certain it is that files are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They may be half written, or only one of two may be new.
    First,
    /// They are the same as at the look before.
    Second,
}

impl Watch {
    pub(super) fn new(files: Fingerprint) -> Self {
        Self(Mutex::new(Seen { files: Some(files), is_pending: false }))
    }

    /// Passes the contents `read` to `take` if they have changed. If `take` fails, it gets them once more at the next look, and a second
    /// failure is logged. Returns whether no second look is needed.
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
            warn!(%error, "a file has changed and cannot be used; its previous contents stay in force");
        }
        !seen.is_pending
    }
}

//! Digests of secrets under a random key.
//!
//! The time to compare two digests reveals nothing of the secrets, because nobody can choose a digest, and a cached digest cannot be
//! turned back into the password.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub(super) type Digest = [u8; 32];

/// A digest without a key.
pub(super) fn sha256(text: &[u8]) -> Digest {
    Sha256::digest(text).into()
}

/// A random key for the lifetime of the process.
#[derive(Clone)]
pub(super) struct Key([[u8; 16]; 2]);

impl Key {
    pub(super) fn new() -> Self {
        Self([Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()])
    }

    pub(super) fn digest(&self, secret: &[u8]) -> Digest {
        let [first, second] = &self.0;
        Sha256::new().chain_update(first).chain_update(second).chain_update(secret).finalize().into()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(crate::values::secret::REDACTED)
    }
}

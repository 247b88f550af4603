//! Secrets as digests under a key that nobody else has.
//!
//! How long it takes to compare two of them says nothing of the secrets, because nobody can choose a digest; and what is
//! remembered of a password cannot be turned back into it.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// A secret's digest.
pub(super) type Digest = [u8; 32];

/// A digest that everybody can compute.
pub(super) fn sha256(text: &[u8]) -> Digest {
    Sha256::digest(text).into()
}

/// A random key, as long as the process lives.
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

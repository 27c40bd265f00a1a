//! Hashes of ids and topics. They give index entries a short, fixed length.

use sha2::{Digest as _, Sha256};

/// Half of a SHA-256 digest. The hash is cryptographic, because two ids with the same hash would be
/// one cursor.
pub(super) type Hash = [u8; 16];

/// Returns the hash of an id or a topic. It is the same in every process, because stores keep it.
pub(super) fn hash(text: &str) -> Hash {
    let digest = Sha256::digest(text.as_bytes());
    let mut hash = Hash::default();
    hash.copy_from_slice(&digest[..Hash::default().len()]);
    hash
}

//! Ids and topics by hash, so that what is kept of long ones is short and has one length.

use sha2::{Digest as _, Sha256};

/// Half of a SHA-256. A cryptographic hash, because two ids that share one would be one cursor.
pub(super) type Hash = [u8; 16];

/// The hash of an id or a topic; the same in every process, because stores keep it.
pub(super) fn hash(text: &str) -> Hash {
    let digest = Sha256::digest(text.as_bytes());
    let mut hash = Hash::default();
    hash.copy_from_slice(&digest[..Hash::default().len()]);
    hash
}

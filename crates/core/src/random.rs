//! Random names that cannot be guessed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Returns 128 random bits as text that is safe in URLs and headers.
///
/// # Panics
/// If the operating system provides no random bytes.
#[must_use]
pub fn random_text() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .expect("getrandom waits for a seed, and then cannot fail on supported systems");
    URL_SAFE_NO_PAD.encode(random)
}

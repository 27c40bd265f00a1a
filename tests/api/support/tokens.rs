//! Access tokens, and gateways that trust them.

pub use tidegate_testkit::tokens::*;

use super::Gateway;

/// A gateway with keys that trusts [`ISSUER`], and further settings.
pub fn guarded(more: &[(&str, &str)]) -> Gateway {
    let file = trusting(ISSUER);
    let path = file.path().to_str().expect("text").to_owned();
    let settings: Vec<_> =
        KEYS.into_iter().chain([("CONFIG", path.as_str())]).chain(more.iter().copied()).collect();
    Gateway::with(&settings)
}

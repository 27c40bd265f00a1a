//! The reasons why an access token is refused.

use jsonwebtoken::Algorithm;

/// Why an access token is refused: for the log and the operator. The bearer learns only of
/// [`Flaw::Expired`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    /// It exceeds its limit.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// It is not a JWT.
    #[error("it is not a JWT: {0}")]
    Malformed(String),
    /// It requires an unsupported extension (RFC 7515, section 4.1.11).
    #[error("its header has `crit`")]
    Critical,
    /// It is of the old dialect, which is off.
    #[error("its `typ` is not `at+jwt`, and the old dialect is off (mercure.compat)")]
    OldDialect,
    /// There is no key for it.
    #[error("no key is configured for tokens like this (auth.publisher_key, auth.subscriber_key)")]
    NoKey,
    /// Its issuer is unknown.
    #[error("its issuer `{0}` is not one of auth.issuers")]
    Issuer(String),
    /// Its issuer has no key for this role.
    #[error("its issuer `{0}` has no key for this role")]
    IssuerRole(String),
    /// Its algorithm is not one of its key.
    #[error("it is signed with {0:?}, which is not an algorithm of its key")]
    Algorithm(Algorithm),
    /// Its key set has no such key.
    #[error("its key (`kid`) is not in the key set of its issuer")]
    UnknownKey,
    /// Its signature is wrong.
    #[error("its signature is not good: {0}")]
    Signature(String),
    /// A claim is missing.
    #[error("its claim `{0}` is missing")]
    Missing(&'static str),
    /// A claim has a wrong value.
    #[error("its claim `{claim}` {rule}")]
    Claim {
        /// The claim's name.
        claim: &'static str,
        /// The violated rule, to be read after the name.
        rule: String,
    },
    /// It has expired. Checked last, so that the signature is valid.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet.
    #[error("it is not valid yet")]
    TooEarly,
    /// It is for another hub.
    #[error("its audience is none of {0}")]
    Audience(String),
}

impl Flaw {
    /// Truncates the name for the log, because the bearer may have invented it.
    pub(super) fn issuer(name: &str) -> Self {
        Self::Issuer(name.chars().take(200).collect())
    }
}

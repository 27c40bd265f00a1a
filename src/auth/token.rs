//! Verification of an access token: a JWT in compact form, from its text to trusted claims.

use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::{
    claims::{Claims, Dialect},
    keys::{Keyring, Role},
};
use crate::settings::{MercureSettings, OldClaim};

/// Why an access token is refused: for the log and the operator, never for the bearer.
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
    /// It has expired.
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

/// The requirements of an access token.
#[derive(Debug, Clone)]
pub(crate) struct Demands<'a> {
    pub(crate) role: Role,
    /// Requirements of the old dialect.
    pub(crate) mercure: &'a MercureSettings,
    /// Whether the old dialect is supported.
    pub(crate) speaks_old_dialect: bool,
    /// The accepted audiences.
    pub(crate) audiences: &'a [String],
    pub(crate) token_bytes: usize,
    pub(crate) now: Timestamp,
}

/// Verifies an access token: by the rules of draft-08 if its `typ` is that of an access token, else
/// by those of draft-07. Nothing weakens the former.
pub(crate) async fn verify(
    keyring: &Keyring,
    text: &str,
    demands: &Demands<'_>,
) -> Result<Claims, Flaw> {
    if demands.token_bytes < text.len() {
        return Err(Flaw::TooLong(demands.token_bytes));
    }
    let malformed = |error: jsonwebtoken::errors::Error| Flaw::Malformed(error.to_string());
    let header = jsonwebtoken::decode_header(text).map_err(malformed)?;
    if header.crit.is_some() {
        return Err(Flaw::Critical);
    }
    let dialect = Dialect::of(&header);
    let (verifier, issuer) = match dialect {
        Dialect::Modern => {
            // Not verified yet: the claims only select the issuer's keys.
            let claims: Map<String, Value> =
                jsonwebtoken::dangerous::insecure_decode_claims(text).map_err(malformed)?;
            let issuer = claims.get("iss").and_then(Value::as_str).ok_or(Flaw::Missing("iss"))?;
            (keyring.of_issuer(issuer, demands.role)?, Some(issuer.to_owned()))
        }
        Dialect::Old if !demands.speaks_old_dialect => {
            return Err(Flaw::OldDialect);
        }
        Dialect::Old => (keyring.own(demands.role).ok_or(Flaw::NoKey)?, None),
    };
    let claims = Claims::new(dialect, verifier.verify(text, &header).await?);
    if let Some(issuer) = issuer {
        claims.check_issuer(&issuer)?;
        claims.check_audience(demands.audiences)?;
    }
    if dialect == Dialect::Old {
        for claim in &demands.mercure.old_token_claims {
            match claim {
                OldClaim::Exp => claims.check_has_end()?,
                OldClaim::Aud => claims.check_audience(demands.audiences)?,
                OldClaim::Iss => keyring.check_name(claims.issuer()?)?,
            }
        }
    }
    claims.check_times(demands.now)?;
    Ok(claims)
}

/// Checks that an unsigned access token is refused.
#[cfg(any(test, fuzzing))]
pub(crate) fn refuse_unsigned(text: &str) {
    use crate::settings::{AuthSettings, Secret};
    let settings = AuthSettings { publisher_key: Secret::from("key"), ..Default::default() };
    let keyring = Keyring::new(&settings).expect("valid");
    let demands = Demands {
        role: Role::Publisher,
        mercure: &MercureSettings::default(),
        speaks_old_dialect: true,
        audiences: &[],
        token_bytes: 4096,
        now: Timestamp::UNIX_EPOCH,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert!(runtime.block_on(verify(&keyring, text, &demands)).is_err(), "{text}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_made_up_is_refused(text in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,3}|.*") {
            super::refuse_unsigned(&text);
        }
    }
}

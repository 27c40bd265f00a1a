//! A token: a JWT in compact form, from its text to claims that can be relied on.

use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::{
    claims::{Claims, Dialect},
    keys::{Keyring, Role},
};
use crate::settings::{MercureSettings, OldClaim};

/// What is wrong with a token: for the log and for the operator, never for the bearer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is over its limit.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// It is no JWT.
    #[error("it is not a JWT: {0}")]
    Malformed(String),
    /// It demands what is not understood (RFC 7515, section 4.1.11).
    #[error("its header has `crit`")]
    Critical,
    /// It is of the old dialect.
    #[error("its `typ` is not `at+jwt`, and the old dialect is off (mercure.compat)")]
    OldDialect,
    /// There is no key for it.
    #[error("no key is configured for tokens like this (auth.publisher_key, auth.subscriber_key)")]
    NoKey,
    /// Nobody trusts its issuer.
    #[error("its issuer `{0}` is not one of auth.issuers")]
    Issuer(String),
    /// Its issuer is not trusted with this.
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
    /// A claim is not what it has to be.
    #[error("its claim `{claim}` {rule}")]
    Claim {
        /// The claim's name.
        claim: &'static str,
        /// What it breaks, to be read after the name.
        rule: String,
    },
    /// It is no longer good.
    #[error("it has expired")]
    Expired,
    /// It is not good yet.
    #[error("it is not valid yet")]
    TooEarly,
    /// It is for another hub.
    #[error("its audience is none of {0}")]
    Audience(String),
}

impl Flaw {
    /// The beginning of a name that anybody may have made up is enough for a log.
    pub(super) fn issuer(name: &str) -> Self {
        Self::Issuer(name.chars().take(200).collect())
    }
}

/// What a token has to stand up to.
#[derive(Debug, Clone)]
pub(super) struct Demands<'a> {
    pub(super) role: Role,
    /// What tokens of the old dialect need.
    pub(super) mercure: &'a MercureSettings,
    /// Whether they are understood.
    pub(super) speaks_old_dialect: bool,
    /// What the audience of a token may be.
    pub(super) audiences: &'a [String],
    pub(super) token_bytes: usize,
    pub(super) now: Timestamp,
}

/// Verifies a token: the rules of draft-08 for one that says that it is an access token, those of draft-07 for others.
/// Nothing weakens the former.
pub(super) async fn verify(
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
            // Not verified yet: it only says whose keys to use.
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

/// Checks that a token that was not signed is refused.
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

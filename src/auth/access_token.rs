//! Verification of an access token: a JWT in compact form, from its text to trusted claims.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    claims::{Claims, Dialect},
    flaw::Flaw,
    keys::{Keyring, Role},
};
use crate::settings::{MercureSettings, OldClaim};

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
    pub(crate) access_token_bytes: usize,
    pub(crate) now: Timestamp,
}

/// Verifies an access token: by the rules of draft-08 if its `typ` is that of an access token, else
/// by those of draft-07. Nothing weakens the former.
pub(crate) async fn verify(
    keyring: &Keyring,
    text: &str,
    demands: &Demands<'_>,
) -> Result<Claims, Flaw> {
    if demands.access_token_bytes < text.len() {
        return Err(Flaw::TooLong(demands.access_token_bytes));
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
        access_token_bytes: 4096,
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

//! The claims of a verified access token: its expiry, its audience, and what it grants.

use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::Header;
use serde_json::{Map, Value};

use super::{
    flaw::Flaw,
    grants::{self, Selectors},
};

/// Seconds that the clock of an issuer may be ahead of this one.
const LEEWAY: f64 = 5.0;

/// The rules that apply to an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Draft-08: an access token (RFC 9068) with authorization details (RFC 9396).
    Modern,
    /// Draft-07: any JWT with a claim `mercure`.
    Old,
}

impl Dialect {
    /// Returns the rules for an access token with this header.
    pub(super) fn of(header: &Header) -> Self {
        let kind = header.typ.as_deref().unwrap_or_default();
        let is_access_token =
            ["at+jwt", "application/at+jwt"].iter().any(|it| it.eq_ignore_ascii_case(kind));
        if is_access_token { Self::Modern } else { Self::Old }
    }
}

/// The claims of an access token whose signature is valid.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    dialect: Dialect,
    claims: Map<String, Value>,
}

impl Claims {
    pub(super) fn new(dialect: Dialect, claims: Map<String, Value>) -> Self {
        Self { dialect, claims }
    }

    /// Returns the rules that apply to it.
    #[must_use]
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns all claims, as the issuer wrote them.
    #[must_use]
    pub(crate) fn all(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Returns the issuer.
    pub(super) fn issuer(&self) -> Result<&str, Flaw> {
        self.claims.get("iss").and_then(Value::as_str).ok_or(Flaw::Missing("iss"))
    }

    pub(super) fn check_issuer(&self, issuer: &str) -> Result<(), Flaw> {
        let found = self.issuer()?;
        if found == issuer { Ok(()) } else { Err(Flaw::issuer(found)) }
    }

    pub(super) fn check_has_end(&self) -> Result<(), Flaw> {
        self.date("exp")?.map(drop).ok_or(Flaw::Missing("exp"))
    }

    pub(super) fn check_audience(&self, accepted: &[String]) -> Result<(), Flaw> {
        let is_accepted =
            |it: &Value| it.as_str().is_some_and(|it| accepted.iter().any(|a| a == it));
        let found = match self.claims.get("aud") {
            None => return Err(Flaw::Missing("aud")),
            Some(Value::Array(several)) => several.iter().any(is_accepted),
            Some(one) => is_accepted(one),
        };
        if found { Ok(()) } else { Err(Flaw::Audience(accepted.join(", "))) }
    }

    /// Checks that it is valid at this time. Draft-08 requires an expiry.
    pub(super) fn check_times(&self, now: Timestamp) -> Result<(), Flaw> {
        let now = seconds(now);
        match self.date("exp")? {
            None if self.dialect == Dialect::Modern => return Err(Flaw::Missing("exp")),
            Some(expires) if expires <= now => return Err(Flaw::Expired),
            _ => {}
        }
        match self.date("nbf")? {
            Some(begins) if now + LEEWAY < begins => Err(Flaw::TooEarly),
            _ => Ok(()),
        }
    }

    /// Returns how long it remains valid, or `None` if it does not expire.
    pub(crate) fn remaining(&self, now: Timestamp) -> Option<Duration> {
        let expires = self.date("exp").ok().flatten()?;
        Some(
            Duration::try_from_secs_f64((expires - seconds(now)).max(0.0)).unwrap_or(Duration::MAX),
        )
    }

    /// Returns a numeric date (RFC 7519, section 2), which may have a fraction.
    fn date(&self, claim: &'static str) -> Result<Option<f64>, Flaw> {
        match self.claims.get(claim) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().filter(|it| it.is_finite()).map(Some).ok_or_else(|| {
                Flaw::Claim { claim, rule: "is not a number of seconds".to_owned() }
            }),
        }
    }

    /// Returns what it grants, at most `limit` matchers.
    ///
    /// # Errors
    /// If any grant is malformed. The whole access token is then invalid.
    pub(crate) fn grants(&self, limit: usize) -> Result<Selectors, Flaw> {
        match self.dialect {
            Dialect::Modern => grants::modern(&self.claims, limit),
            Dialect::Old => grants::old(&self.claims, limit),
        }
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(dialect: Dialect, value: &Value) -> Claims {
        Claims::new(dialect, value.as_object().expect("an object").clone())
    }

    #[test]
    fn dates_may_have_fractions_and_bound_what_they_say() {
        let now = Timestamp::from_second(1000).expect("a time");
        for (dialect, value, expected) in [
            (Dialect::Modern, json!({}), Err(Flaw::Missing("exp"))),
            (Dialect::Old, json!({}), Ok(())),
            (Dialect::Old, json!({ "exp": 1000.25 }), Ok(())),
            (Dialect::Old, json!({ "exp": 1000 }), Err(Flaw::Expired)),
            (Dialect::Modern, json!({ "exp": 999.9 }), Err(Flaw::Expired)),
            (Dialect::Modern, json!({ "exp": 1e300 }), Ok(())),
            (Dialect::Modern, json!({ "exp": -1 }), Err(Flaw::Expired)),
            (Dialect::Old, json!({ "nbf": 1004.5 }), Ok(())),
            (Dialect::Old, json!({ "nbf": 1006 }), Err(Flaw::TooEarly)),
        ] {
            assert_eq!(claims(dialect, &value).check_times(now), expected, "{value}");
        }
        let text = claims(Dialect::Modern, &json!({ "exp": "2000" }));
        assert!(matches!(text.check_times(now), Err(Flaw::Claim { claim: "exp", .. })));
        let remaining = |exp: f64| claims(Dialect::Old, &json!({ "exp": exp })).remaining(now);
        assert_eq!(remaining(1000.25), Some(Duration::from_millis(250)));
        assert_eq!(remaining(1e300), Some(Duration::MAX));
    }

    #[test]
    fn the_audience_is_one_or_several() {
        let accepted = ["https://hub.test/a".to_owned()];
        for good in [json!("https://hub.test/a"), json!(["x", "https://hub.test/a"])] {
            let claims = claims(Dialect::Modern, &json!({ "aud": good }));
            assert_eq!(claims.check_audience(&accepted), Ok(()));
        }
        for bad in [json!("https://hub.test/"), json!([]), json!(null), json!(7), json!({})] {
            let claims = claims(Dialect::Modern, &json!({ "aud": bad }));
            assert!(claims.check_audience(&accepted).is_err(), "{bad}");
        }
        assert!(claims(Dialect::Modern, &json!({})).check_audience(&accepted).is_err());
    }
}

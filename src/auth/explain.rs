//! Explains to the operator what an access token is valid for, or why it is refused.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tidegate_core::matching::{MatcherLimits, Matchers};

use super::{
    Dialect, Flaw, Keyring, Role,
    access_token::{self, Demands},
    grants::Selector,
};
use crate::settings::Settings;

/// Explains an access token to the operator of a gateway with these settings.
///
/// # Errors
/// If the settings have no keys, or if the text is not a JWT.
pub(crate) async fn explain(
    settings: &Settings,
    text: &str,
    now: Timestamp,
) -> Result<String, String> {
    if settings.auth.is_development() {
        return Err("there are no keys, so tokens are not looked at (auth)".to_owned());
    }
    let keyring = Keyring::new(&settings.auth).map_err(|error| error.to_string())?;
    let malformed = |error: jsonwebtoken::errors::Error| format!("this is not a JWT: {error}");
    let header = jsonwebtoken::decode_header(text).map_err(malformed)?;
    let claims: Map<String, Value> =
        jsonwebtoken::dangerous::insecure_decode_claims(text).map_err(malformed)?;
    let rules = match Dialect::of(&header) {
        Dialect::Modern => "draft-08, for its `typ` says that it is an access token",
        Dialect::Old => "draft-07, the old dialect, for its `typ` is not at+jwt",
    };
    let mut lines = format!(
        "rules       {rules}\nalgorithm   {:?}\nclaims      {:#}\n",
        header.alg,
        Value::Object(claims)
    );
    for (role, name) in [(Role::Publisher, "publishing"), (Role::Subscriber, "subscribing")] {
        let demands = Demands {
            role,
            mercure: &settings.mercure,
            speaks_old_dialect: settings.speaks_old_dialect(),
            audiences: &settings.audiences(),
            access_token_bytes: settings.auth.token_bytes,
            now,
        };
        let verdict = match verdict(settings, &keyring, text, &demands).await {
            Ok(verdict) => verdict,
            Err(reason) => format!("refused: {reason}"),
        };
        // Writing to a string never fails.
        let _ = writeln!(lines, "{name:<12}{verdict}");
    }
    Ok(lines)
}

async fn verdict(
    settings: &Settings,
    keyring: &Keyring,
    text: &str,
    demands: &Demands<'_>,
) -> Result<String, String> {
    let flaw = |flaw: Flaw| flaw.to_string();
    let claims = access_token::verify(keyring, text, demands).await.map_err(flaw)?;
    let limits = settings.limits.matcher_limits();
    let grants = claims.grants(limits.matchers).map_err(flaw)?;
    check(settings, &grants.publish, &limits)?;
    check(settings, &grants.subscribe, &limits)?;
    let granted = match demands.role {
        Role::Publisher => &grants.publish,
        Role::Subscriber => &grants.subscribe,
    };
    let matchers: Vec<String> =
        granted.iter().map(|it| format!("{} `{}`", it.kind.as_str(), it.value)).collect();
    let until = match claims.remaining(demands.now) {
        Some(time) => format!("good for another {} seconds", time.as_secs()),
        None => "good for ever".to_owned(),
    };
    Ok(if matchers.is_empty() {
        format!("{until}, grants nothing")
    } else {
        format!("{until}, grants {}", matchers.join(", "))
    })
}

fn check(
    settings: &Settings,
    selectors: &[Selector],
    limits: &MatcherLimits,
) -> Result<(), String> {
    let hub = settings.server.hub_url();
    super::grants::matchers(selectors, &hub, limits)
        .map(|_: Matchers| ())
        .map_err(|it| it.to_string())
}

//! Whether the configured keys protect the gateway.

use super::Keyring;
use crate::settings::Settings;

/// Checks that the keys are usable, and none of them weak where others can reach the gateway.
///
/// # Errors
/// If they are not. The text names the key.
pub(crate) fn check_keys(settings: &Settings) -> Result<(), String> {
    let weak = weak_keys(settings)?;
    let is_reachable = settings.listeners().any(|it| !it.ip().is_loopback());
    match weak.first() {
        Some(weakness) if is_reachable => Err(format!(
            "{weakness}, and the gateway listens on an address that others reach; take a secret \
             from `openssl rand -base64 48`"
        )),
        _ => Ok(()),
    }
}

/// Returns warnings about keys that an operator may not have intended, as sentences. The gateway
/// starts all the same.
#[must_use]
pub(crate) fn doubts(settings: &Settings) -> Vec<String> {
    let mut doubts = weak_keys(settings).unwrap_or_default();
    if !settings.auth.has_publishers() {
        doubts.push("nothing can be published over HTTP: auth.publisher_key is not set".to_owned());
    }
    if settings.cors.loopback_writes && !settings.auth.is_development() {
        doubts.push("cors.loopback_writes has no effect: with keys, tokens decide".to_owned());
    }
    let cookie = &settings.auth.cookie;
    let is_plain = settings.server.public_url.as_ref().is_some_and(|it| it.scheme() == "http");
    if !settings.auth.is_development() && settings.auth.needs_secure_cookie() && is_plain {
        doubts.push(format!(
            "browsers keep the cookie `{cookie}` (auth.cookie) over HTTPS only, but server.public_url is \
             plain HTTP"
        ));
    }
    doubts
}

/// Returns one sentence for each usable but weak key.
fn weak_keys(settings: &Settings) -> Result<Vec<String>, String> {
    Keyring::new(&settings.auth).map(|it| it.weak_keys()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    #[test]
    fn weak_keys_are_refused_where_others_reach_the_gateway() {
        let known = "!ChangeThisMercureHubJWTSecretKey!";
        for (listen, key, named) in [
            ("0.0.0.0:80", "k", "32 bytes"),
            ("0.0.0.0:80", known, "public documentation"),
            ("127.0.0.1:80", "k", ""),
            ("0.0.0.0:80", "0123456789abcdef0123456789abcdef", ""),
        ] {
            let mut settings = Settings::default();
            settings.server.listen = vec![listen.parse().expect("an address")];
            settings.auth.publisher_key = Secret::from(key);
            let outcome = check_keys(&settings).err().unwrap_or_default();
            assert_eq!(outcome.is_empty(), named.is_empty(), "{outcome}");
            assert!(outcome.contains(named), "{outcome}");
        }
    }
}

//! The keys that verify access tokens, by role and by issuer.

use std::{collections::HashMap, fmt, fs, sync::Arc};

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation};
use serde_json::{Map, Value};

use super::{
    flaw::Flaw,
    jwks::{KeySet, KeySets},
};
use crate::settings::{AuthSettings, KeySettings};

/// Algorithms for a key set if the operator does not name any.
const USUAL: [Algorithm; 3] = [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA];

/// The purpose of an access token. Each has its own keys, so an issuer of subscribers' access
/// tokens cannot grant publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Publishing, and every other change.
    Publisher,
    /// Receiving.
    Subscriber,
}

/// All keys of a gateway.
#[derive(Debug)]
pub(crate) struct Keyring {
    /// For access tokens of the old dialect, which name no issuer.
    own: Pair,
    by_issuer: HashMap<String, Pair>,
}

/// An unusable key, described in one sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {reason}")]
pub(crate) struct KeyError {
    setting: String,
    reason: String,
}

/// The keys of one issuer.
#[derive(Debug, Default)]
struct Pair {
    publisher: Option<Verifier>,
    subscriber: Option<Verifier>,
}

/// Verifies the access tokens of one issuer for one role.
#[derive(Clone)]
pub(super) struct Verifier {
    source: Source,
    /// Why others may know or guess the key.
    weakness: Option<&'static str>,
    /// The accepted algorithms, whatever the access token says.
    algorithms: Arc<[Algorithm]>,
}

#[derive(Clone)]
enum Source {
    Key(Arc<DecodingKey>),
    Set(Arc<KeySet>),
}

impl Keyring {
    /// Reads the keys that the settings name. Key sets are fetched when an access token needs them.
    ///
    /// # Errors
    /// If a key cannot be read or does not fit its algorithm.
    pub(crate) fn new(settings: &AuthSettings) -> Result<Self, KeyError> {
        let mut sets = KeySets::new(settings.jwks_interval, settings.jwks_max_age);
        let mut verifier = |name: &str, keys: Option<&KeySettings>| {
            keys.map(|keys| Verifier::new(keys, settings.algorithm, &mut sets))
                .transpose()
                .map_err(|reason| KeyError { setting: name.to_owned(), reason })
        };
        let own = Pair {
            publisher: verifier("auth.publisher_key", settings.publisher().as_ref())?,
            subscriber: verifier("auth.subscriber_key", settings.subscriber().as_ref())?,
        };
        let mut by_issuer = HashMap::new();
        for issuer in &settings.issuers {
            let name = format!("auth.issuers `{}`", issuer.name);
            let error =
                |reason: &str| KeyError { setting: name.clone(), reason: reason.to_owned() };
            // An issuer without keys of its own uses those of `[auth]`.
            let pair = if issuer.publisher.is_none() && issuer.subscriber.is_none() {
                Pair { publisher: own.publisher.clone(), subscriber: own.subscriber.clone() }
            } else {
                Pair {
                    publisher: verifier(&format!("{name}: publisher"), issuer.publisher.as_ref())?,
                    subscriber: verifier(
                        &format!("{name}: subscriber"),
                        issuer.subscriber.as_ref(),
                    )?,
                }
            };
            if issuer.name.is_empty() {
                return Err(error("the name is empty"));
            }
            if pair.publisher.is_none() && pair.subscriber.is_none() {
                return Err(error("it has no keys, and neither has auth"));
            }
            if by_issuer.insert(issuer.name.clone(), pair).is_some() {
                return Err(error("it is given twice"));
            }
        }
        Ok(Self { own, by_issuer })
    }

    /// Returns one sentence for each usable key that others may know or guess.
    #[must_use]
    pub(crate) fn weak_keys(&self) -> Vec<String> {
        let pair = |name: &dyn Fn(&str) -> String, pair: &Pair| -> Vec<String> {
            let roles = [("publisher", &pair.publisher), ("subscriber", &pair.subscriber)];
            roles
                .into_iter()
                .filter_map(|(role, verifier)| {
                    let weakness = verifier.as_ref()?.weakness?;
                    Some(format!("{} {weakness}", name(role)))
                })
                .collect()
        };
        let mut weak = pair(&|role| format!("auth.{role}_key"), &self.own);
        // Issuers without keys of their own use those above, which have been reported already.
        if weak.is_empty() {
            for (issuer, keys) in &self.by_issuer {
                let name = |role: &str| format!("the {role} key of the issuer `{issuer}`");
                weak.extend(pair(&name, keys));
            }
            weak.sort_unstable();
        }
        weak
    }

    /// Returns the keys for access tokens that name no issuer.
    pub(super) fn own(&self, role: Role) -> Option<&Verifier> {
        self.own.of(role)
    }

    /// Checks that an issuer is trusted.
    pub(super) fn check_name(&self, name: &str) -> Result<(), Flaw> {
        if self.by_issuer.contains_key(name) { Ok(()) } else { Err(Flaw::issuer(name)) }
    }

    /// Returns the keys of one issuer. Keys of several issuers are never combined.
    pub(super) fn of_issuer(&self, name: &str, role: Role) -> Result<&Verifier, Flaw> {
        let pair = self.by_issuer.get(name).ok_or_else(|| Flaw::issuer(name))?;
        pair.of(role).ok_or_else(|| Flaw::IssuerRole(name.to_owned()))
    }
}

impl Pair {
    fn of(&self, role: Role) -> Option<&Verifier> {
        match role {
            Role::Publisher => self.publisher.as_ref(),
            Role::Subscriber => self.subscriber.as_ref(),
        }
    }
}

impl Verifier {
    fn new(
        settings: &KeySettings,
        algorithm: Algorithm,
        sets: &mut KeySets,
    ) -> Result<Self, String> {
        let has_key = !settings.key.is_empty();
        let has_file = !settings.key_file.as_os_str().is_empty();
        let algorithms = |default: &[Algorithm]| match settings.algorithms.as_slice() {
            [] => default.into(),
            given => given.into(),
        };
        let of_text = |text: &str| {
            let algorithms: Arc<[_]> = algorithms(&[algorithm]);
            let key = parse_key(text, &algorithms)?;
            let weakness = weakness(text, &algorithms);
            Ok(Self { source: Source::Key(Arc::new(key)), weakness, algorithms })
        };
        match (has_key, has_file, &settings.jwks_url) {
            (true, false, None) => of_text(settings.key.reveal()),
            (false, true, None) => {
                let file = settings.key_file.display();
                let text = fs::read_to_string(&settings.key_file)
                    .map_err(|error| format!("the file {file} cannot be read: {error}"))?;
                if text.trim().is_empty() {
                    return Err(format!("the key file {file} is empty"));
                }
                of_text(text.trim_end_matches(['\r', '\n']))
                    .map_err(|error| format!("the file {file}: {error}"))
            }
            (false, false, Some(url)) => {
                let algorithms: Arc<[_]> = algorithms(&USUAL);
                if algorithms.iter().any(|it| it.family() == AlgorithmFamily::Hmac) {
                    return Err("a key set holds public keys, and HS… needs a secret".to_owned());
                }
                Ok(Self { source: Source::Set(sets.at(url)?), weakness: None, algorithms })
            }
            _ => Err("exactly one of key, key_file and jwks_url has to be given".to_owned()),
        }
    }

    /// Checks the signature. Returns the claims, which are not checked otherwise.
    pub(super) async fn verify(
        &self,
        text: &str,
        header: &Header,
    ) -> Result<Map<String, Value>, Flaw> {
        if !self.algorithms.contains(&header.alg) {
            return Err(Flaw::Algorithm(header.alg));
        }
        match &self.source {
            Source::Key(key) => check_signature(text, key, header.alg),
            Source::Set(set) => {
                let keys = set.keys(header.kid.as_deref(), header.alg).await;
                let mut outcome = Err(Flaw::UnknownKey);
                for key in keys {
                    outcome = check_signature(text, &key, header.alg);
                    if outcome.is_ok() {
                        break;
                    }
                }
                outcome
            }
        }
    }
}

/// Checks only the signature. [`Claims`](super::Claims) checks times, audience and issuer, because
/// numeric dates may have fractions.
fn check_signature(
    text: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<Map<String, Value>, Flaw> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let token = jsonwebtoken::decode(text, key, &validation)
        .map_err(|error| Flaw::Signature(error.to_string()))?;
    Ok(token.claims)
}

/// Returns why others may know or guess a shared secret.
fn weakness(text: &str, algorithms: &[Algorithm]) -> Option<&'static str> {
    /// Shorter secrets can be guessed (RFC 7518, section 3.2).
    const SHORTEST: usize = 32;
    /// Secrets that are printed in documentation, sample files and tutorials.
    const PUBLISHED: [&str; 9] = [
        "!ChangeThisMercureHubJWTSecretKey!",
        "!ChangeMe!",
        "!ChangeThisPublisherJwtKey!",
        "!ChangeThisSubscriberJwtKey!",
        "your-256-bit-secret",
        "your-384-bit-secret",
        "your-512-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    ];
    if algorithms.iter().all(|it| it.family() != AlgorithmFamily::Hmac) {
        return None;
    }
    if PUBLISHED.contains(&text) {
        return Some("is printed in public documentation");
    }
    (text.len() < SHORTEST).then_some("is shorter than 32 bytes, so that it may be guessed")
}

fn parse_key(text: &str, algorithms: &[Algorithm]) -> Result<DecodingKey, String> {
    let family = algorithms.first().map(|it| it.family()).ok_or("there is no algorithm")?;
    if algorithms.iter().any(|it| it.family() != family) {
        return Err("its algorithms need keys of different kinds".to_owned());
    }
    if text.trim().is_empty() {
        return Err("the key is empty".to_owned());
    }
    let is_pem = text.trim_start().starts_with("-----BEGIN");
    if family == AlgorithmFamily::Hmac {
        // A public key must not act as a shared secret: every client that knows it could sign.
        return if is_pem {
            Err("a PEM key is no shared secret; set the algorithm to that of the key".to_owned())
        } else {
            Ok(DecodingKey::from_secret(text.as_bytes()))
        };
    }
    if !is_pem {
        return Err("the key is not PEM, as its algorithm demands".to_owned());
    }
    if text.contains("PRIVATE KEY") {
        return Err("this is a private key; the gateway needs the public one".to_owned());
    }
    // Values in environment files cannot contain line ends.
    let pem = text.replace("\\n", "\n");
    let pem = pem.as_bytes();
    match family {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
        AlgorithmFamily::Hmac => Ok(DecodingKey::from_secret(pem)),
    }
    .map_err(|error| format!("the key does not fit its algorithm: {error}"))
}

impl fmt::Debug for Verifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Verifier").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{IssuerSettings, Secret};

    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMKBCTNIcKUSDii11ySs3526iDZ8A\niTo7Tu6KPAqv7D7gS2XpJFbZiItSs3m9+9Ue6GnvHw/GW2ZZaVtszggXIw==\n-----END PUBLIC KEY-----\n";

    fn with(key: &str, algorithm: Algorithm) -> Result<Keyring, String> {
        let settings =
            AuthSettings { publisher_key: Secret::from(key), algorithm, ..AuthSettings::default() };
        Keyring::new(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_has_to_fit_its_algorithm() {
        assert!(with("secret", Algorithm::HS256).is_ok());
        assert!(with(PUBLIC, Algorithm::ES256).is_ok());
        assert!(with(&PUBLIC.replace('\n', "\\n"), Algorithm::ES256).is_ok());
        for (key, algorithm, named) in [
            (" ", Algorithm::HS256, "empty"),
            (PUBLIC, Algorithm::HS256, "PEM"),
            (PUBLIC, Algorithm::RS256, "fit"),
            ("secret", Algorithm::EdDSA, "not PEM"),
            ("-----BEGIN PRIVATE KEY-----", Algorithm::ES256, "private"),
        ] {
            let error = with(key, algorithm).expect_err("refused");
            assert!(error.contains("auth.publisher_key") && error.contains(named), "{error}");
        }
    }

    #[test]
    fn issuers_have_keys_for_roles_and_names_of_their_own() {
        let issuer = |name: &str| IssuerSettings { name: name.to_owned(), ..Default::default() };
        let settings = AuthSettings {
            publisher_key: Secret::from("secret"),
            issuers: vec![issuer("https://a.test")],
            ..AuthSettings::default()
        };
        let keyring = Keyring::new(&settings).expect("valid");
        assert!(keyring.of_issuer("https://a.test", Role::Publisher).is_ok());
        assert!(keyring.of_issuer("https://a.test", Role::Subscriber).is_err());
        assert!(keyring.of_issuer("https://a.test/", Role::Publisher).is_err());
        let twice = AuthSettings { issuers: vec![issuer("a"), issuer("a")], ..settings.clone() };
        assert!(Keyring::new(&twice).is_err());
        let without = AuthSettings { publisher_key: Secret::default(), ..settings };
        assert!(Keyring::new(&without).is_err());
    }
}

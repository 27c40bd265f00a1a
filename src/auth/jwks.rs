//! Key sets of other servers (RFC 7517): fetched on demand, cached while fresh, with a limited
//! request rate.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse},
};
use reqwest::{Client, header::CACHE_CONTROL, redirect::Policy};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::{info, warn};
use url::Url;

/// Time limit for a complete reply.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes of a key set.
const LONGEST: usize = 256 * 1024;

/// The most keys of a set. An access token without a key id may have to be tried with each.
const MOST_KEYS: usize = 32;

/// How long a set is fresh if its server does not say, and at most.
const USUAL_AGE: Duration = Duration::from_secs(3600);
const LONGEST_AGE: Duration = Duration::from_secs(24 * 3600);

/// All key sets of a gateway, one per address.
pub(super) struct KeySets {
    interval: Duration,
    max_age: Duration,
    by_url: HashMap<Url, Arc<KeySet>>,
}

/// The keys at one address.
pub(super) struct KeySet {
    url: Url,
    client: Client,
    interval: Duration,
    max_age: Duration,
    kept: Mutex<Kept>,
    /// Held by the task that fetches. Other tasks wait for its result.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    keys: Arc<[Key]>,
    attempted: Option<Instant>,
    fetched: Option<Instant>,
    /// When the keys should be fetched again. They are used until then, and for a while after a
    /// failure.
    stale: Option<Instant>,
}

#[derive(Clone)]
struct Key {
    id: Option<String>,
    /// The algorithm that the set declares for the key, if any.
    algorithm: Option<Algorithm>,
    key: Arc<DecodingKey>,
}

impl KeySets {
    /// Each set is fetched at most once per `interval`, and used for at most `max_age` while
    /// fetching fails.
    pub(super) fn new(interval: Duration, max_age: Duration) -> Self {
        Self { interval, max_age, by_url: HashMap::new() }
    }

    /// Returns the set at `url`, which all its users share.
    pub(super) fn at(&mut self, url: &Url) -> Result<Arc<KeySet>, String> {
        if let Some(set) = self.by_url.get(url) {
            return Ok(set.clone());
        }
        // No redirects: only this address is trusted, not what it refers to.
        let mut builder = Client::builder().timeout(TIMEOUT).redirect(Policy::none());
        // No certificates for plain HTTP: small containers do not have any.
        if url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let client =
            builder.build().map_err(|error| format!("there is no HTTP client: {error}"))?;
        let set = Arc::new(KeySet {
            url: url.clone(),
            client,
            interval: self.interval,
            max_age: self.max_age,
            kept: Mutex::default(),
            fetching: tokio::sync::Mutex::new(()),
        });
        self.by_url.insert(url.clone(), set.clone());
        Ok(set)
    }
}

impl KeySet {
    /// Returns the keys that may verify an access token. Fetches the set if there is none or it is
    /// stale.
    pub(super) async fn keys(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Vec<Arc<DecodingKey>> {
        let (found, is_stale) = self.find(id, algorithm);
        if !found.is_empty() && !is_stale {
            return found;
        }
        // A separate task: a client that disconnects must not leave the set without keys for the
        // interval.
        let fetching = tokio::spawn(self.clone().refresh());
        if !found.is_empty() {
            return found;
        }
        // The task does not panic, and if the runtime ends, no client waits for the answer.
        let _ = fetching.await;
        self.find(id, algorithm).0
    }

    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> (Vec<Arc<DecodingKey>>, bool) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |key: &&Key| {
            key.key.family() == algorithm.family()
                && key.algorithm.is_none_or(|it| it == algorithm)
                && id.is_none_or(|id| key.id.as_deref() == Some(id))
        };
        let is_usable = kept.fetched.is_some_and(|it| it.elapsed() <= self.max_age);
        let keys = kept.keys.iter().filter(|_| is_usable);
        let keys = keys.filter(fits).map(|it| it.key.clone()).collect();
        (keys, kept.stale.is_none_or(|it| it <= Instant::now()))
    }

    /// Fetches the set, unless that was attempted less than an interval ago.
    async fn refresh(self: Arc<Self>) {
        let _alone = self.fetching.lock().await;
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.attempted.is_some_and(|it| it.elapsed() < self.interval) {
                return;
            }
            kept.attempted = Some(Instant::now());
        }
        match self.fetch().await {
            Ok((keys, age)) => {
                info!(url = %self.url, keys = keys.len(), "key set fetched");
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.keys = keys.into();
                kept.fetched = Some(Instant::now());
                kept.stale = Some(Instant::now() + fresh_for(age, self.interval));
            }
            Err(reason) => {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.fetched.is_some_and(|it| it.elapsed() <= self.max_age) {
                    warn!(url = %self.url, reason, "key set cannot be fetched; the last one is kept");
                } else {
                    kept.keys = Arc::default();
                    warn!(
                        url = %self.url, reason,
                        "key set cannot be fetched; its tokens are refused (auth.jwks_max_age)"
                    );
                }
            }
        }
    }

    async fn fetch(&self) -> Result<(Vec<Key>, Duration), String> {
        let text = |error: reqwest::Error| error.without_url().to_string();
        let mut response = self.client.get(self.url.clone()).send().await.map_err(text)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("the answer is {}", response.status()));
        }
        let header = response.headers().get(CACHE_CONTROL).and_then(|it| it.to_str().ok());
        let age = header.and_then(max_age).unwrap_or(USUAL_AGE);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(text)? {
            if LONGEST < body.len() + chunk.len() {
                return Err(format!("the set is longer than {LONGEST} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((parse(&body)?, age))
    }
}

/// Returns how long a set is fresh whose server says `age`. At least an interval, even if
/// `auth.jwks_interval` is longer than [`LONGEST_AGE`].
fn fresh_for(age: Duration, interval: Duration) -> Duration {
    age.min(LONGEST_AGE).max(interval)
}

fn max_age(header: &str) -> Option<Duration> {
    let seconds = header.split(',').find_map(|it| it.trim().strip_prefix("max-age="));
    seconds?.parse().ok().map(Duration::from_secs)
}

#[derive(Deserialize)]
struct KeySetDocument<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// Returns the keys that can verify signatures. Other keys and unknown types are skipped.
fn parse(body: &[u8]) -> Result<Vec<Key>, String> {
    let document: KeySetDocument<'_> =
        serde_json::from_slice(body).map_err(|error| format!("it is not a key set: {error}"))?;
    if MOST_KEYS < document.keys.len() {
        return Err(format!("it has more than {MOST_KEYS} keys"));
    }
    let keys: Vec<Key> = document
        .keys
        .iter()
        .filter_map(|raw| serde_json::from_str::<Jwk>(raw.get()).ok())
        .filter_map(|jwk| usable(&jwk))
        .collect();
    if keys.is_empty() { Err("it has no key for signatures".to_owned()) } else { Ok(keys) }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let common = &jwk.common;
    let is_for_signatures = match (&common.public_key_use, &common.key_operations) {
        (Some(PublicKeyUse::Signature), _) | (None, None) => true,
        (None, Some(operations)) => operations.contains(&KeyOperations::Verify),
        (Some(_), _) => false,
    };
    // A published secret is not a secret.
    let is_public = !matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
    if !is_for_signatures || !is_public {
        return None;
    }
    let algorithm = match common.key_algorithm {
        None => None,
        Some(named) => Some(named.to_string().parse().ok()?),
    };
    let key = DecodingKey::from_jwk(jwk).ok().filter(|it| it.family() != AlgorithmFamily::Hmac)?;
    Some(Key { id: common.key_id.clone(), algorithm, key: Arc::new(key) })
}

impl fmt::Debug for KeySet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KeySet").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: &str = r#"{"kty":"EC","crv":"P-256","kid":"a","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;

    #[test]
    fn only_public_keys_for_signatures_are_taken() {
        let set = |keys: &str| parse(format!("{{\"keys\":[{keys}]}}").as_bytes());
        assert_eq!(set(EC).expect("valid").len(), 1);
        let others = [
            EC.replace("\"kid\"", "\"use\":\"enc\",\"kid\""),
            EC.replace("\"kid\"", "\"key_ops\":[\"encrypt\"],\"kid\""),
            EC.replace("\"kid\"", "\"alg\":\"ES256K\",\"kid\""),
            r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(),
            r#"{"kty":"unknown"}"#.to_owned(),
        ];
        for other in &others {
            assert!(set(other).is_err(), "{other}");
            assert_eq!(set(&format!("{other},{EC}")).expect("valid").len(), 1, "{other}");
        }
        assert!(set(&vec![EC; MOST_KEYS + 1].join(",")).is_err());
        for bad in ["", "[]", "{}", "{\"keys\":{}}", "\u{0}"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_is_fresh_for_a_day_at_most_and_an_interval_at_least() {
        let hours = |it: u64| Duration::from_secs(it * 3600);
        assert_eq!(fresh_for(hours(2), hours(1)), hours(2));
        assert_eq!(fresh_for(hours(0), hours(1)), hours(1));
        assert_eq!(fresh_for(hours(48), hours(1)), LONGEST_AGE);
        assert_eq!(fresh_for(hours(48), hours(25)), hours(25));
    }

    #[test]
    fn ages_are_read_from_cache_control() {
        assert_eq!(max_age("public, max-age=60"), Some(Duration::from_secs(60)));
        assert_eq!(max_age("no-store"), None);
        assert_eq!(max_age("max-age=x"), None);
    }
}

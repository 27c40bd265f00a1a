//! The rights of a request.

use std::{hash::BuildHasher as _, time::Instant};

use actix_web::HttpRequest;
use jiff::Timestamp;
use serde_json::Value;
use tidegate_core::{
    event::{Invalid, Topic},
    matching::{Matchers, Rights},
};
use tracing::warn;

use super::{metadata::metadata_url, presentation, problem::Problem};
use crate::{
    auth::{
        Claims, Dialect, Flaw, Identity, Profile, Role,
        access_token::{self, Demands},
        matchers,
    },
    gateway::Gateway,
    settings::WildcardGrants,
    telemetry::{Line, metrics::OldFeature},
};

/// A client that may publish.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// The granted matchers. `None` in development mode, where everything is granted.
    granted: Option<Matchers>,
    identity: Identity,
    gateway: Gateway,
    metadata_url: String,
}

/// A client that may receive.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) rights: Rights,
    gateway: Gateway,
    /// The rest of what its access token says. Empty unless subscriptions are announced.
    pub(crate) profile: Profile,
    /// Whether it lacks an access token and needs one for everything but jobs whose ids it knows.
    is_uninvited: bool,
    /// When the access token expires and the stream must end.
    pub(crate) expires: Option<Instant>,
    /// The subject of the access token.
    pub(crate) user: Option<Box<str>>,
    /// A hash of the access token, to notice another one.
    pub(crate) tag: u64,
    metadata_url: String,
}

/// Authenticates the publisher of a request.
///
/// # Errors
/// If there is no access token, or if it is invalid.
pub(crate) async fn publisher(request: &HttpRequest) -> Result<Publisher, Problem> {
    let gateway = Gateway::of(request);
    let metadata_url = metadata_url(request, gateway.settings());
    if gateway.settings().auth.is_development() {
        let identity = Identity::development();
        return Ok(Publisher { granted: None, identity, gateway, metadata_url });
    }
    match bearer(request, &gateway, Role::Publisher).await? {
        Some(bearer) => {
            let issuer = bearer.claims.all().get("iss").and_then(Value::as_str);
            let has_own_keys = gateway.settings().auth.issuers.iter().any(|it| {
                issuer == Some(&*it.name) && (it.publisher.is_some() || it.subscriber.is_some())
            });
            let identity = Identity::of_claims(&bearer.claims, has_own_keys);
            Ok(Publisher { granted: Some(bearer.granted), identity, gateway, metadata_url })
        }
        None => Err(missing(&gateway, &metadata_url)),
    }
}

/// Authenticates the subscriber of a request. Without an access token, or without grants in it, it
/// may receive public events only.
///
/// # Errors
/// If the access token is invalid: a subscriber must not become anonymous by mistake.
pub(crate) async fn subscriber(request: &HttpRequest) -> Result<Subscriber, Problem> {
    let gateway = Gateway::of(request);
    let metadata_url = metadata_url(request, gateway.settings());
    if gateway.settings().auth.is_development() {
        return Ok(anonymous(request));
    }
    let Some(bearer) = bearer(request, &gateway, Role::Subscriber).await? else {
        return Ok(anonymous(request));
    };
    let mut profile = Profile::default();
    if gateway.settings().mercure.subscriptions {
        let (hub, limits) = (gateway.hub_url(), gateway.matcher_limits());
        profile = Profile::of(&bearer.claims, hub, limits)
            .map_err(|invalid| Problem::parameter(&invalid))?;
    }
    let remaining = bearer.claims.remaining(Timestamp::now());
    let user = bearer.claims.all().get("sub").and_then(Value::as_str).map(Into::into);
    Ok(Subscriber {
        user,
        tag: bearer.tag,
        rights: Rights::Of(bearer.granted),
        gateway,
        profile,
        is_uninvited: false,
        expires: remaining.and_then(|it| Instant::now().checked_add(it)),
        metadata_url,
    })
}

/// What a client may do, by the access token of one of its requests.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// What it may receive.
    pub(crate) rights: Rights,
    /// What it may publish; `None` in development mode, where everything is granted.
    publish: Option<Matchers>,
    /// The subject of the access token.
    pub(crate) user: Option<Box<str>>,
    /// When the access token expires.
    pub(crate) expires: Option<Instant>,
    /// A hash of the access token, to notice another one.
    pub(crate) tag: u64,
    metadata_url: String,
}

/// Authenticates the client of a request that acts. Its access token counts for what either key
/// grants.
///
/// # Errors
/// If the access token is invalid, or if one is needed and there is none.
pub(crate) async fn visitor(request: &HttpRequest) -> Result<Visitor, Problem> {
    let gateway = Gateway::of(request);
    let metadata_url = metadata_url(request, gateway.settings());
    let auth = &gateway.settings().auth;
    let without = |rights, publish| Visitor {
        rights,
        publish,
        user: None,
        expires: None,
        tag: 0,
        metadata_url: metadata_url.clone(),
    };
    if auth.is_development() {
        return Ok(without(Rights::Everything, None));
    }
    let as_subscriber = bearer(request, &gateway, Role::Subscriber).await;
    let as_publisher = bearer(request, &gateway, Role::Publisher).await;
    let (subscribe, publish) = match (as_subscriber, as_publisher) {
        (Ok(None), Ok(None)) if auth.anonymous => {
            return Ok(without(Rights::PublicOnly, Some(Matchers::default())));
        }
        (Ok(None), Ok(None)) => return Err(missing(&gateway, &metadata_url)),
        (Err(problem), Err(_)) => return Err(problem),
        (subscribe, publish) => (subscribe.ok().flatten(), publish.ok().flatten()),
    };
    let valid = subscribe.as_ref().or(publish.as_ref());
    let (claims, tag) = (valid.map(|it| &it.claims), valid.map_or(0, |it| it.tag));
    let user = claims.and_then(|it| it.all().get("sub")).and_then(Value::as_str).map(Into::into);
    let remaining = claims.and_then(|it| it.remaining(Timestamp::now()));
    Ok(Visitor {
        user,
        expires: remaining.and_then(|it| Instant::now().checked_add(it)),
        rights: Rights::Of(subscribe.map(|it| it.granted).unwrap_or_default()),
        publish: Some(publish.map(|it| it.granted).unwrap_or_default()),
        tag,
        metadata_url,
    })
}

impl Visitor {
    /// Whether it may receive what is published under `topic`, by a grant.
    pub(crate) fn may_subscribe(&self, topic: &Topic) -> bool {
        match &self.rights {
            Rights::Everything => true,
            Rights::PublicOnly => false,
            Rights::Of(granted) => granted.matches(topic),
        }
    }

    /// Whether it may publish under `topic`, by a grant.
    pub(crate) fn may_publish(&self, topic: &Topic) -> bool {
        self.publish.as_ref().is_none_or(|granted| granted.matches(topic))
    }

    /// Whether an operating right is granted by its exact name.
    pub(crate) fn operates(&self, right: &Topic) -> bool {
        self.publish.as_ref().is_none_or(|granted| granted.names(right))
    }

    /// Returns the problem that something is not granted.
    pub(crate) fn not_granted(&self, detail: String) -> Problem {
        Problem::not_granted(&self.metadata_url, detail)
    }
}

/// Returns the subscriber of a request and ignores any access token: a reply that every page can
/// read must not depend on cookies.
pub(crate) fn anonymous(request: &HttpRequest) -> Subscriber {
    let gateway = Gateway::of(request);
    let auth = &gateway.settings().auth;
    Subscriber {
        rights: if auth.is_development() { Rights::Everything } else { Rights::PublicOnly },
        profile: Profile::default(),
        is_uninvited: !auth.is_development() && !auth.anonymous,
        expires: None,
        user: None,
        tag: 0,
        metadata_url: metadata_url(request, gateway.settings()),
        gateway: gateway.clone(),
    }
}

impl Publisher {
    /// Returns the publisher's identity.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Checks that all topics are granted.
    ///
    /// # Errors
    /// If one of them is not granted.
    pub(crate) fn check(&self, topics: &[Topic]) -> Result<(), Problem> {
        let Some(granted) = &self.granted else { return Ok(()) };
        match topics.iter().find(|it| !granted.matches(it)) {
            None => {
                let of_jobs = topics.iter().filter(|it| it.is_of_jobs());
                of_jobs.for_each(|topic| warn_of_wildcard(granted, topic, &self.gateway));
                Ok(())
            }
            Some(topic) => {
                let topic: String = topic.as_str().chars().take(200).collect();
                let detail = format!("the token does not grant to publish under `{topic}`");
                Err(Problem::not_granted(&self.metadata_url, detail))
            }
        }
    }
}

impl Subscriber {
    /// Checks that it may subscribe at all. Knowing the unguessable id of a job is the permission
    /// to see it, without an access token.
    ///
    /// # Errors
    /// If an access token is needed.
    pub(crate) fn check_matchers(&self, matchers: &Matchers) -> Result<(), Problem> {
        let names_only_jobs = !matchers.is_everything()
            && matchers.patterns().is_empty()
            && matchers.topics().iter().all(Topic::is_job);
        if self.is_uninvited && !names_only_jobs {
            return Err(missing(&self.gateway, &self.metadata_url));
        }
        Ok(())
    }

    /// Whether it lacks an access token and needs one for everything but jobs whose ids it knows.
    pub(crate) fn is_stranger(&self) -> bool {
        self.is_uninvited
    }

    /// Returns the problem that an access token is needed.
    pub(crate) fn access_token_missing(&self) -> Problem {
        missing(&self.gateway, &self.metadata_url)
    }

    /// Returns the problem for a bad request. A stranger learns only that it needs an access token.
    pub(crate) fn refuse(&self, problem: Problem) -> Problem {
        if self.is_uninvited { missing(&self.gateway, &self.metadata_url) } else { problem }
    }

    /// Checks that a topic is granted, whether or not its events are public.
    ///
    /// # Errors
    /// If it is not granted.
    pub(crate) fn check(&self, topic: &Topic) -> Result<(), Problem> {
        let is_granted = match &self.rights {
            Rights::Everything => true,
            Rights::PublicOnly => return Err(missing(&self.gateway, &self.metadata_url)),
            Rights::Of(granted) => granted.matches(topic),
        };
        if is_granted {
            if let Rights::Of(granted) = &self.rights {
                warn_of_wildcard(granted, topic, &self.gateway);
            }
            return Ok(());
        }
        let detail = format!("the token does not grant to subscribe to `{}`", topic.as_str());
        Err(Problem::not_granted(&self.metadata_url, detail))
    }

    /// Checks that an operating right is granted by its exact name. Neither `*` nor a pattern
    /// grants it.
    ///
    /// # Errors
    /// If it is not granted.
    pub(crate) fn check_operator(&self, right: &'static str) -> Result<(), Problem> {
        match &self.rights {
            Rights::Everything => Ok(()),
            Rights::PublicOnly => Err(missing(&self.gateway, &self.metadata_url)),
            Rights::Of(granted) if granted.names(&Topic::kept(right)) => Ok(()),
            Rights::Of(_) => {
                let detail =
                    format!("the token does not grant to subscribe to `{right}` by this name");
                Err(Problem::not_granted(&self.metadata_url, detail))
            }
        }
    }
}

/// A hash of an access token, which is not 0.
fn tag(access_token: &str) -> u64 {
    foldhash::fast::FixedState::default().hash_one(access_token).max(1)
}

/// Returns the problem that an access token is needed. The metadata's URL has the scheme with which
/// the client reached the gateway.
fn missing(gateway: &Gateway, metadata_url: &str) -> Problem {
    let auth = &gateway.settings().auth;
    let is_kept = auth.needs_secure_cookie() && metadata_url.starts_with("http:");
    Problem::access_token_missing(metadata_url, is_kept.then_some(auth.cookie.as_str()))
}

/// Logs a warning if the right to jobs comes from a matcher that does not name jobs.
fn warn_of_wildcard(granted: &Matchers, topic: &Topic, gateway: &Gateway) {
    if granted.names_jobs(topic) || gateway.job_grant_lines().ask(Instant::now()) == Line::LeaveOut
    {
        return;
    }
    warn!(
        "a token's grant on `*` or on a pattern that does not begin with /jobs was used for jobs; the next release \
         refuses this: name /jobs, /jobs/claim or /jobs/:id in the token (jobs.wildcard_grants)"
    );
}

/// A valid access token, and what it grants for a role.
struct Bearer {
    claims: Claims,
    granted: Matchers,
    /// A hash of the access token.
    tag: u64,
}

async fn bearer(
    request: &HttpRequest,
    gateway: &Gateway,
    role: Role,
) -> Result<Option<Bearer>, Problem> {
    let settings = gateway.settings();
    let metadata_url = || metadata_url(request, settings);
    let access_token = presentation::access_token(request, gateway)
        .map_err(|error| Problem::access_token_unpresentable(&metadata_url(), error.to_string()))?;
    let Some(access_token) = access_token else { return Ok(None) };
    let demands = Demands {
        role,
        mercure: &settings.mercure,
        speaks_old_dialect: settings.speaks_old_dialect(),
        audiences: &settings.audiences(),
        access_token_bytes: settings.auth.token_bytes,
        now: Timestamp::now(),
    };
    let refused = |flaw: Flaw| match flaw {
        Flaw::Expired => Problem::access_token_expired(&metadata_url(), flaw.to_string()),
        _ => Problem::access_token_invalid(&metadata_url(), flaw.to_string()),
    };
    let claims =
        access_token::verify(gateway.keyring(), &access_token, &demands).await.map_err(refused)?;
    let selectors = claims.grants(gateway.matcher_limits().matchers).map_err(refused)?;
    // Parses both lists, so that validity does not depend on what the access token is used for.
    let refused =
        |invalid: Invalid| Problem::access_token_invalid(&metadata_url(), invalid.to_string());
    let (hub, limits) = (gateway.hub_url(), gateway.matcher_limits());
    let publish = matchers(&selectors.publish, hub, limits).map_err(refused)?;
    let subscribe = matchers(&selectors.subscribe, hub, limits).map_err(refused)?;
    if claims.dialect() == Dialect::Old {
        gateway.metrics().old_dialect(OldFeature::AccessToken);
    }
    let granted = match role {
        Role::Publisher => publish,
        Role::Subscriber => subscribe,
    };
    let granted = match settings.jobs.wildcard_grants {
        WildcardGrants::Warn => granted,
        WildcardGrants::Refuse => granted.naming_jobs(),
    };
    Ok(Some(Bearer { claims, granted, tag: tag(&access_token) }))
}

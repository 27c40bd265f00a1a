//! The data of an access token that announcements of its bearer's subscriptions contain.

use std::sync::Arc;

use serde_json::{Value, value::RawValue};
use tidegate_core::{
    event::{Invalid, Topic},
    matching::{Matcher, MatcherLimits, Matchers},
};
use url::Url;

use super::{
    claims::{Claims, Dialect},
    grants::{self, DETAIL, OLD_CLAIMS, Selector},
};

/// What is known of a subscriber in addition to its rights.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profile {
    /// The dialect of its access token, if it has one.
    pub(crate) dialect: Option<Dialect>,
    /// The subject of the access token (`sub`).
    pub(crate) subject: Option<Box<str>>,
    /// The details that grant subscribing, in their order: matchers, and the payload to announce.
    payloads: Vec<(Matchers, Option<Arc<RawValue>>)>,
}

impl Profile {
    /// Reads a profile from claims whose grants are valid.
    pub(crate) fn of(claims: &Claims, hub: &Url, limits: &MatcherLimits) -> Result<Self, Invalid> {
        let payloads = match claims.dialect() {
            Dialect::Modern => modern(claims, hub, limits)?,
            Dialect::Old => old(claims),
        };
        let subject = claims.all().get("sub").and_then(Value::as_str).map(Into::into);
        Ok(Self { dialect: Some(claims.dialect()), subject, payloads })
    }

    /// Returns the payload to announce with a matcher. It comes from the first detail that grants
    /// the matcher, read as a topic (draft-08, "Active subscriptions").
    pub(crate) fn payload_for(&self, matcher: &str) -> Option<Arc<RawValue>> {
        if self.payloads.is_empty() {
            return None;
        }
        let topic = Topic::parse(matcher, usize::MAX).ok()?;
        let (_, payload) = self.payloads.iter().find(|(granted, _)| granted.matches(&topic))?;
        payload.clone()
    }
}

type Payloads = Vec<(Matchers, Option<Arc<RawValue>>)>;

fn modern(claims: &Claims, hub: &Url, limits: &MatcherLimits) -> Result<Payloads, Invalid> {
    let details = claims.all().get("authorization_details").and_then(Value::as_array);
    let is_subscribe = |detail: &&Value| {
        let has = |list: &Vec<Value>| list.iter().any(|it| it == "subscribe");
        detail.get("type").is_some_and(|it| it == DETAIL)
            && detail.get("actions").and_then(Value::as_array).is_some_and(has)
    };
    let details: Vec<&Value> = details.into_iter().flatten().filter(is_subscribe).collect();
    if details.iter().all(|it| it.get("payload").is_none()) {
        return Ok(Vec::new());
    }
    let payloads = details.into_iter().map(|detail| {
        let topics = detail.get("topics").and_then(Value::as_array);
        let selectors: Vec<Selector> =
            topics.into_iter().flatten().filter_map(grants::typed).collect();
        Ok((grants::matchers(&selectors, hub, limits)?, detail.get("payload").and_then(raw)))
    });
    payloads.collect()
}

/// Reads the old dialect's payload, which applies to every matcher.
fn old(claims: &Claims) -> Payloads {
    let claim = OLD_CLAIMS.iter().rev().find_map(|it| claims.all().get(*it)?.as_object());
    let payload = claim.and_then(|it| it.get("payload")).and_then(raw);
    let everything = || Matchers::new([Matcher::Everything]);
    payload.map(|payload| (everything(), Some(payload))).into_iter().collect()
}

fn raw(payload: &Value) -> Option<Arc<RawValue>> {
    serde_json::value::to_raw_value(payload).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::Settings;

    fn profile(dialect: Dialect, claims: &Value) -> Profile {
        let settings = Settings::default();
        let claims = Claims::new(dialect, claims.as_object().expect("an object").clone());
        let limits = settings.limits.matcher_limits();
        Profile::of(&claims, &settings.server.hub_url(), &limits).expect("good claims")
    }

    fn told(profile: &Profile, matcher: &str) -> Option<String> {
        profile.payload_for(matcher).map(|it| it.get().to_owned())
    }

    #[test]
    fn the_first_detail_that_grants_a_matcher_tells_the_payload() {
        let detail = |actions: Value, topic: &str, payload: Option<Value>| {
            let topics = json!([{ "match": topic, "match_type": if topic == "*" { "exact" } else { "urlpattern" } }]);
            let mut detail = json!({ "type": DETAIL, "actions": actions, "topics": topics });
            if let Some(payload) = payload {
                detail["payload"] = payload;
            }
            detail
        };
        let profile = profile(
            Dialect::Modern,
            &json!({ "sub": "me", "authorization_details": [
                detail(json!(["publish"]), "*", Some(json!({ "no": 1 }))),
                detail(json!(["subscribe"]), "https://a.example/:id", Some(json!({ "a": 1 }))),
                detail(json!(["subscribe"]), "https://b.example/:id", None),
                detail(json!(["publish", "subscribe"]), "*", Some(json!({ "all": 1 }))),
            ] }),
        );
        assert_eq!(told(&profile, "https://a.example/1").as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(told(&profile, "https://b.example/1"), None);
        assert_eq!(told(&profile, "*").as_deref(), Some(r#"{"all":1}"#));
        assert_eq!(profile.subject.as_deref(), Some("me"));
    }

    #[test]
    fn the_old_dialect_has_one_payload() {
        let claims = json!({ "mercure": { "payload": { "x": 1 } } });
        assert_eq!(told(&profile(Dialect::Old, &claims), "a").as_deref(), Some(r#"{"x":1}"#));
        assert_eq!(told(&profile(Dialect::Old, &json!({})), "a"), None);
    }
}

//! The grants of an access token: matchers for publishing and receiving, in the syntax of both
//! dialects.

use serde_json::{Map, Value};

use super::flaw::Flaw;
use tidegate_core::{
    event::{Invalid, Topic},
    matching::{MatcherKind, MatcherLimits, Matchers},
};
use url::Url;

/// The type of Mercure's authorization details (draft-08, "Authorization").
pub(crate) const DETAIL: &str = "https://mercure.rocks/authorization-detail";

/// The claims of the old dialect. The second takes precedence.
pub(super) const OLD_CLAIMS: [&str; 2] = ["mercure", "https://mercure.rocks/"];

/// A matcher as written in an access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector {
    /// The type of the matcher.
    pub kind: MatcherKind,
    /// The text.
    pub value: String,
}

/// Everything that an access token grants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selectors {
    /// What its bearer may publish under.
    pub publish: Vec<Selector>,
    /// The private events that its bearer may receive.
    pub subscribe: Vec<Selector>,
}

/// Reads the grants of a draft-08 access token. One malformed detail invalidates all of it. Details
/// of other types are ignored.
pub(super) fn modern(claims: &Map<String, Value>, limit: usize) -> Result<Selectors, Flaw> {
    let flaw = |rule: &str| Flaw::Claim { claim: "authorization_details", rule: rule.to_owned() };
    let details = match claims.get("authorization_details") {
        None | Some(Value::Null) => return Ok(Selectors::default()),
        Some(details) => details.as_array().ok_or_else(|| flaw("is not an array"))?,
    };
    let mut selectors = Selectors::default();
    let mut count = 0;
    let is_ours = |it: &&Value| it.get("type").and_then(Value::as_str) == Some(DETAIL);
    for detail in details.iter().filter(is_ours) {
        let list = |name: &str, rule: &str| {
            let list = detail.get(name).and_then(Value::as_array);
            list.filter(|it| !it.is_empty()).ok_or_else(|| flaw(rule))
        };
        let (mut may_publish, mut may_subscribe) = (false, false);
        for action in list("actions", "has a detail without actions")? {
            match action.as_str() {
                Some("publish") => may_publish = true,
                Some("subscribe") => may_subscribe = true,
                Some(_) => {}
                None => return Err(flaw("has an action that is not a string")),
            }
        }
        if detail.get("payload").is_some_and(|it| !it.is_object()) {
            return Err(flaw("has a payload that is not an object"));
        }
        let topics = list("topics", "has a detail without topics")?;
        // The limit is for the access token as a whole, not for each detail.
        count += topics.len();
        if limit < count {
            return Err(flaw(&format!("has more than {limit} topics (limits.matchers)")));
        }
        for topic in topics {
            let selector = typed(topic).ok_or_else(|| flaw("has a topic that is no matcher"))?;
            if may_publish {
                selectors.publish.push(selector.clone());
            }
            if may_subscribe {
                selectors.subscribe.push(selector);
            }
        }
    }
    Ok(selectors)
}

pub(super) fn typed(topic: &Value) -> Option<Selector> {
    let value = topic.get("match")?.as_str().filter(|it| !it.is_empty())?;
    let kind = match topic.get("match_type") {
        None => "exact",
        Some(kind) => kind.as_str()?,
    };
    Some(Selector { kind: MatcherKind::from_type(kind)?, value: value.to_owned() })
}

/// Reads the grants of a draft-07 access token: two lists of topic selectors.
pub(super) fn old(claims: &Map<String, Value>, limit: usize) -> Result<Selectors, Flaw> {
    let mut selectors = Selectors::default();
    for claim in OLD_CLAIMS {
        let flaw = |rule: &str| Flaw::Claim { claim, rule: rule.to_owned() };
        let grants = match claims.get(claim) {
            None | Some(Value::Null) => continue,
            Some(grants) => grants.as_object().ok_or_else(|| flaw("is not an object"))?,
        };
        let list = |name: &str| match grants.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) if list.len() <= limit => list
                .iter()
                .map(|it| it.as_str().ok_or_else(|| flaw("has a selector that is not a string")))
                .map(|it| {
                    it.map(|it| Selector { kind: MatcherKind::Selector, value: it.to_owned() })
                })
                .collect(),
            Some(Value::Array(_)) => {
                Err(flaw(&format!("has more than {limit} selectors (limits.matchers)")))
            }
            Some(_) => Err(flaw("has a list of selectors that is no list")),
        };
        selectors = Selectors { publish: list("publish")?, subscribe: list("subscribe")? };
    }
    Ok(selectors)
}

/// Parses selectors to matchers. Skips a selector of the old dialect that no topic could match, as
/// that dialect always has.
pub(crate) fn matchers(
    selectors: &[Selector],
    hub: &Url,
    limits: &MatcherLimits,
) -> Result<Matchers, Invalid> {
    let can_match = |it: &&Selector| {
        it.kind != MatcherKind::Selector || Topic::parse(&it.value, limits.bytes).is_ok()
    };
    let selectors: Vec<_> =
        selectors.iter().filter(can_match).map(|it| (it.kind, it.value.as_str())).collect();
    Matchers::parse(selectors.into_iter(), hub, limits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn details(details: &Value) -> Result<Selectors, Flaw> {
        let claims = json!({ "authorization_details": details, "mercure": { "publish": ["*"] } });
        modern(claims.as_object().expect("an object"), 3)
    }

    #[test]
    fn details_of_mercure_are_grants_and_others_are_passed_over() {
        let granted = details(&json!([
            { "type": "other", "actions": 7 },
            7,
            { "type": DETAIL, "actions": ["publish", "fly"], "topics": [{ "match": "a" }] },
            { "type": DETAIL, "actions": ["subscribe"], "payload": {},
              "topics": [{ "match": "b/:id", "match_type": "urlpattern" }] },
        ]));
        let selector = |kind, value: &str| Selector { kind, value: value.to_owned() };
        let expected = Selectors {
            publish: vec![selector(MatcherKind::Exact, "a")],
            subscribe: vec![selector(MatcherKind::UrlPattern, "b/:id")],
        };
        assert_eq!(granted, Ok(expected));
        assert_eq!(details(&json!(null)), Ok(Selectors::default()));
    }

    #[test]
    fn one_bad_detail_spoils_the_access_token() {
        let good = json!({ "type": DETAIL, "actions": ["publish"], "topics": [{ "match": "a" }] });
        let with = |key: &str, value: Value| {
            let mut bad = good.clone();
            bad[key] = value;
            details(&json!([good, bad]))
        };
        assert!(with("actions", json!(["subscribe"])).is_ok());
        for (key, value) in [
            ("actions", json!([])),
            ("actions", json!("publish")),
            ("actions", json!(["publish", 7])),
            ("actions", json!(null)),
            ("topics", json!([])),
            ("topics", json!(["a"])),
            ("topics", json!([null])),
            ("topics", json!([{}])),
            ("topics", json!([{ "match": "" }])),
            ("topics", json!([{ "match": 7 }])),
            ("topics", json!([{ "match": "a", "match_type": null }])),
            ("topics", json!([{ "match": "a", "match_type": "Exact" }])),
            ("topics", json!([{ "match": "*", "match_type": "regexp" }])),
            ("topics", json!([{ "match": "a" }, { "match": "b" }, { "match": "c" }])),
            ("payload", json!("x")),
        ] {
            assert!(with(key, value.clone()).is_err(), "{key}: {value}");
        }
        assert!(details(&json!({})).is_err());
    }

    #[test]
    fn old_claims_are_lists_of_selectors() {
        let old = |value: &Value| old(value.as_object().expect("an object"), 2);
        let granted =
            old(&json!({ "mercure": { "publish": ["*"], "payload": 7 } })).expect("valid");
        assert_eq!((granted.publish.len(), granted.subscribe.len()), (1, 0));
        let both = json!({ "mercure": { "publish": ["a"] },
                           "https://mercure.rocks/": { "subscribe": ["b", "c"] } });
        let granted = old(&both).expect("valid");
        assert_eq!((granted.publish.len(), granted.subscribe.len()), (0, 2));
        assert_eq!(old(&json!({ "sub": "x" })), Ok(Selectors::default()));
        for bad in [
            json!({ "mercure": 7 }),
            json!({ "mercure": { "publish": "*" } }),
            json!({ "mercure": { "publish": [7] } }),
            json!({ "mercure": { "publish": [{ "match": "*" }] } }),
            json!({ "mercure": { "subscribe": ["a", "b", "c"] } }),
        ] {
            assert!(old(&bad).is_err(), "{bad}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = prop::sample::select(vec![DETAIL, "publish", "subscribe", "*", "", "exact"]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        let name = prop::sample::select(vec!["type", "actions", "topics", "match", "match_type"]);
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name.clone(), inner, 0..4).prop_map(|map| {
                    map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_an_access_token_says_is_grants_within_the_limit_or_a_flaw(value in any_json()) {
            let both = json!({ "authorization_details": [value], "mercure": value });
            let both = both.as_object().expect("an object");
            for granted in [modern(both, 3), old(both, 3)].into_iter().flatten() {
                prop_assert!(granted.publish.len() <= 3 && granted.subscribe.len() <= 3);
            }
        }
    }
}

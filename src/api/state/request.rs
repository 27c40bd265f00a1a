//! What requests to `/state` have in common, and the errors they are refused with.

use actix_web::{
    HttpRequest,
    http::header::{IF_MATCH, IF_NONE_MATCH},
};
use tidegate_core::{
    event::{Invalid, Topic},
    state::{StateError, StateRefusal},
};

use crate::{
    gateway::Gateway,
    http::{client_key, form, problem::Problem},
};

/// Returns the value of a parameter.
pub(super) fn parameter(request: &HttpRequest, name: &str) -> Result<Option<String>, Problem> {
    Ok(form::first(request.query_string(), name)?)
}

/// Returns the topic of a request. Of the hub's own topics, only a client's is allowed, to that
/// client.
pub(super) fn topic(request: &HttpRequest, gateway: &Gateway) -> Result<Topic, Problem> {
    const FIELD: &str = "topic";
    let Some(topic) = parameter(request, FIELD)? else {
        return Err(Problem::parameter(&Invalid::Missing { field: FIELD }));
    };
    let topic = Topic::parse(&topic, gateway.settings().limits.topic_bytes)
        .map_err(|invalid| Problem::parameter(&invalid))?;
    if topic.as_str() == "*" {
        return Err(Problem::field(FIELD, "`topic` is `*`; only a single topic has a state"));
    }
    if topic.is_reserved(gateway.hub_url()) && !is_of_client(request, &topic)? {
        let detail = "`topic` lies in a namespace that only the hub itself may publish to";
        return Err(Problem::field(FIELD, detail));
    }
    Ok(topic)
}

/// Whether a topic belongs to the client whose key the request has.
fn is_of_client(request: &HttpRequest, topic: &Topic) -> Result<bool, Problem> {
    let client = client_key::of_header(request)?;
    Ok(client.is_some_and(|client| *topic == Topic::of_client(&client)))
}

/// Whether the client whose key the request has may see a topic: it has joined it, or owns it.
pub(super) fn may_see(
    request: &HttpRequest,
    gateway: &Gateway,
    user: Option<&str>,
    topic: &Topic,
) -> Result<bool, Problem> {
    let cell = client_key::of_header(request)?.and_then(|it| gateway.clients().find(&it));
    Ok(cell.is_some_and(|cell| {
        let client = cell.client();
        let is_own = *topic == Topic::of_client(cell.id());
        client.user.as_deref() == user && (is_own || client.topics.contains_key(topic))
    }))
}

/// Returns the entity tag of a revision. It names the history as well: revisions of a topic begin
/// again with an empty history, and what a browser has cached of an earlier one is not the same.
pub(super) fn tag(gateway: &Gateway, rev: u64) -> String {
    format!("\"{rev}.{}\"", gateway.hub().history().cursor_key().epoch())
}

/// Returns the revision that a change is made at: that of `If-Match`, a number or an entity tag, or
/// 0 for `If-None-Match: *`.
pub(super) fn revision(request: &HttpRequest, gateway: &Gateway) -> Result<Option<u64>, Problem> {
    /// No document ever has it.
    const OF_ANOTHER_HISTORY: u64 = u64::MAX;
    let headers = request.headers();
    if let Some(value) = headers.get(IF_MATCH) {
        let tag = value.to_str().unwrap_or_default().trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let text = tag.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or_default();
        let number = text.split('.').next().and_then(|it| it.parse().ok());
        return match number {
            Some(rev) if !text.contains('.') || tag == self::tag(gateway, rev) => Ok(Some(rev)),
            Some(_) => Ok(Some(OF_ANOTHER_HISTORY)),
            None => {
                let detail = "`If-Match` is not one entity tag, or revision between quotes, \
                    such as \"12\"";
                Err(Problem::field("If-Match", detail))
            }
        };
    }
    match headers.get(IF_NONE_MATCH) {
        None => Ok(None),
        Some(value) if value == "*" => Ok(Some(0)),
        Some(_) => {
            let detail = "`If-None-Match` of a change can only be `*`: there must be no state";
            Err(Problem::field("If-None-Match", detail))
        }
    }
}

impl From<StateRefusal> for Problem {
    fn from(refusal: StateRefusal) -> Self {
        const FIELD: &str = "state";
        let (detail, limit) = (refusal.to_string(), refusal.limit().unwrap_or_default());
        match refusal {
            StateRefusal::Malformed(_) | StateRefusal::NotAnObject => Self::malformed(detail),
            StateRefusal::TooDeep { .. }
            | StateRefusal::NameTooLong { .. }
            | StateRefusal::TooManyNames { .. } => Self::field(FIELD, detail).with_limit(limit),
            StateRefusal::PatchTooLarge { .. }
            | StateRefusal::DocumentTooLarge { .. }
            | StateRefusal::MemberTooLarge { .. } => Self::too_large(FIELD, limit, detail),
            StateRefusal::TooManyDocuments { .. } | StateRefusal::Full { .. } => {
                Self::unavailable("state_full", detail).with_limit(limit)
            }
        }
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        let detail = error.to_string();
        match error {
            StateError::Publish(error) => error.into(),
            StateError::Sealed | StateError::Already(_) => Self::conflict(detail),
            StateError::Contended => Self::unavailable("history", detail),
        }
    }
}

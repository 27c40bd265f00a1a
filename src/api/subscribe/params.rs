//! The parameters of subscriptions, common and per transport.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
};
use jiff::Timestamp;
use tidegate_core::{
    event::{ClientKey, EventId, Invalid, Topic},
    history::{CursorKey, Start},
    matching::{Interest, MatcherKind, Matchers},
};

use crate::{
    auth::{Dialect, Profile},
    gateway::Gateway,
    http::{access::Subscriber, etag::first_tag, form, problem::Problem},
    telemetry::metrics::OldFeature,
};

/// Parameter names for a cursor, the most current first: libraries that rewrite the URL at each
/// reconnection use the first one.
const CURSORS: [&str; 4] = ["lastEventId", "last_event_id", "lastEventID", "Last-Event-ID"];

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The checked parameters of a request to subscribe.
#[derive(Debug)]
pub(super) struct Params {
    pub(super) interest: Arc<Interest>,
    /// The parameter that an error names if there is no room for its patterns.
    pub(super) pattern_field: &'static str,
    /// Whether it lacks an access token where one is required.
    pub(super) is_stranger: bool,
    /// What is known about the subscriber besides its rights.
    pub(super) profile: Profile,
    /// The parameter `client`; the interest has its hash.
    pub(super) client: Option<String>,
    /// Whether events about subscriptions are written in the old dialect.
    pub(super) is_old_dialect: bool,
    /// When the subscriber's access token expires.
    pub(super) expires: Option<Instant>,
    pub(super) cursor: Option<Cursor>,
    backlog: Backlog,
    /// Whether heartbeats are events that scripts can see.
    pub(super) visible_heartbeats: bool,
    pub(super) wait: Option<Duration>,
    pub(super) session: Option<String>,
    pub(super) callback: Option<String>,
    pub(super) origin: Option<String>,
    /// The query without the parameters that change between connections: cursor, backlog, session.
    pub(super) lasting_query: String,
}

/// Where a client left off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) text: String,
    pub(super) is_etag: bool,
}

/// What a client without a cursor gets first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backlog {
    None,
    Last(usize),
    Since(Timestamp),
}

impl Params {
    /// Parses the parameters of `request` and of `body`, which is empty unless the method is QUERY.
    /// Both are combined; of two cursors, the one in the URL wins (draft-08, "Subscribers").
    ///
    /// # Errors
    /// If a parameter breaks a rule, or if the subscriber needs an access token and has none.
    pub(super) fn parse(
        request: &HttpRequest,
        body: &[u8],
        gateway: &Gateway,
        subscriber: &Subscriber,
    ) -> Result<Self, Problem> {
        let params = Self::read(request, body, gateway, subscriber);
        let params = params.map_err(|problem| subscriber.refuse(problem))?;
        subscriber.check_matchers(params.interest.matchers())?;
        if subscriber.is_stranger() {
            check_jobs(gateway, params.interest.matchers())?;
        }
        Ok(params)
    }

    fn read(
        request: &HttpRequest,
        body: &[u8],
        gateway: &Gateway,
        subscriber: &Subscriber,
    ) -> Result<Self, Problem> {
        let limits = &gateway.settings().limits;
        let tells = gateway.settings().mercure.subscriptions;
        let understands_old = gateway.settings().speaks_old_dialect();
        let mut matchers = Vec::new();
        let mut cursors: [Option<String>; CURSORS.len()] = Default::default();
        let mut lasting = url::form_urlencoded::Serializer::new(String::new());
        let mut single = Single::default();
        let query = form::pairs(request.query_string().as_bytes());
        for pair in query.chain(form::pairs(body)) {
            let (name, value) =
                pair.map_err(|error| Problem::field(error.0.clone(), error.to_string()))?;
            match old_feature(&name) {
                Some(feature) if understands_old => gateway.metrics().old_dialect(feature),
                // Not ignored like an unknown name: its subscriber would wait in vain.
                Some(OldFeature::Selector) => return Err(old_selector()),
                Some(_) => continue,
                None => {}
            }
            let is_lasting = match matcher_kind(&name)? {
                Some(kind) => {
                    if limits.matchers <= matchers.len() {
                        return Err(too_many_matchers(limits.matchers));
                    }
                    matchers.push((kind, value.clone()));
                    true
                }
                None => match CURSORS.iter().position(|cursor| *cursor == name) {
                    Some(at) => {
                        cursors[at].get_or_insert_with(|| value.clone());
                        false
                    }
                    None => single.set(&name, &value)?,
                },
            };
            if is_lasting {
                lasting.append_pair(&name, &value);
            }
        }
        if matchers.is_empty() {
            let detail = "`topic` is missing: give at least one `topic` or `match`, or `topic=*`";
            return Err(Problem::field("topic", detail));
        }
        let is_old = match subscriber.profile.dialect {
            Some(dialect) => dialect == Dialect::Old,
            // Only the old dialect has selectors.
            None => matchers.iter().all(|(kind, _)| *kind == MatcherKind::Selector),
        };
        let pattern_field = matchers.iter().find(|(kind, _)| *kind != MatcherKind::Exact);
        let pattern_field = pattern_field.map_or("match", |(kind, _)| kind.field());
        let values = matchers.iter().map(|(kind, value)| (*kind, value.as_str()));
        let matchers = Matchers::parse(values, gateway.hub_url(), gateway.matcher_limits())
            .map_err(|invalid| Problem::parameter(&invalid))?;
        let client = single.client.as_deref();
        let client = client.map(|key| ClientKey::parse("client", key, limits.client_key_bytes));
        let client = client.transpose().map_err(|invalid| Problem::parameter(&invalid))?;
        Ok(Self {
            interest: Arc::new(Interest::new(matchers, client, subscriber.rights.clone())),
            pattern_field,
            is_stranger: subscriber.is_stranger(),
            profile: subscriber.profile.clone(),
            is_old_dialect: tells && understands_old && is_old,
            expires: subscriber.expires,
            cursor: cursor(request, cursors),
            backlog: backlog(single.last.as_deref(), single.since.as_deref(), limits.backlog)?,
            visible_heartbeats: visible_heartbeats(single.heartbeat.as_deref())?,
            wait: single.wait.as_deref().map(seconds).transpose()?,
            session: single.session,
            client: single.client,
            callback: single.callback,
            origin: single.origin,
            lasting_query: lasting.finish(),
        })
    }

    /// The number of newest events to begin with. A cursor wins over a backlog, which is for
    /// clients without one.
    pub(super) fn n_newest(&self) -> Option<usize> {
        match (&self.cursor, self.backlog) {
            (None, Backlog::Last(count)) => Some(count),
            _ => None,
        }
    }

    /// Where to begin, unless the newest events are requested.
    pub(super) fn start(&self, key: &CursorKey, id_bytes: usize) -> Start {
        match &self.cursor {
            None => match self.backlog {
                Backlog::None | Backlog::Last(_) => Start::Now,
                Backlog::Since(time) => Start::Since(time),
            },
            // Present but empty: a client that has received no event yet may send this.
            Some(cursor) if cursor.text.is_empty() => Start::Now,
            Some(cursor) if cursor.text == EventId::EARLIEST => Start::Earliest,
            Some(cursor) if CursorKey::is_token(&cursor.text) => {
                key.open(&cursor.text).map_or(Start::Unknown, Start::Position)
            }
            Some(cursor) => {
                EventId::parse(&cursor.text, id_bytes).map_or(Start::Unknown, Start::Id)
            }
        }
    }
}

/// Checks that a subscriber without an access token names only existing jobs. Others may not hold a
/// connection.
fn check_jobs(gateway: &Gateway, matchers: &Matchers) -> Result<(), Problem> {
    let is_there = |topic: &Topic| topic.job_id().is_some_and(|id| gateway.tracker().knows(id));
    if matchers.topics().iter().all(is_there) {
        return Ok(());
    }
    Err(Problem::not_found(
        "without a token only jobs can be subscribed to, and one of these is not there",
    ))
}

/// Parameters that may be given at most once.
#[derive(Debug, Default)]
struct Single {
    last: Option<String>,
    since: Option<String>,
    client: Option<String>,
    heartbeat: Option<String>,
    wait: Option<String>,
    session: Option<String>,
    callback: Option<String>,
    origin: Option<String>,
}

impl Single {
    /// Sets a parameter; unknown ones are ignored. Returns whether it stays the same between
    /// connections.
    fn set(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        let (field, is_lasting) = match name {
            "last" => (&mut self.last, false),
            "since" => (&mut self.since, false),
            "session" => (&mut self.session, false),
            "client" => (&mut self.client, true),
            "heartbeat" => (&mut self.heartbeat, true),
            "wait" => (&mut self.wait, true),
            "callback" => (&mut self.callback, true),
            "origin" => (&mut self.origin, true),
            _ => return Ok(true),
        };
        match field.replace(value.to_owned()) {
            None => Ok(is_lasting),
            Some(_) => Err(Problem::field(name, format!("`{name}` is given more than once"))),
        }
    }
}

/// The kind of matcher that a parameter gives, if any. Names are case-sensitive, but every name
/// that begins with `match` in any case is reserved (draft-08, "Subscribers").
fn matcher_kind(name: &str) -> Result<Option<MatcherKind>, Problem> {
    let is_reserved = name.as_bytes().get(..5).is_some_and(|it| it.eq_ignore_ascii_case(b"match"));
    match name {
        "topic" => Ok(Some(MatcherKind::Selector)),
        "match" => Ok(Some(MatcherKind::Exact)),
        _ if is_reserved => {
            let kind = name.strip_prefix("match_").and_then(MatcherKind::from_type);
            kind.map(Some).ok_or_else(|| unknown_matcher(name))
        }
        _ => Ok(None),
    }
}

/// The feature of the old dialect that a parameter belongs to. `lastEventId` is none: a polyfill
/// sends it in both dialects.
fn old_feature(name: &str) -> Option<OldFeature> {
    match name {
        "topic" => Some(OldFeature::Selector),
        "lastEventID" | "Last-Event-ID" => Some(OldFeature::Cursor),
        _ => None,
    }
}

fn old_selector() -> Problem {
    let detail = "`topic` is of the old dialect, which is off (`mercure.compat`); use `match`";
    Problem::field("topic", detail)
}

fn unknown_matcher(name: &str) -> Problem {
    let name: String = name.chars().take(40).collect();
    let detail = format!(
        "`{name}` is no matcher of this gateway: it knows `topic`, `match`, `match_exact`, `match_urlpattern` and \
         `match_uritemplate`"
    );
    Problem::field(name, detail)
}

fn too_many_matchers(limit: usize) -> Problem {
    Problem::parameter(&Invalid::TooMany { field: "topic", limit })
}

/// The client's cursor. The header wins, because browsers keep it current; then parameters; then
/// the entity tag of a poll.
fn cursor(request: &HttpRequest, parameters: [Option<String>; CURSORS.len()]) -> Option<Cursor> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let header = request.headers().get(LAST_EVENT_ID).map(text);
    let given: Vec<String> = std::iter::once(header).chain(parameters).flatten().collect();
    let freshest = given.iter().find(|it| !it.is_empty()).or(given.first());
    if let Some(freshest) = freshest {
        return Some(Cursor { text: freshest.clone(), is_etag: false });
    }
    let etag = first_tag(request)?.to_owned();
    Some(Cursor { text: etag, is_etag: true })
}

fn backlog(last: Option<&str>, since: Option<&str>, limit: usize) -> Result<Backlog, Problem> {
    match (last, since) {
        (None, None) => Ok(Backlog::None),
        (Some(_), Some(_)) => Err(Problem::field("since", "`last` and `since` exclude each other")),
        (Some(last), None) => match form::whole_number(last) {
            Some(count) if count <= limit => Ok(Backlog::Last(count)),
            Some(_) => {
                Err(Problem::parameter(&Invalid::Rule { field: "last", rule: "is over the limit" })
                    .with_limit(limit))
            }
            None => Err(Problem::field("last", "`last` is not a number of events")),
        },
        (None, Some(since)) => since.parse().map(Backlog::Since).map_err(|_| {
            Problem::field(
                "since",
                "`since` is not a time such as `2026-01-31T12:00:00Z` (RFC 3339)",
            )
        }),
    }
}

fn visible_heartbeats(heartbeat: Option<&str>) -> Result<bool, Problem> {
    match heartbeat {
        None => Ok(false),
        Some("event") => Ok(true),
        Some(_) => Err(Problem::field("heartbeat", "`heartbeat` is not `event`, the only value")),
    }
}

fn seconds(wait: &str) -> Result<Duration, Problem> {
    let seconds = form::whole_number(wait).and_then(|it| u64::try_from(it).ok());
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| Problem::field("wait", "`wait` is not a whole number of seconds"))
}

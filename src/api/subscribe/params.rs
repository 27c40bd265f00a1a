//! The parameters of subscriptions: those of all transports, and what a transport adds.

use std::{sync::Arc, time::Instant};

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
};
use jiff::Timestamp;
use tidegate_core::{
    event::{ClientKey, EventId, Invalid, Position, Topic},
    history::{CursorKey, Start},
    matching::{Interest, MatcherKind, Matchers},
};

use super::{names::Parameter, query::Query};
use crate::{
    auth::{Dialect, Profile},
    gateway::Gateway,
    http::{access::Subscriber, client_key::parse_key, etag::first_tag, form, problem::Problem},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The parameters that only one transport has.
pub(super) trait TransportParams: Sized {
    /// Their names.
    const NAMES: &'static [Parameter];

    /// Checks their values.
    ///
    /// # Errors
    /// If a value breaks a rule.
    fn read(query: &Query, gateway: &Gateway) -> Result<Self, Problem>;
}

/// A transport without parameters of its own.
impl TransportParams for () {
    const NAMES: &'static [Parameter] = &[];

    fn read(_: &Query, _: &Gateway) -> Result<Self, Problem> {
        Ok(())
    }
}

/// The checked parameters of a request to subscribe, which all transports share.
#[derive(Debug)]
pub(super) struct Params {
    pub(super) interest: Arc<Interest>,
    /// The parameter that an error names if there is no room for its patterns.
    pub(super) pattern_field: &'static str,
    /// What is known about the subscriber besides its rights.
    pub(super) profile: Profile,
    /// The parameter `client`; the interest has its hash.
    pub(super) client: Option<String>,
    /// The clients that the stream is for, if it says hello.
    pub(super) hello: Option<Hello>,
    /// Whether events about subscriptions are written in the old dialect.
    pub(super) is_old_dialect: bool,
    /// When the subscriber's access token expires.
    pub(super) expires: Option<Instant>,
    pub(super) cursor: Option<Cursor>,
    backlog: Backlog,
    /// The query without the parameters that change between connections.
    pub(super) lasting_query: String,
}

/// The clients of a stream that says hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) clients: Vec<ClientKey>,
    /// Whether the stream gets nothing until a client names it.
    pub(super) is_on_trial: bool,
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
    /// Parses the parameters of `request` and of `body`, which is empty unless the method is QUERY,
    /// and those of one transport. URL and body are combined; of two cursors, the one in the URL
    /// wins (draft-08, "Subscribers").
    ///
    /// # Errors
    /// If a parameter breaks a rule, or if the subscriber needs an access token and has none.
    pub(super) fn parse<P: TransportParams>(
        request: &HttpRequest,
        body: &[u8],
        gateway: &Gateway,
        subscriber: &Subscriber,
    ) -> Result<(Self, P), Problem> {
        let read = || {
            let mut query = Query::read(request, body, gateway, P::NAMES)?;
            let params = Self::read(request, &mut query, gateway, subscriber)?;
            Ok((params, P::read(&query, gateway)?))
        };
        let (params, own) = read().map_err(|problem| subscriber.refuse(problem))?;
        if params.hello.is_some() && subscriber.is_stranger() {
            return Err(subscriber.access_token_missing());
        }
        subscriber.check_matchers(params.interest.matchers())?;
        if subscriber.is_stranger() {
            check_jobs(gateway, params.interest.matchers())?;
        }
        Ok((params, own))
    }

    fn read(
        request: &HttpRequest,
        query: &mut Query,
        gateway: &Gateway,
        subscriber: &Subscriber,
    ) -> Result<Self, Problem> {
        let limits = &gateway.settings().limits;
        let tells = gateway.settings().mercure.subscriptions;
        let understands_old = gateway.settings().speaks_old_dialect();
        let is_old = match subscriber.profile.dialect {
            Some(dialect) => dialect == Dialect::Old,
            // Only the old dialect has selectors.
            None => query.matchers.iter().all(|(kind, _)| *kind == MatcherKind::Selector),
        };
        let pattern_field = query.matchers.iter().find(|(kind, _)| *kind != MatcherKind::Exact);
        let pattern_field = pattern_field.map_or("match", |(kind, _)| kind.field());
        let values = query.matchers.iter().map(|(kind, value)| (*kind, value.as_str()));
        let matchers = Matchers::parse(values, gateway.hub_url(), gateway.matcher_limits())
            .map_err(|invalid| Problem::parameter(&invalid))?;
        let hello = hello(query)?;
        let client = query.clients.first().cloned();
        let key =
            client.as_deref().map(|key| ClientKey::parse("client", key, limits.client_key_bytes));
        let key = key.transpose().map_err(|invalid| Problem::parameter(&invalid))?;
        let backlog = backlog(query.one("last"), query.one("since"), limits.backlog)?;
        Ok(Self {
            interest: Arc::new(Interest::new(matchers, key, subscriber.rights.clone())),
            pattern_field,
            profile: subscriber.profile.clone(),
            client,
            is_old_dialect: tells && understands_old && is_old && hello.is_none(),
            hello,
            expires: subscriber.expires,
            cursor: cursor(request, std::mem::take(&mut query.cursors)),
            backlog,
            lasting_query: query.take_lasting(),
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

    /// Where to begin, unless the newest events are requested. Without a cursor, a client begins at
    /// `began`.
    pub(super) fn start(&self, key: &CursorKey, id_bytes: usize, began: Option<Position>) -> Start {
        match &self.cursor {
            None => match self.backlog {
                Backlog::None | Backlog::Last(_) => began.map_or(Start::Now, Start::Position),
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

/// Reads the parameters `hello`, `client` and `trial`.
fn hello(query: &Query) -> Result<Option<Hello>, Problem> {
    let is_on_trial = match query.one("trial") {
        None => false,
        Some("1") => true,
        Some(_) => return Err(Problem::field("trial", "`trial` is not `1`, the only value")),
    };
    match query.one("hello") {
        None if is_on_trial => {
            Err(Problem::field("trial", "`trial` needs `hello=event`: it is for clients"))
        }
        None => Ok(None),
        Some("event") if query.clients.is_empty() => {
            let detail = "`hello=event` needs `client`, a key of 22 characters or more that the client made up";
            Err(Problem::field("client", detail))
        }
        Some("event") => {
            let keys = query.clients.iter().map(|key| parse_key("client", key));
            Ok(Some(Hello { clients: keys.collect::<Result<_, _>>()?, is_on_trial }))
        }
        Some(_) => Err(Problem::field("hello", "`hello` is not `event`, the only value")),
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

/// The client's cursor. The header wins, because browsers keep it current; then parameters; then
/// the entity tag of a poll.
fn cursor<const N: usize>(
    request: &HttpRequest,
    parameters: [Option<String>; N],
) -> Option<Cursor> {
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

/// The parameter `heartbeat` of streams.
pub(super) const HEARTBEAT: Parameter = Parameter {
    name: "heartbeat",
    is_lasting: true,
    misspelled: &["Heartbeat", "heartbeats", "heart_beat", "heartBeat"],
};

/// Reads the parameter `heartbeat`: whether heartbeats are events that scripts can see.
pub(super) fn visible_heartbeats(query: &Query) -> Result<bool, Problem> {
    match query.one("heartbeat") {
        None => Ok(false),
        Some("event") => Ok(true),
        Some(_) => Err(Problem::field("heartbeat", "`heartbeat` is not `event`, the only value")),
    }
}

//! The parameters of a request to subscribe, by name, before their values are understood.

use actix_web::HttpRequest;
use tidegate_core::{event::Invalid, matching::MatcherKind};

use super::names::{self, Parameter};
use crate::{
    gateway::Gateway,
    http::{ACCESS_TOKEN_PARAMETER, client_key::TIDEGATE_CLIENT, form, problem::Problem},
    telemetry::metrics::OldFeature,
};

/// Parameter names for a cursor, the most current first: libraries that rewrite the URL at each
/// reconnection use the first one.
const CURSORS: [&str; 4] = ["lastEventId", "last_event_id", "lastEventID", "Last-Event-ID"];

/// The end of the hub's address. At other addresses, which are the gateway's own, `topic` is not of
/// a dialect.
const HUB: &str = "/.well-known/mercure";

/// The most clients of one stream.
const MOST_CLIENTS: usize = 64;

/// The parameters of every transport, besides matchers and cursors. All but `client` may be given
/// once.
const COMMON: [Parameter; 5] = [
    Parameter {
        name: "last",
        is_lasting: false,
        misspelled: &["Last", "lasts", "last_n", "lastN"],
    },
    Parameter { name: "since", is_lasting: false, misspelled: &["Since", "sinse", "since_time"] },
    Parameter {
        name: "client",
        is_lasting: true,
        misspelled: &["Client", "clients", "client_id", "clientid", "clientId", "client_key"],
    },
    Parameter { name: "hello", is_lasting: true, misspelled: &["Hello", "hallo"] },
    Parameter { name: "trial", is_lasting: false, misspelled: &["Trial"] },
];

/// The values of known parameters. Their number is bounded.
pub(super) struct Query {
    pub(super) matchers: Vec<(MatcherKind, String)>,
    /// The cursors given, the most current first.
    pub(super) cursors: [Option<String>; CURSORS.len()],
    /// The keys of clients. Only a stream that says hello is for several.
    pub(super) clients: Vec<String>,
    single: Vec<(&'static str, String)>,
    lasting: String,
}

impl Query {
    /// Reads the query of `request` and its `body`. The transport has its `own` parameters. Unknown
    /// ones are ignored.
    ///
    /// # Errors
    /// If a parameter is misspelled, given too often, or turned off, or if there is no matcher.
    pub(super) fn read(
        request: &HttpRequest,
        body: &[u8],
        gateway: &Gateway,
        own: &'static [Parameter],
    ) -> Result<Self, Problem> {
        let mut query = Self {
            matchers: Vec::new(),
            cursors: Default::default(),
            clients: Vec::new(),
            single: Vec::new(),
            lasting: String::new(),
        };
        let is_hub = request.match_pattern().is_some_and(|it| it.ends_with(HUB));
        let pairs = form::pairs(request.query_string().as_bytes()).chain(form::pairs(body));
        for pair in pairs {
            let (name, value) = pair?;
            if !is_hub && value.is_empty() && ["topic", "match", "match_exact"].contains(&&*name) {
                let detail = format!("`{name}` is empty, and no update has an empty topic");
                return Err(Problem::field(name, detail));
            }
            let is_ignored = is_hub && check_dialect(gateway, &name)?;
            if !is_ignored && !query.take(gateway, own, &name, value)? {
                names::check(&name, is_hub, COMMON.iter().chain(own))?;
            }
        }
        if query.clients.is_empty()
            && query.one("hello").is_some()
            && let Some(key) = request.headers().get(TIDEGATE_CLIENT)
        {
            query.clients.push(String::from_utf8_lossy(key.as_bytes()).into_owned());
        }
        if 1 < query.clients.len() && query.one("hello").is_none() {
            return Err(Problem::field("client", "`client` is given more than once"));
        }
        if query.matchers.is_empty() && query.one("hello").is_none() {
            let detail = "`topic` is missing: give at least one `topic` or `match`, or `topic=*`";
            return Err(Problem::field("topic", detail));
        }
        Ok(query)
    }

    /// Takes a parameter, and returns whether it is known.
    fn take(
        &mut self,
        gateway: &Gateway,
        own: &'static [Parameter],
        name: &str,
        value: String,
    ) -> Result<bool, Problem> {
        if let Some(kind) = matcher_kind(name) {
            let limit = gateway.settings().limits.matchers;
            if limit <= self.matchers.len() {
                let field = "topic";
                return Err(Problem::parameter(&Invalid::TooMany { field, limit }));
            }
            self.keep(name, &value);
            self.matchers.push((kind, value));
        } else if let Some(at) = CURSORS.iter().position(|cursor| *cursor == name) {
            self.cursors[at].get_or_insert(value);
        } else if name == "client" {
            if MOST_CLIENTS <= self.clients.len() {
                let (field, limit) = ("client", MOST_CLIENTS);
                return Err(Problem::parameter(&Invalid::TooMany { field, limit }));
            }
            self.keep(name, &value);
            self.clients.push(value);
        } else if let Some(known) = COMMON.iter().chain(own).find(|it| it.name == name) {
            if self.one(name).is_some() {
                return Err(Problem::field(name, format!("`{name}` is given more than once")));
            }
            if known.is_lasting {
                self.keep(name, &value);
            }
            self.single.push((known.name, value));
        } else if name == ACCESS_TOKEN_PARAMETER && gateway.settings().speaks_old_dialect() {
            self.keep(name, &value);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn keep(&mut self, name: &str, value: &str) {
        let lasting = std::mem::take(&mut self.lasting);
        let mut lasting = url::form_urlencoded::Serializer::new(lasting);
        self.lasting = lasting.append_pair(name, value).finish();
    }

    /// Returns the value of a parameter that may be given at most once.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.single.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Takes the query without the parameters that change between connections: cursor, backlog,
    /// session.
    pub(super) fn take_lasting(&mut self) -> String {
        std::mem::take(&mut self.lasting)
    }
}

/// The kind of matcher that a parameter gives, if any.
fn matcher_kind(name: &str) -> Option<MatcherKind> {
    match name {
        "topic" => Some(MatcherKind::Selector),
        "match" => Some(MatcherKind::Exact),
        _ => name.strip_prefix("match_").and_then(MatcherKind::from_type),
    }
}

/// Counts a parameter of the old dialect at the hub's address. Returns whether to ignore it,
/// because that dialect is off. `lastEventId` belongs to both: a polyfill sends it.
fn check_dialect(gateway: &Gateway, name: &str) -> Result<bool, Problem> {
    let feature = match name {
        "topic" => OldFeature::Selector,
        "lastEventID" | "Last-Event-ID" => OldFeature::Cursor,
        _ => return Ok(false),
    };
    if gateway.settings().speaks_old_dialect() {
        gateway.metrics().old_dialect(feature);
        return Ok(false);
    }
    match feature {
        // Not ignored like an unknown name: its subscriber would wait in vain.
        OldFeature::Selector => Err(Problem::field(
            "topic",
            "`topic` is of the old dialect, which is off at this address (`mercure.compat`); use \
             `match`, or subscribe at /events",
        )),
        _ => Ok(true),
    }
}

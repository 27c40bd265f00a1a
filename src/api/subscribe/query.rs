//! The parameters of a request to subscribe, by name, before their values are understood.

use actix_web::HttpRequest;
use tidegate_core::{event::Invalid, matching::MatcherKind};

use crate::{
    gateway::Gateway,
    http::{form, problem::Problem},
    telemetry::metrics::OldFeature,
};

/// Parameter names for a cursor, the most current first: libraries that rewrite the URL at each
/// reconnection use the first one.
const CURSORS: [&str; 4] = ["lastEventId", "last_event_id", "lastEventID", "Last-Event-ID"];

/// The parameters of every transport that may be given at most once.
const COMMON: [Parameter; 3] = [
    Parameter { name: "last", is_lasting: false },
    Parameter { name: "since", is_lasting: false },
    Parameter { name: "client", is_lasting: true },
];

/// The name of a parameter that may be given at most once.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// Whether it stays the same between connections, so that the next request repeats it.
    pub(super) is_lasting: bool,
}

/// The values of known parameters. Their number is bounded.
pub(super) struct Query {
    pub(super) matchers: Vec<(MatcherKind, String)>,
    /// The cursors given, the most current first.
    pub(super) cursors: [Option<String>; CURSORS.len()],
    single: Vec<(&'static str, String)>,
    lasting: url::form_urlencoded::Serializer<'static, String>,
}

impl Query {
    /// Reads the query of `request` and its `body`. The transport has its `own` parameters.
    pub(super) fn read(
        request: &HttpRequest,
        body: &[u8],
        gateway: &Gateway,
        own: &'static [Parameter],
    ) -> Result<Self, Problem> {
        let mut query = Self {
            matchers: Vec::new(),
            cursors: Default::default(),
            single: Vec::new(),
            lasting: url::form_urlencoded::Serializer::new(String::new()),
        };
        let pairs = form::pairs(request.query_string().as_bytes()).chain(form::pairs(body));
        for pair in pairs {
            let (name, value) = pair?;
            query.take(gateway, own, &name, value)?;
        }
        if query.matchers.is_empty() {
            let detail = "`topic` is missing: give at least one `topic` or `match`, or `topic=*`";
            return Err(Problem::field("topic", detail));
        }
        Ok(query)
    }

    fn take(
        &mut self,
        gateway: &Gateway,
        own: &'static [Parameter],
        name: &str,
        value: String,
    ) -> Result<(), Problem> {
        match old_feature(name) {
            Some(feature) if gateway.settings().speaks_old_dialect() => {
                gateway.metrics().old_dialect(feature);
            }
            // Not ignored like an unknown name: its subscriber would wait in vain.
            Some(OldFeature::Selector) => return Err(old_selector()),
            Some(_) => return Ok(()),
            None => {}
        }
        if let Some(kind) = matcher_kind(name)? {
            let limit = gateway.settings().limits.matchers;
            if limit <= self.matchers.len() {
                let field = "topic";
                return Err(Problem::parameter(&Invalid::TooMany { field, limit }));
            }
            self.lasting.append_pair(name, &value);
            self.matchers.push((kind, value));
        } else if let Some(at) = CURSORS.iter().position(|cursor| *cursor == name) {
            self.cursors[at].get_or_insert(value);
        } else if let Some(known) = COMMON.iter().chain(own).find(|it| it.name == name) {
            if self.one(name).is_some() {
                return Err(Problem::field(name, format!("`{name}` is given more than once")));
            }
            if known.is_lasting {
                self.lasting.append_pair(name, &value);
            }
            self.single.push((known.name, value));
        } else {
            self.lasting.append_pair(name, &value);
        }
        Ok(())
    }

    /// Returns the value of a parameter that may be given at most once.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.single.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the query without the parameters that change between connections: cursor, backlog,
    /// session.
    pub(super) fn into_lasting(mut self) -> String {
        self.lasting.finish()
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

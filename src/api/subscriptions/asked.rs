//! A request for the list: its path, and its filter.

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;
use tidegate_core::{matching::MatcherKind, subscriptions::name};

use crate::http::{form, problem::Problem};

/// The maximum number of subscriptions in one reply, and the default.
pub(super) const LONGEST_LIST: usize = 10_000;

/// What a path refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// All subscriptions, in either dialect.
    All,
    /// The subscriptions with a matcher.
    Matcher(MatcherKind, String),
    /// One subscription: matcher and subscriber.
    One(MatcherKind, String, String),
    /// The subscriptions with a matcher, by a path of the old dialect.
    OldTopic(String),
    /// One subscription, by a path of the old dialect.
    OldOne(String, String),
}

impl Asked {
    /// Parses the path after `…/subscriptions`. Two segments are of the old dialect unless the
    /// first one is the name of a matcher type.
    ///
    /// # Errors
    /// If it refers to nothing (404), or has an invalid escape or an unknown matcher type (400).
    pub(super) fn parse(rest: &str, has_old: bool) -> Result<Self, Problem> {
        if rest.is_empty() {
            return Ok(Self::All);
        }
        let nowhere = || Problem::not_found("there is no such list of subscriptions");
        let segments = rest.strip_prefix('/').filter(|it| !it.is_empty()).ok_or_else(nowhere)?;
        let segments: Vec<&str> = segments.split('/').collect();
        let kind = |name: &str| {
            let detail = "the path names no matcher type: `exact`, `urlpattern`, `uritemplate`";
            MatcherKind::from_type(name).ok_or_else(|| Problem::field("match_type", detail))
        };
        match *segments {
            [topic] if has_old => Ok(Self::OldTopic(decode(topic)?)),
            [first, second] => {
                let (first, second) = (decode(first)?, decode(second)?);
                match kind(&first) {
                    Ok(kind) => Ok(Self::Matcher(kind, second)),
                    Err(_) if has_old => Ok(Self::OldOne(first, second)),
                    Err(problem) => Err(problem),
                }
            }
            [first, matcher, subscriber] => {
                Ok(Self::One(kind(&decode(first)?)?, decode(matcher)?, decode(subscriber)?))
            }
            _ => Err(nowhere()),
        }
    }

    /// The prefixes of the keys of the requested subscriptions, in order.
    pub(super) fn prefixes(&self, filter: &Filter) -> Vec<String> {
        let of = |kind: MatcherKind, matcher: &str| format!("{}/{matcher}", kind.as_str());
        match self {
            Self::All if filter.kind.is_none() && filter.prefix.is_empty() => vec![String::new()],
            Self::All => {
                let kinds = KINDS_IN_ORDER.into_iter();
                let kinds = kinds.filter(|it| filter.kind.is_none_or(|kind| kind == *it));
                kinds.map(|kind| of(kind, &name::segment(&filter.prefix))).collect()
            }
            Self::Matcher(kind, matcher) => vec![of(*kind, &name::segment(matcher)) + "/"],
            Self::One(kind, matcher, subscriber) => vec![name::key(*kind, matcher, subscriber)],
            Self::OldTopic(topic) => {
                KINDS_IN_ORDER.map(|it| of(it, &name::segment(topic)) + "/").into()
            }
            Self::OldOne(topic, subscriber) => {
                KINDS_IN_ORDER.map(|it| name::key(it, topic, subscriber)).into()
            }
        }
    }
}

/// The matcher types, sorted by name.
const KINDS_IN_ORDER: [MatcherKind; 3] =
    [MatcherKind::Exact, MatcherKind::UriTemplate, MatcherKind::UrlPattern];

fn decode(segment: &str) -> Result<String, Problem> {
    let is_escape = |at: usize| {
        let digits = segment.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit))
    };
    let decoded = percent_decode_str(segment).decode_utf8().ok();
    decoded
        .filter(|_| segment.match_indices('%').all(|(at, _)| is_escape(at)))
        .map(Into::into)
        .ok_or_else(|| Problem::malformed("the path has an escape that stands for nothing"))
}

/// The requested part of a list.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// Only matchers of this type.
    pub(super) kind: Option<MatcherKind>,
    /// Only matchers with this prefix.
    pub(super) prefix: String,
    /// Only the number of subscriptions.
    pub(super) is_count: bool,
    /// The maximum number of subscriptions.
    pub(super) limit: usize,
    /// Only subscriptions after this key.
    pub(super) after: Option<String>,
}

impl Filter {
    /// Parses the filter from the query of a request. Unknown parameters are ignored.
    pub(super) fn parse(request: &HttpRequest) -> Result<Self, Problem> {
        let mut filter = Self { limit: LONGEST_LIST, ..Self::default() };
        for pair in form::pairs(request.query_string().as_bytes()) {
            let (name, value) = pair?;
            match name.as_str() {
                "type" => {
                    let detail = "`type` is no matcher type: `exact`, `urlpattern`, `uritemplate`";
                    let kind = MatcherKind::from_type(&value);
                    filter.kind = Some(kind.ok_or_else(|| Problem::field("type", detail))?);
                }
                "prefix" => filter.prefix = value,
                "count" => filter.is_count = true,
                "after" => filter.after = Some(value),
                "limit" => {
                    let limit = value.parse().ok().filter(|it| (1..=LONGEST_LIST).contains(it));
                    filter.limit = limit.ok_or_else(|| {
                        Problem::field("limit", format!("`limit` is not 1 to {LONGEST_LIST}"))
                    })?;
                }
                _ => {}
            }
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_both_dialects_are_told_apart() {
        let exact = MatcherKind::Exact;
        for (rest, expected) in [
            ("", Asked::All),
            ("/exact/a%2Fb", Asked::Matcher(exact, "a/b".to_owned())),
            ("/exact/a+b/x", Asked::One(exact, "a+b".to_owned(), "x".to_owned())),
            ("/a%20b", Asked::OldTopic("a b".to_owned())),
            ("/regexp/x", Asked::OldOne("regexp".to_owned(), "x".to_owned())),
        ] {
            assert_eq!(Asked::parse(rest, true).expect("a path"), expected);
        }
        for (rest, has_old, reason) in [
            ("/regexp/a/b", true, "invalid_field"),
            ("/regexp/a", false, "invalid_field"),
            ("/a", false, "not_found"),
            ("/", true, "not_found"),
            ("x", true, "not_found"),
            ("/a/b/c/d", true, "not_found"),
            ("/exact/%zz", true, "malformed"),
            ("/exact/%2", true, "malformed"),
            ("/exact/%ff", true, "malformed"),
        ] {
            let problem = Asked::parse(rest, has_old).expect_err(rest);
            assert_eq!(problem.reason(), reason, "{rest}");
        }
    }
}

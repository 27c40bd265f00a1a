//! URL patterns and URI templates: interned process-wide, compiled at most once, tested at most
//! once per publish.
//!
//! Subscribers and access tokens with the same pattern share one value, which is dropped with its
//! last user. Matches for a topic are computed once and shared by all shards.

mod matching;
mod subscribed;
mod table;
mod template;
mod url;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ::url::Url;

pub use self::matching::prepare;
pub use self::subscribed::SubscribedPatterns;
pub(super) use self::{
    matching::{known, matching},
    url::Resolver,
};
use self::{template::Template, url::UrlPattern};
use crate::event::Topic;

/// The cost of each further variable, when the first costs 1. With several, each character of a
/// topic may belong to any of them, and the matcher follows all possibilities at once.
const FURTHER_VARIABLE: usize = 10;

/// Bytes of text that cost 1.
const BYTES_PER_COST: usize = 64;

/// Bytes of a compiled regular expression that cost 1: about a quarter of a state. Every state is
/// followed at each character of a topic.
const COMPILED_BYTES_PER_COST: usize = 8;

/// Pattern tests since the process started.
static N_TESTS: AtomicU64 = AtomicU64::new(0);

/// Statistics about the patterns of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatternStats {
    /// Distinct patterns in use.
    pub patterns: usize,
    /// Their total cost, in units of [`MatcherLimits`](super::MatcherLimits).
    pub cost: usize,
    /// Tests of one pattern on one topic since the process started.
    pub tests: u64,
}

/// Returns statistics about the patterns of the process.
#[must_use]
pub fn pattern_stats() -> PatternStats {
    let (patterns, cost) = table::size();
    PatternStats { patterns, cost, tests: N_TESTS.load(Relaxed) }
}

/// Identifies a pattern. A newer pattern has a greater id; ids are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PatternId(u64);

/// The two kinds of patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PatternKind {
    /// WHATWG URL Pattern.
    UrlPattern,
    /// RFC 6570 template, matched instead of expanded.
    UriTemplate,
}

/// A URL pattern or URI template. Equal patterns share one value.
pub struct Pattern {
    id: PatternId,
    key: Arc<Key>,
    form: Form,
    cost: usize,
}

/// Two patterns are equal if their keys are.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    text: Box<str>,
    /// The base of a URL pattern; templates have none.
    base: Option<Box<str>>,
}

#[derive(Debug)]
enum Form {
    Url(UrlPattern),
    Template(Template),
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Not valid for its kind.
    Malformed,
    /// Over the cost limit for one pattern.
    Costly,
}

/// The limits on the cost of patterns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// The cost of a single pattern.
    pub(super) each: usize,
}

impl Pattern {
    /// Interns the URL pattern `text`, relative to `base`.
    pub(super) fn url(text: &str, base: &Url, allowance: Allowance) -> Result<Arc<Self>, Unusable> {
        // Parsing time grows with the square of the wildcards, so a pattern with far too many is
        // not parsed at all.
        if allowance.each < UrlPattern::most_wildcards(text) * FURTHER_VARIABLE / 2 {
            return Err(Unusable::Costly);
        }
        let key = Key { text: text.into(), base: Some(base.as_str().into()) };
        table::intern(key, allowance, || UrlPattern::parse(text, base).map(Form::Url))
    }

    /// Interns the URI template `text`.
    pub(super) fn template(text: &str, allowance: Allowance) -> Result<Arc<Self>, Unusable> {
        let key = Key { text: text.into(), base: None };
        table::intern(key, allowance, || Template::parse(text).map(Form::Template))
    }

    pub(super) fn id(&self) -> PatternId {
        self.id
    }

    /// The pattern as its author wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.key.text
    }

    /// The kind of pattern.
    #[must_use]
    pub fn kind(&self) -> PatternKind {
        match self.form {
            Form::Url(_) => PatternKind::UrlPattern,
            Form::Template(_) => PatternKind::UriTemplate,
        }
    }

    /// The cost of a test, in units of [`MatcherLimits`](super::MatcherLimits).
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Whether the pattern matches a topic.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        self.test(&mut Resolver::new(topic))
    }

    /// Like [`Pattern::matches`], for testing several patterns on one topic.
    pub(super) fn test(&self, topic: &mut Resolver<'_>) -> bool {
        N_TESTS.fetch_add(1, Relaxed);
        match &self.form {
            Form::Url(pattern) => pattern.matches(topic),
            Form::Template(template) => template.matches(self.as_str(), topic.topic().as_str()),
        }
    }
}

impl Form {
    /// The worst-case cost of a test.
    fn cost(&self, text: &str) -> usize {
        let (n_variables, compiled_bytes) = match self {
            Self::Url(pattern) => (pattern.n_wildcards(), pattern.compiled_bytes()),
            Self::Template(template) => (template.n_variables(), 0),
        };
        let n_further = n_variables.saturating_sub(1);
        1 + n_further * FURTHER_VARIABLE
            + compiled_bytes / COMPILED_BYTES_PER_COST
            + text.len() / BYTES_PER_COST
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        if table::forget(self) {
            matching::forget_all();
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pattern").field("kind", &self.kind()).field("text", &self.as_str()).finish()
    }
}

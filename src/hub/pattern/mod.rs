//! URL patterns and URI templates: interned in the process, compiled at most once, tested at most once a publish.
//!
//! A pattern is the same value for everybody who uses it, subscribers and tokens alike, and is forgotten with its last
//! user. What matches a topic is found once and shared by all shards.

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

pub(crate) use self::matching::prepare;
pub use self::subscribed::SubscribedPatterns;
pub(super) use self::{
    matching::{known, matching},
    url::Resolver,
};
use self::{template::Template, url::UrlPattern};
use crate::event::Topic;

/// What a further variable costs, when the first costs 1: with several, each character of a topic may belong to any of
/// them, and all ways are followed at once.
const FURTHER_VARIABLE: usize = 10;

/// Bytes of text that cost 1.
const BYTES_PER_COST: usize = 64;

/// Bytes of a compiled regular expression that cost 1: about a quarter of a state, each of which is followed at every
/// character of a topic.
const COMPILED_BYTES_PER_COST: usize = 8;

/// Patterns tested since the process began.
static N_TESTS: AtomicU64 = AtomicU64::new(0);

/// What there is of patterns in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatternStats {
    /// Distinct patterns in use.
    pub patterns: usize,
    /// Their cost, as [`MatcherLimits`](super::MatcherLimits) counts it.
    pub cost: usize,
    /// Tests of one pattern on one topic since the process began.
    pub tests: u64,
}

/// Counts the patterns of the process.
#[must_use]
pub fn pattern_stats() -> PatternStats {
    let (patterns, cost) = table::size();
    PatternStats { patterns, cost, tests: N_TESTS.load(Relaxed) }
}

/// Tells patterns apart; a later pattern has a greater id, and none is ever used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PatternId(u64);

/// The two kinds of patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PatternKind {
    /// WHATWG URL Pattern.
    UrlPattern,
    /// RFC 6570, read backwards.
    UriTemplate,
}

/// A URL pattern or URI template. Equal ones are one value.
pub struct Pattern {
    id: PatternId,
    key: Arc<Key>,
    form: Form,
    cost: usize,
}

/// What makes two patterns equal.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    text: Box<str>,
    /// What a URL pattern is resolved against; templates are not.
    base: Option<Box<str>>,
}

#[derive(Debug)]
enum Form {
    Url(UrlPattern),
    Template(Template),
}

/// Why there is no such pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is not valid for its kind.
    Malformed,
    /// It costs more than one pattern may.
    Costly,
}

/// What patterns may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// One of them.
    pub(super) each: usize,
}

impl Pattern {
    /// The URL pattern `text`, relative to `base`.
    pub(super) fn url(text: &str, base: &Url, allowance: Allowance) -> Result<Arc<Self>, Unusable> {
        // Parsing takes time that grows with the square of their number, so far too many are not even parsed.
        if allowance.each < UrlPattern::most_wildcards(text) * FURTHER_VARIABLE / 2 {
            return Err(Unusable::Costly);
        }
        let key = Key { text: text.into(), base: Some(base.as_str().into()) };
        table::intern(key, allowance, || UrlPattern::parse(text, base).map(Form::Url))
    }

    /// The URI template `text`.
    pub(super) fn template(text: &str, allowance: Allowance) -> Result<Arc<Self>, Unusable> {
        let key = Key { text: text.into(), base: None };
        table::intern(key, allowance, || Template::parse(text).map(Form::Template))
    }

    pub(super) fn id(&self) -> PatternId {
        self.id
    }

    /// The pattern as its user wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.key.text
    }

    /// Which kind of pattern it is.
    #[must_use]
    pub fn kind(&self) -> PatternKind {
        match self.form {
            Form::Url(_) => PatternKind::UrlPattern,
            Form::Template(_) => PatternKind::UriTemplate,
        }
    }

    /// How much it costs to test, as [`MatcherLimits`](super::MatcherLimits) counts it.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Whether a topic matches.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        self.test(&mut Resolver::new(topic))
    }

    /// As [`Pattern::matches`], for several patterns and one topic.
    pub(super) fn test(&self, topic: &mut Resolver<'_>) -> bool {
        N_TESTS.fetch_add(1, Relaxed);
        match &self.form {
            Form::Url(pattern) => pattern.matches(topic),
            Form::Template(template) => template.matches(self.as_str(), topic.topic().as_str()),
        }
    }
}

impl Form {
    /// How much a test of it costs at worst.
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

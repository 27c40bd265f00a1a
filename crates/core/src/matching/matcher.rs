//! Matchers: conditions on topics, used by subscribers and by the grants of access tokens.

use std::sync::Arc;

use url::Url;

use super::pattern::{self, Allowance, Pattern, Resolver, Unusable};
use crate::event::{Invalid, Topic, WILDCARD};

/// How the text of a matcher is interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatcherKind {
    /// Draft-08 `exact`, the default: byte-for-byte equality.
    Exact,
    /// Draft-08 `urlpattern`: WHATWG URL Pattern.
    UrlPattern,
    /// RFC 6570 template; a matcher type of tidegate's own, for the new dialect to express what
    /// selectors did in the old one.
    UriTemplate,
    /// Draft-07 topic selector: a template if it is a valid one, else exact.
    Selector,
}

impl MatcherKind {
    /// The matcher types that access tokens and `match_…` parameters can name.
    pub const TYPES: [Self; 3] = [Self::Exact, Self::UrlPattern, Self::UriTemplate];

    /// Returns the matcher type of this name, case-sensitive.
    #[must_use]
    pub fn from_type(name: &str) -> Option<Self> {
        Self::TYPES.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The name of the matcher type; `topic` for a selector, which has none.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::UrlPattern => "urlpattern",
            Self::UriTemplate => "uritemplate",
            Self::Selector => "topic",
        }
    }

    /// The field that an error names when a matcher of this kind is refused.
    pub fn field(self) -> &'static str {
        match self {
            Self::Exact => "match",
            Self::UrlPattern => "match_urlpattern",
            Self::UriTemplate => "match_uritemplate",
            Self::Selector => "topic",
        }
    }
}

/// The limits on matchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatcherLimits {
    /// Matchers of one subscriber or access token.
    pub matchers: usize,
    /// Bytes of one matcher.
    pub bytes: usize,
    /// The cost of one pattern or template. It is 1, plus 10 for each variable or wildcard after
    /// the first. Each 64 bytes of text add 1, and so do each 8 bytes of a compiled component with
    /// a regular expression.
    pub cost: usize,
    /// The total cost of the patterns of one subscriber or access token.
    pub cost_of_set: usize,
    /// The total cost of the patterns of all subscribers; equal ones count once.
    pub cost_of_all: usize,
}

/// One condition on topics. An update matches if a matcher accepts one of its topics.
///
/// ```
/// use tidegate_core::matching::{Matcher, MatcherKind, MatcherLimits};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = "https://example.com/.well-known/mercure".parse()?;
/// # let limits = MatcherLimits {
/// #     matchers: 100,
/// #     bytes: 4096,
/// #     cost: 1000,
/// #     cost_of_set: 10_000,
/// #     cost_of_all: 100_000,
/// # };
/// let template = MatcherKind::UriTemplate;
/// let books = Matcher::parse(template, "https://example.com/books/{id}", &hub, &limits)?;
/// assert!(matches!(books, Matcher::Pattern(_)));
/// assert!(Matcher::parse(template, "books/{", &hub, &limits).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// `*`: every topic.
    Everything,
    /// Byte-for-byte equality.
    Exact(Topic),
    /// A URL pattern or URI template.
    Pattern(Arc<Pattern>),
}

impl Matcher {
    /// Parses `value`. A URL pattern is resolved against `hub_url`, and so are the topics it is
    /// tested on. `*` is the wildcard whatever the kind (draft-08, "Topic matchers").
    ///
    /// # Errors
    /// If `value` breaks the string rule, is not valid for its kind, or is over a limit.
    pub fn parse(
        kind: MatcherKind,
        value: &str,
        hub_url: &Url,
        limits: &MatcherLimits,
    ) -> Result<Self, Invalid> {
        if value == WILDCARD {
            return Ok(Self::Everything);
        }
        let topic = Topic::parse_field(kind.field(), value, limits.bytes)?;
        let allowance = Allowance { each: limits.cost };
        let pattern = match kind {
            MatcherKind::Exact => return Ok(Self::Exact(topic)),
            MatcherKind::Selector if !value.contains('{') => return Ok(Self::Exact(topic)),
            MatcherKind::UrlPattern => Pattern::url(value, hub_url, allowance),
            MatcherKind::UriTemplate | MatcherKind::Selector => Pattern::template(value, allowance),
        };
        match pattern {
            Ok(pattern) => Ok(Self::Pattern(pattern)),
            // A selector that is not a valid template is exact (draft-07, "Topic selectors").
            Err(Unusable::Malformed) if kind == MatcherKind::Selector => Ok(Self::Exact(topic)),
            Err(unusable) => Err(refusal(kind, unusable, limits)),
        }
    }

    /// The matcher for a value of the parameter `match`.
    ///
    /// # Errors
    /// If `value` cannot be a topic.
    pub fn exact(value: &str, limit: usize) -> Result<Self, Invalid> {
        if value == WILDCARD {
            return Ok(Self::Everything);
        }
        Topic::parse(value, limit).map(Self::Exact)
    }

    /// Bytes that a subscriber's matcher counts as: its text plus a fixed overhead.
    pub fn weight(text: &str) -> usize {
        const BESIDES: usize = 64;
        text.len() + BESIDES
    }

    fn cost(&self) -> usize {
        match self {
            Self::Everything | Self::Exact(_) => 0,
            Self::Pattern(pattern) => pattern.cost(),
        }
    }
}

fn refusal(kind: MatcherKind, unusable: Unusable, limits: &MatcherLimits) -> Invalid {
    let field = kind.field();
    match unusable {
        Unusable::Malformed => {
            let rule = match kind {
                MatcherKind::UriTemplate => "is not a URI template (RFC 6570)",
                MatcherKind::UrlPattern | MatcherKind::Exact | MatcherKind::Selector => {
                    "is not a URL pattern, or one with a regular expression that takes more than 8 KiB when it is compiled"
                }
            };
            Invalid::Rule { field, rule }
        }
        Unusable::Costly => Invalid::TooCostly { field, limit: limits.cost },
    }
}

/// A set of matchers, joined by "or".
///
/// ```
/// use tidegate_core::{
///     event::Topic,
///     matching::{MatcherKind, MatcherLimits, Matchers},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = "https://example.com/.well-known/mercure".parse()?;
/// # let limits = MatcherLimits {
/// #     matchers: 100,
/// #     bytes: 4096,
/// #     cost: 1000,
/// #     cost_of_set: 10_000,
/// #     cost_of_all: 100_000,
/// # };
/// let asked = [(MatcherKind::Exact, "news"), (MatcherKind::UrlPattern, "/books/:id")];
/// let matchers = Matchers::parse(asked.into_iter(), &hub, &limits)?;
/// assert!(matchers.matches(&Topic::parse("news", 4096)?));
/// assert!(matchers.matches(&Topic::parse("https://example.com/books/1", 4096)?));
/// assert!(!matchers.matches(&Topic::parse("https://example.com/authors/1", 4096)?));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matchers {
    everything: bool,
    topics: Box<[Topic]>,
    /// Sorted by id.
    patterns: Box<[Arc<Pattern>]>,
    /// Whether topics of jobs are matched only by matchers whose text begins with `/jobs`.
    names_jobs: bool,
}

impl Matchers {
    /// The union of `matchers`.
    #[must_use]
    pub fn new(matchers: impl IntoIterator<Item = Matcher>) -> Self {
        let mut everything = false;
        let (mut topics, mut patterns) = (Vec::new(), Vec::new());
        for matcher in matchers {
            match matcher {
                Matcher::Everything => everything = true,
                Matcher::Exact(topic) => topics.push(topic),
                Matcher::Pattern(pattern) => patterns.push(pattern),
            }
        }
        topics.sort_unstable();
        topics.dedup();
        patterns.sort_unstable_by_key(|pattern: &Arc<Pattern>| pattern.id());
        patterns.dedup();
        Self { everything, topics: topics.into(), patterns: patterns.into(), names_jobs: false }
    }

    /// Parses the matchers of one subscriber or access token, within its limits. Checks their
    /// number first, so that refusing a bad request is cheap.
    ///
    /// # Errors
    /// If [`Matcher::parse`] refuses a value, or if the set is over a limit.
    pub fn parse<'a>(
        values: impl ExactSizeIterator<Item = (MatcherKind, &'a str)>,
        hub_url: &Url,
        limits: &MatcherLimits,
    ) -> Result<Self, Invalid> {
        if limits.matchers < values.len() {
            return Err(Invalid::TooMany { field: "match", limit: limits.matchers });
        }
        let mut matchers = Vec::with_capacity(values.len());
        let mut cost = 0_usize;
        for (kind, value) in values {
            let matcher = Matcher::parse(kind, value, hub_url, limits)?;
            cost += matcher.cost();
            if limits.cost_of_set < cost {
                return Err(Invalid::TooCostly { field: kind.field(), limit: limits.cost_of_set });
            }
            matchers.push(matcher);
        }
        Ok(Self::new(matchers))
    }

    /// The same set with further exact topics.
    #[must_use]
    pub(crate) fn with_topics(&self, topics: impl IntoIterator<Item = Topic>) -> Self {
        let mut all: Vec<Topic> = self.topics.iter().cloned().chain(topics).collect();
        all.sort_unstable();
        all.dedup();
        Self { topics: all.into(), ..self.clone() }
    }

    /// The same set, except that `*` and patterns not beginning with `/jobs` match no topics of
    /// jobs.
    #[must_use]
    pub fn naming_jobs(self) -> Self {
        Self { names_jobs: true, ..self }
    }

    /// The total cost of its patterns.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.patterns.iter().map(|it| it.cost()).sum()
    }

    /// Bytes that the set counts as.
    #[must_use]
    pub fn weight(&self) -> usize {
        let topics = self.topics.iter().map(|it| Matcher::weight(it.as_str()));
        let patterns = self.patterns.iter().map(|it| Matcher::weight(it.as_str()));
        topics.chain(patterns).sum()
    }

    /// The number of matchers.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.everything) + self.topics.len() + self.patterns.len()
    }

    /// Whether a matcher accepts `topic` that is exact or whose text begins with `/jobs`.
    #[must_use]
    pub fn names_jobs(&self, topic: &Topic) -> bool {
        let names_jobs = |pattern: &Arc<Pattern>| pattern.as_str().starts_with("/jobs");
        let of_jobs = || self.patterns.iter().filter(|it| names_jobs(it));
        self.names(topic) || of_jobs().any(|pattern| pattern.matches(topic))
    }

    /// Whether a matcher accepts `topic`.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        if self.names_jobs && topic.is_of_jobs() {
            return self.names_jobs(topic);
        }
        self.everything || self.names(topic) || self.has_pattern_for(topic)
    }

    /// Whether `topic` is one of the exact topics.
    #[must_use]
    pub fn names(&self, topic: &Topic) -> bool {
        self.topics.binary_search(topic).is_ok()
    }

    /// Uses cached results for the topic: live delivery has always just computed them.
    fn has_pattern_for(&self, topic: &Topic) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let known = pattern::known(topic);
        let mut resolver = Resolver::new(topic);
        self.patterns.iter().any(|pattern| {
            let verdict = known.as_ref().and_then(|known| known.verdict(pattern.id()));
            verdict.unwrap_or_else(|| pattern.test(&mut resolver))
        })
    }

    /// Whether `*` is in the set.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// The exact topics, sorted and distinct.
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// The URL patterns and URI templates, distinct.
    #[must_use]
    pub fn patterns(&self) -> &[Arc<Pattern>] {
        &self.patterns
    }
}

//! URL patterns (WHATWG URL Pattern) on topics that are resolved against the hub's address.

use std::sync::OnceLock;

use regex_lite::{Regex, RegexBuilder};
use url::{Url, quirks};
use urlpattern::{
    RegexSyntax, UrlPattern as Parsed, UrlPatternInit, UrlPatternOptions,
    component::Component as ParsedComponent,
    matcher::{InnerMatcher, Matcher},
    regexp::RegExp,
};

use crate::event::Topic;

/// Bytes that a compiled component may take if its author wrote regular expressions into it; a count of repetitions
/// can make a short one as large as it likes.
const MOST_COMPILED_GROUPS: usize = 32 << 10;

/// Bytes that any other compiled component may take. Its size follows from its length, so none comes near.
const MOST_COMPILED: usize = 4 << 20;

/// Bytes of a pattern that cost as much as a wildcard.
const LITERAL_PER_COST: usize = 64;

/// A part of an address.
#[derive(Debug, Clone, Copy)]
enum Component {
    Pathname,
    Hostname,
    Search,
    Hash,
    Protocol,
    Port,
    Username,
    Password,
}

/// A URL pattern: what its components demand, without those that demand nothing. Regular expressions are compiled when
/// they are first needed; the linear-time engine knows neither look-around nor back-references.
#[derive(Debug)]
pub(super) struct UrlPattern {
    base: Url,
    demands: Box<[(Component, Matcher<LazyRegex>)]>,
    cost: usize,
}

impl UrlPattern {
    /// The pattern that `text` is, relative ones resolved against `base`; `None` if it is malformed.
    pub(super) fn parse(text: &str, base: &Url) -> Option<Self> {
        let init =
            UrlPatternInit::parse_constructor_string::<LazyRegex>(text, Some(base.clone())).ok()?;
        let parsed = Parsed::<LazyRegex>::parse(init, UrlPatternOptions::default()).ok()?;
        // Those that tell most topics apart come first.
        let components = [
            (Component::Pathname, parsed.pathname),
            (Component::Hostname, parsed.hostname),
            (Component::Search, parsed.search),
            (Component::Hash, parsed.hash),
            (Component::Protocol, parsed.protocol),
            (Component::Port, parsed.port),
            (Component::Username, parsed.username),
            (Component::Password, parsed.password),
        ];
        let mut cost = text.len() / LITERAL_PER_COST;
        let mut demands = Vec::new();
        for (name, component) in components {
            if accepts_everything(&component.matcher) {
                continue;
            }
            cost += cost_of(&component)?;
            demands.push((name, component.matcher));
        }
        Some(Self { base: base.clone(), demands: demands.into(), cost })
    }

    /// How much a test costs at worst, in wildcards.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Whether the topic matches. One that is no address, not even relative to the hub's, matches nothing.
    pub(super) fn matches(&self, topic: &mut Resolver<'_>) -> bool {
        let Some(url) = topic.against(&self.base) else { return false };
        self.demands.iter().all(|(component, matcher)| matcher.matches(component.of(url)).is_some())
    }
}

impl Component {
    /// This part of an address, as URL patterns look at it.
    fn of(self, url: &Url) -> &str {
        match self {
            Self::Pathname => url.path(),
            Self::Hostname => quirks::hostname(url),
            Self::Search => url.query().unwrap_or_default(),
            Self::Hash => url.fragment().unwrap_or_default(),
            Self::Protocol => url.scheme(),
            Self::Port => quirks::port(url),
            Self::Username => url.username(),
            Self::Password => url.password().unwrap_or_default(),
        }
    }
}

fn accepts_everything(matcher: &Matcher<LazyRegex>) -> bool {
    let any =
        matches!(matcher.inner, InnerMatcher::SingleCapture { filter: None, allow_empty: true });
    any && matcher.prefix.is_empty() && matcher.suffix.is_empty()
}

/// The cost of a component: its wildcards, and the text of the regular expressions in it, which are tried out here;
/// `None` if they are malformed or too large.
fn cost_of(component: &ParsedComponent<LazyRegex>) -> Option<usize> {
    let n_wildcards = component.group_name_list.len();
    match &component.matcher.inner {
        InnerMatcher::RegExp { regexp } if component.has_regexp_group => {
            let regexp = regexp.as_ref().ok()?;
            regexp.compile(MOST_COMPILED_GROUPS)?;
            Some(n_wildcards + regexp.text.len())
        }
        InnerMatcher::RegExp { .. }
        | InnerMatcher::Literal { .. }
        | InnerMatcher::SingleCapture { .. } => Some(n_wildcards),
    }
}

/// A regular expression that is compiled when it is first needed: most patterns never need theirs.
#[derive(Debug)]
pub(super) struct LazyRegex {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl LazyRegex {
    /// The compiled expression; `None` if it is malformed or over `limit` bytes. Only the first call's limit counts.
    fn compile(&self, limit: usize) -> Option<&Regex> {
        let compile = || RegexBuilder::new(&self.text).size_limit(limit).build().ok();
        self.compiled.get_or_init(compile).as_ref()
    }
}

impl RegExp for LazyRegex {
    fn syntax() -> RegexSyntax {
        RegexSyntax::Rust
    }

    fn parse(pattern: &str, _flags: &str, _force_eval: bool) -> Result<Self, ()> {
        Ok(Self { text: pattern.into(), compiled: OnceLock::new() })
    }

    fn matches<'a>(&self, text: &'a str) -> Option<Vec<Option<&'a str>>> {
        // Nobody looks at what the groups captured.
        self.compile(MOST_COMPILED)?.is_match(text).then(Vec::new)
    }

    fn pattern_string(&self) -> &str {
        &self.text
    }
}

/// A topic as an address, resolved once for all patterns with the same base that come one after the other.
#[derive(Debug)]
pub(in crate::hub) struct Resolver<'a> {
    topic: &'a Topic,
    base: Option<Url>,
    resolved: Option<Url>,
}

impl<'a> Resolver<'a> {
    pub(in crate::hub) fn new(topic: &'a Topic) -> Self {
        Self { topic, base: None, resolved: None }
    }

    /// The topic itself.
    pub(super) fn topic(&self) -> &'a Topic {
        self.topic
    }

    fn against(&mut self, base: &Url) -> Option<&Url> {
        if self.base.as_ref() != Some(base) {
            self.resolved = base.join(self.topic.as_str()).ok();
            self.base = Some(base.clone());
        }
        self.resolved.as_ref()
    }
}

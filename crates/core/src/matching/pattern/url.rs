//! URL patterns (WHATWG URL Pattern) on topics that are resolved against the hub's address.

use std::sync::OnceLock;

use regex_lite::{Regex, RegexBuilder};
use url::{Url, quirks};
use urlpattern::{
    RegexSyntax, UrlPattern as Parsed, UrlPatternInit, UrlPatternOptions,
    matcher::{InnerMatcher, Matcher},
    regexp::RegExp,
};

use crate::event::Topic;

/// Limit on the bytes of a compiled component that contains regular expressions of its author. A
/// repetition count can make a short one arbitrarily large, and a test follows every state at each
/// character.
const MOST_COMPILED_GROUPS: usize = 8 << 10;

/// The smallest size limit tried when compiling a component; it is doubled until compilation
/// succeeds.
const LEAST_COMPILED: usize = 256;

/// Limit on the bytes of any other compiled component. Its size follows from its length, so none
/// comes near.
const MOST_COMPILED: usize = 4 << 20;

/// A component of a URL.
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

/// A URL pattern, reduced to the components that restrict something. Regular expressions are
/// compiled on first use; the linear-time engine supports neither look-around nor back-references.
#[derive(Debug)]
pub(super) struct UrlPattern {
    base: Url,
    demands: Box<[(Component, Matcher<LazyRegex>)]>,
    n_wildcards: usize,
    compiled_bytes: usize,
}

impl UrlPattern {
    /// An upper bound on the wildcards in `text`, found without parsing it.
    pub(super) fn most_wildcards(text: &str) -> usize {
        text.bytes().filter(|it| b":*(".contains(it)).count()
    }

    /// Parses `text`, resolving a relative pattern against `base`; `None` if it is malformed.
    pub(super) fn parse(text: &str, base: &Url) -> Option<Self> {
        if has_stray_bracket(text) {
            return None;
        }
        let base_of_relative = Some(base.clone());
        let mut init =
            UrlPatternInit::parse_constructor_string::<LazyRegex>(text, base_of_relative).ok()?;
        if init.protocol.is_some() {
            // Otherwise the path of `urn\:isbn\:*` would be taken for a relative one.
            init.base_url = None;
        }
        let parsed = Parsed::<LazyRegex>::parse(init, UrlPatternOptions::default()).ok()?;
        // The most selective components come first.
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
        let (mut n_wildcards, mut compiled_bytes) = (0, 0);
        let mut demands = Vec::new();
        for (name, component) in components {
            if accepts_everything(&component.matcher) {
                continue;
            }
            n_wildcards += component.group_name_list.len();
            if component.has_regexp_group {
                compiled_bytes += compiled_size(&component.matcher)?;
            }
            demands.push((name, component.matcher));
        }
        Some(Self { base: base.clone(), demands: demands.into(), n_wildcards, compiled_bytes })
    }

    /// The number of named groups, `*` and regular expressions.
    pub(super) fn n_wildcards(&self) -> usize {
        self.n_wildcards
    }

    /// Bytes of the compiled components that contain regular expressions of the author.
    pub(super) fn compiled_bytes(&self) -> usize {
        self.compiled_bytes
    }

    /// Whether the topic matches. A topic that does not resolve to a URL matches nothing.
    pub(super) fn matches(&self, topic: &mut Resolver<'_>) -> bool {
        let Some(url) = topic.against(&self.base) else { return false };
        self.demands.iter().all(|(component, matcher)| matcher.matches(component.of(url)).is_some())
    }
}

impl Component {
    /// This component of a URL, as URL patterns see it.
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

/// Whether a host could contain a `]` without a preceding `[`, which the parser counts without a
/// check. Only simple pairs pass, as in IPv6 addresses and character classes. Elsewhere such a
/// bracket has to be written as `%5D`.
fn has_stray_bracket(text: &str) -> bool {
    let mut is_open = false;
    let is_stray = |byte| {
        let is_stray = byte == b']' && !is_open;
        match byte {
            b'[' => is_open = true,
            b']' | b'@' | b'(' | b')' | b'{' | b'}' => is_open = false,
            _ => {}
        }
        is_stray
    };
    !text.starts_with('/') && text.bytes().any(is_stray)
}

/// Compiles a component that contains regular expressions of its author, and returns its size.
/// `None` if it is malformed or too large. The engine does not report the size, but it enforces a
/// limit.
fn compiled_size(matcher: &Matcher<LazyRegex>) -> Option<usize> {
    let InnerMatcher::RegExp { regexp: Ok(regexp) } = &matcher.inner else { return None };
    let limits = std::iter::successors(Some(LEAST_COMPILED), |limit| Some(limit * 2));
    let mut limits = limits.take_while(|limit| *limit <= MOST_COMPILED_GROUPS);
    let (limit, compiled) = limits.find_map(|limit| {
        let compiled = RegexBuilder::new(&regexp.text).size_limit(limit).build();
        Some((limit, compiled.ok()?))
    })?;
    // Cannot be set yet: the component has just been parsed.
    let _ = regexp.compiled.set(Some(compiled));
    Some(limit)
}

/// A regular expression that is compiled on first use: most patterns never need theirs.
#[derive(Debug)]
pub(super) struct LazyRegex {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl LazyRegex {
    /// The compiled expression; `None` if it is malformed or too large.
    fn compile(&self) -> Option<&Regex> {
        let compile = || RegexBuilder::new(&self.text).size_limit(MOST_COMPILED).build().ok();
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
        // Captures are never used.
        self.compile()?.is_match(text).then(Vec::new)
    }

    fn pattern_string(&self) -> &str {
        &self.text
    }
}

/// A topic as a URL, resolved once for consecutive patterns with the same base.
#[derive(Debug)]
pub(in crate::matching) struct Resolver<'a> {
    topic: &'a Topic,
    base: Option<Url>,
    resolved: Option<Url>,
}

impl<'a> Resolver<'a> {
    pub(in crate::matching) fn new(topic: &'a Topic) -> Self {
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

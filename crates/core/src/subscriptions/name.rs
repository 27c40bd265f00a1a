//! The names of subscriptions: paths below the hub's path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::{
    event::WILDCARD,
    matching::{MatcherKind, Matchers, PatternKind},
};

/// Everything but the unreserved characters (RFC 6570, simple expansion).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes a text as one path segment. A prefix of the text becomes a prefix of the segment.
pub fn segment(text: &str) -> String {
    percent_encode(text.as_bytes(), RESERVED).to_string()
}

/// The key of a subscription: its path after `…/subscriptions/`.
pub fn key(kind: MatcherKind, matcher: &str, subscriber: &str) -> String {
    format!("{}/{}/{}", kind.as_str(), segment(matcher), segment(subscriber))
}

/// The path of a subscription in the old dialect, after `…/subscriptions/`. `None` for a matcher
/// equal to the name of a matcher type: its path would be that of a list.
pub fn old_key(matcher: &str, subscriber: &str) -> Option<String> {
    let is_ambiguous = MatcherKind::from_type(matcher).is_some();
    (!is_ambiguous).then(|| format!("{}/{}", segment(matcher), segment(subscriber)))
}

/// The matchers that are listed. Matchers for a single job are not: knowing a job's id is the
/// permission to see it.
pub(super) fn told(matchers: &Matchers) -> impl Iterator<Item = (MatcherKind, &str)> {
    let everything = matchers.is_everything().then_some((MatcherKind::Exact, WILDCARD));
    let topics = matchers.topics().iter().filter(|topic| !topic.is_job());
    let patterns = matchers.patterns().iter().map(|pattern| {
        let kind = match pattern.kind() {
            PatternKind::UrlPattern => MatcherKind::UrlPattern,
            PatternKind::UriTemplate => MatcherKind::UriTemplate,
        };
        (kind, pattern.as_str())
    });
    let topics = topics.map(|topic| (MatcherKind::Exact, topic.as_str()));
    everything.into_iter().chain(topics).chain(patterns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn everything_but_unreserved_characters_is_escaped_once() {
        let key = key(MatcherKind::UrlPattern, "https://example.com/:id", "urn:uuid:1");
        assert_eq!(key, "urlpattern/https%3A%2F%2Fexample.com%2F%3Aid/urn%3Auuid%3A1");
        assert_eq!(segment("a-b._~ %é+"), "a-b._~%20%25%C3%A9%2B");
        assert_eq!(old_key("exact", "x"), None);
    }

    proptest! {
        #[test]
        fn a_segment_can_be_read_back_and_keeps_beginnings(begin in ".*", end in ".*") {
            let (whole, begin) = (format!("{begin}{end}"), segment(&begin));
            prop_assert!(segment(&whole).starts_with(&begin));
            prop_assert!(!segment(&whole).contains('/'));
            let encoded = segment(&whole);
            let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8();
            prop_assert_eq!(decoded.expect("valid"), whole);
        }
    }
}

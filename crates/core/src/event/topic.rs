//! Topics: the names under which events are published.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{
    ClientKey,
    text::{self, Invalid},
};

/// The matcher for every topic. It is never a topic itself.
pub(crate) const WILDCARD: &str = "*";

/// The prefix of operating rights, which are exact names in tokens.
const RIGHTS: &str = "urn:tidegate:";

/// The prefix of job topics.
const JOBS: &str = "/jobs/";

/// The prefix of the topics that belong to single clients.
const CLIENTS: &str = "/.well-known/mercure/clients/";

/// The name that an event is published under: any string, often an IRI.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Topic {
    /// Parses a topic of an update or of an exact matcher.
    ///
    /// ```
    /// use tidegate_core::event::{Invalid, Topic};
    ///
    /// let topic = Topic::parse("https://example.com/books/1", 4096)?;
    /// assert_eq!(topic.as_str(), "https://example.com/books/1");
    /// assert!(Topic::parse("a\nb", 4096).is_err());
    /// # Ok::<(), Invalid>(())
    /// ```
    ///
    /// # Errors
    /// Refuses a topic that is over `limit` bytes or breaks the string rule.
    pub fn parse(value: &str, limit: usize) -> Result<Self, Invalid> {
        Self::parse_field("topic", value, limit)
    }

    /// Parses a topic from a field other than `topic`.
    pub(crate) fn parse_field(
        field: &'static str,
        value: &str,
        limit: usize,
    ) -> Result<Self, Invalid> {
        text::check(field, value, limit)?;
        Ok(Self(value.into()))
    }

    /// Restores a topic that a history has stored.
    pub fn kept(value: &str) -> Self {
        Self(value.into())
    }

    /// The topic for the changes of a job.
    pub fn of_job(id: &str) -> Self {
        Self(format!("{JOBS}{id}").into())
    }

    /// The topic that means all jobs in rights. No event is ever published under it.
    pub fn of_jobs() -> Self {
        Self(JOBS.trim_end_matches('/').into())
    }

    /// The topic that means claiming jobs in rights.
    pub fn of_claims() -> Self {
        Self::of_job("claim")
    }

    /// The topic that means answering the questions of a job in rights.
    pub fn of_answers(id: &str) -> Self {
        Self(format!("{JOBS}{id}/answers").into())
    }

    /// The topic that announces a subscription: its path.
    pub fn of_subscription(path: &str) -> Self {
        Self(path.into())
    }

    /// Whether this is a job topic. Naming it is enough to receive its events: knowing the
    /// unguessable id is the permission to see the job.
    #[must_use]
    pub fn is_job(&self) -> bool {
        self.as_str().starts_with(JOBS)
    }

    /// The job's id, if this is a job topic.
    #[must_use]
    pub fn job_id(&self) -> Option<&str> {
        self.as_str().strip_prefix(JOBS)
    }

    /// Whether this topic belongs to a client. Its last segment is the client's id: the hash of its
    /// key.
    pub(crate) fn is_of_client(&self, client: &ClientKey) -> bool {
        let mut id = [0; ClientKey::ID_BYTES];
        self.as_str().strip_prefix(CLIENTS).is_some_and(|rest| {
            URL_SAFE_NO_PAD.encode_slice(client.as_bytes(), &mut id) == Ok(rest.len())
                && rest.as_bytes() == id
        })
    }

    /// The topic that belongs to a client. Only that client hears its events.
    #[must_use]
    pub fn of_client(client: &ClientKey) -> Self {
        Self(format!("{CLIENTS}{}", client.id()).into())
    }

    /// Whether this topic belongs to a client.
    #[must_use]
    pub fn is_client(&self) -> bool {
        self.as_str().starts_with(CLIENTS)
    }

    /// Whether rights on this topic are rights on jobs: to create, list, claim or report on them.
    #[must_use]
    pub fn is_of_jobs(&self) -> bool {
        self.is_job() || self.as_str() == JOBS.trim_end_matches('/')
    }

    /// The topic as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether only the hub itself may publish under this topic. Reserved are the job topics, and
    /// every topic whose path lies in the hub's namespace once resolved against `hub`. The scheme
    /// and authority do not matter (draft-08, "Reserved topics").
    #[must_use]
    pub fn is_reserved(&self, hub: &Url) -> bool {
        if self.is_of_jobs() || self.as_str().starts_with(RIGHTS) {
            return true;
        }
        !self.is_plainly_free(hub) && self.is_in_namespace(hub)
    }

    fn is_in_namespace(&self, hub: &Url) -> bool {
        let Ok(resolved) = hub.join(self.as_str()) else {
            return false;
        };
        let path = decode_unreserved(resolved.path());
        let namespace = hub.path();
        path.strip_prefix(namespace).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether the topic is free without resolving it, as nearly every topic is. It is not empty,
    /// does not begin with `?` or `#`, and contains neither `%` nor the last segment of the hub's
    /// path.
    fn is_plainly_free(&self, hub: &Url) -> bool {
        let topic = self.as_str();
        let last = hub.path().rsplit('/').next().unwrap_or_default();
        !last.is_empty()
            && !topic.is_empty()
            && !topic.starts_with(['?', '#'])
            && !topic.contains('%')
            && !topic.contains(last)
    }
}

/// Decodes only the `%XX` triplets of unreserved characters (RFC 3986, section 2.3).
fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let triplet = rest.get(at..at + 3).unwrap_or("%");
        match percent_decode_str(triplet).next() {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(char::from(byte));
            }
            _ => decoded.push_str(triplet),
        }
        rest = &rest[at + triplet.len()..];
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_reserved(topic: &str) -> bool {
        let hub = Url::parse("https://hub.example/.well-known/mercure").expect("a valid address");
        Topic::parse(topic, 4096).expect("a valid topic").is_reserved(&hub)
    }

    #[test]
    fn the_hubs_namespace_is_reserved_for_any_scheme_and_authority() {
        for topic in [
            "/.well-known/mercure",
            "/.well-known/mercure/x",
            "https://other.example/.well-known/mercure/y",
            "/.well-known/%6Dercure/x",
            "/.well-known/mercure/../mercure/x",
            "\\.well-known\\mercure\\x",
            "foo:/.well-known/mercure/x",
            "",
            "?x",
            "#f",
            "mercure",
            "mercure/x",
            "/jobs/1",
            "/jobs",
        ] {
            assert!(is_reserved(topic), "{topic}");
        }
    }

    proptest! {
        #[test]
        fn what_is_plainly_free_is_free(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "/", ".", "..", "mercure", ".well-known", "%6D", "ercure", "x", "?", "#", ":", "\\", "http:", "é",
                ]),
                0..8,
            ),
        ) {
            let hub = Url::parse("https://hub.example/.well-known/mercure").expect("a valid address");
            let Ok(topic) = Topic::parse(&pieces.concat(), 4096) else { return Ok(()) };
            prop_assert!(!(topic.is_plainly_free(&hub) && topic.is_in_namespace(&hub)), "{topic:?}");
        }
    }

    #[test]
    fn neighbours_of_the_namespace_are_free() {
        for topic in [
            "urn:x",
            "/.well-known/mercurial",
            "/.well-known/mercure;x",
            "/.well-known/mercure%2Fx",
            "../mercure/x",
            "foo",
            "100%",
            "a%2",
            "%C3%A4",
            "https://example.com/jobs/1",
            "/jobsite",
        ] {
            assert!(!is_reserved(topic), "{topic}");
        }
    }
}

//! What a subscriber asked for: its matchers, and who it is.

use crate::event::{ClientKey, Invalid, Topic, Update, WILDCARD};

/// One condition on topics; an update needs one topic that one matcher accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// `*`: every topic.
    Everything,
    /// Byte-for-byte equality.
    Exact(Topic),
}

impl Matcher {
    /// The matcher that the parameter `match` or `topic` stands for. The wildcard comes first whatever the type
    /// (draft-08, "Topic matchers").
    ///
    /// # Errors
    /// If `value` cannot be a topic.
    pub fn exact(value: &str, limit: usize) -> Result<Self, Invalid> {
        if value == WILDCARD {
            return Ok(Self::Everything);
        }
        Topic::parse(value, limit).map(Self::Exact)
    }
}

/// Everything that decides whether an update is for a subscriber.
#[derive(Debug)]
pub struct Interest {
    everything: bool,
    topics: Box<[Topic]>,
    client: Option<ClientKey>,
}

impl Interest {
    /// The union of `matchers`, less the updates that except `client`.
    #[must_use]
    pub fn new(matchers: impl IntoIterator<Item = Matcher>, client: Option<ClientKey>) -> Self {
        let mut everything = false;
        let mut topics = Vec::new();
        for matcher in matchers {
            match matcher {
                Matcher::Everything => everything = true,
                Matcher::Exact(topic) => topics.push(topic),
            }
        }
        topics.sort_unstable();
        topics.dedup();
        Self { everything, topics: topics.into(), client }
    }

    /// The exact topics, sorted and distinct, if they are all there is; `None` if other matchers have to be asked.
    #[must_use]
    pub fn exact_topics(&self) -> Option<&[Topic]> {
        (!self.everything).then_some(&*self.topics)
    }

    /// Whether one of the matchers accepts `topic`. The wildcard does not stand for the topics of jobs.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        (self.everything && !topic.is_job()) || self.topics.binary_search(topic).is_ok()
    }

    /// Whether the update is for this subscriber.
    #[must_use]
    pub fn covers(&self, update: &Update) -> bool {
        let is_excepted = self.client.is_some_and(|client| update.except.contains(&client));
        !is_excepted && update.topics.iter().any(|topic| self.matches(topic))
    }
}

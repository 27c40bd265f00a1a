//! What a subscriber gets: what it asked for, as far as it may see it.

use super::Matchers;
use crate::event::{ClientKey, Topic, Update};

/// Which private updates a subscriber may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// None.
    PublicOnly,
    /// All: without keys nothing is hidden from anybody.
    Everything,
    /// Those with a topic that a `subscribe` grant covers.
    Of(Matchers),
}

impl Rights {
    fn covers_private(&self, update: &Update) -> bool {
        match self {
            Self::PublicOnly => false,
            Self::Everything => true,
            Self::Of(grants) => update.topics.iter().any(|topic| grants.matches(topic)),
        }
    }

    /// Whether a grant names this topic. Without keys there are no grants.
    fn grants(&self, topic: &Topic) -> bool {
        match self {
            Self::PublicOnly | Self::Everything => false,
            Self::Of(grants) => grants.matches(topic),
        }
    }
}

/// Everything that decides whether an update is for a subscriber.
#[derive(Debug)]
pub struct Interest {
    matchers: Matchers,
    client: Option<ClientKey>,
    rights: Rights,
}

impl Interest {
    /// What `matchers` accept and `rights` allow, less the updates that except `client`.
    #[must_use]
    pub fn new(matchers: Matchers, client: Option<ClientKey>, rights: Rights) -> Self {
        Self { matchers, client, rights }
    }

    /// What it asked for.
    #[must_use]
    pub fn matchers(&self) -> &Matchers {
        &self.matchers
    }

    /// The exact topics, sorted and distinct, if they are all there is; `None` if other matchers have to be asked.
    #[must_use]
    pub fn exact_topics(&self) -> Option<&[Topic]> {
        let has_others = self.matchers.is_everything() || !self.matchers.patterns().is_empty();
        (!has_others).then_some(self.matchers.topics())
    }

    /// Whether one of the matchers leads to `topic`. Who knows the unguessable name of a job may see it; `*` and
    /// patterns lead to jobs only with a grant for them.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        if topic.is_job() {
            let may_search = || self.rights.grants(topic) && self.matchers.matches(topic);
            return self.matchers.names(topic) || may_search();
        }
        self.matchers.matches(topic)
    }

    /// Whether the update is for this subscriber. A private one needs a matcher for any of its topics, and a grant for
    /// any of them, not necessarily the same (draft-08, "Subscribers").
    #[must_use]
    pub fn covers(&self, update: &Update) -> bool {
        let is_excepted = self.client.is_some_and(|client| update.except.contains(&client));
        !is_excepted
            && update.topics.iter().any(|topic| self.matches(topic))
            && (!update.private || self.rights.covers_private(update))
    }
}

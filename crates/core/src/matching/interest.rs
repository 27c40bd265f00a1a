//! What a subscriber receives: the events that it subscribes to and has the rights for.

use super::Matchers;
use crate::event::{Audience, ClientKey, Event, Topic, Update};

/// Which private updates a subscriber may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// None.
    PublicOnly,
    /// All: without keys nothing is hidden.
    Everything,
    /// Those with a topic that a `subscribe` grant covers.
    Of(Matchers),
}

impl Rights {
    fn covers_private(&self, update: &Update) -> bool {
        match self {
            Self::PublicOnly => false,
            Self::Everything => true,
            Self::Of(_) => update.topics.iter().any(|topic| self.cover(topic)),
        }
    }

    /// Whether a private update with only this topic may be seen.
    #[must_use]
    pub(crate) fn cover(&self, topic: &Topic) -> bool {
        match self {
            Self::PublicOnly => false,
            Self::Everything => true,
            Self::Of(grants) => grants.matches(topic),
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
///
/// ```
/// use tidegate_core::{
///     event::{Draft, Limits},
///     matching::{Interest, Matcher, Matchers, Rights},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = "https://example.com/.well-known/mercure".parse()?;
/// # let limits = Limits {
/// #     topics: 100,
/// #     topic_bytes: 4096,
/// #     id_bytes: 1024,
/// #     type_bytes: 256,
/// #     except: 100,
/// #     client_key_bytes: 256,
/// # };
/// let news = Matchers::new([Matcher::exact("news", 4096)?]);
/// let interest = Interest::new(news, None, Rights::PublicOnly);
///
/// let draft = |private| Draft { topics: vec!["news".into()], private, ..Draft::default() };
/// assert!(interest.covers(&draft(false).validate(&limits, &hub)?));
/// assert!(!interest.covers(&draft(true).validate(&limits, &hub)?));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Interest {
    matchers: Matchers,
    client: Option<ClientKey>,
    rights: Rights,
}

impl Interest {
    /// An interest in what `matchers` accept and `rights` allow, except updates that exclude
    /// `client`.
    #[must_use]
    pub fn new(matchers: Matchers, client: Option<ClientKey>, rights: Rights) -> Self {
        Self { matchers, client, rights }
    }

    /// The subscriber's matchers.
    #[must_use]
    pub fn matchers(&self) -> &Matchers {
        &self.matchers
    }

    /// The exact topics, sorted and distinct; `None` if there are matchers of another kind.
    #[must_use]
    pub fn exact_topics(&self) -> Option<&[Topic]> {
        let has_others = self.matchers.is_everything() || !self.matchers.patterns().is_empty();
        (!has_others).then_some(self.matchers.topics())
    }

    /// Whether one of the matchers accepts `topic`. A job's id is unguessable: a subscriber that
    /// names it may see the job. `*` and patterns match jobs only with a grant for them.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        if topic.is_job() {
            let may_search = || self.rights.grants(topic) && self.matchers.matches(topic);
            return self.matchers.names(topic) || may_search();
        }
        self.matchers.matches(topic)
    }

    /// Which private updates the subscriber may see.
    #[must_use]
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// The event with the topics that this subscriber may see. Of a private event these are the
    /// topics that a grant covers or that the subscriber names itself.
    #[must_use]
    pub fn shown<'event>(&self, event: &'event Event) -> &'event Event {
        if !event.update.private || event.update.topics.len() == 1 {
            return event;
        }
        event.showing(|topic| self.matchers.names(topic) || self.rights.cover(topic))
    }

    /// Whether a topic belongs to this subscriber's client, and the subscriber asks for it by name.
    #[must_use]
    pub(crate) fn owns(&self, topic: &Topic) -> bool {
        self.client.is_some_and(|client| topic.is_of_client(&client)) && self.matchers.names(topic)
    }

    /// Whether the subscriber may learn which event an id belongs to.
    #[must_use]
    pub(crate) fn may_know(&self, update: &Update) -> bool {
        match update.lane.audience() {
            Audience::Matching => !update.private || self.rights.covers_private(update),
            Audience::Owner => update.topics.iter().any(|topic| self.owns(topic)),
            Audience::Nodes => false,
        }
    }

    /// Whether the update is for this subscriber. A private update needs a matcher for one of its
    /// topics and a grant for one, not necessarily the same (draft-08, "Subscribers"). The topic of
    /// a client is for this client only.
    #[must_use]
    pub fn covers(&self, update: &Update) -> bool {
        let is_excepted = self.client.is_some_and(|client| update.except.contains(&client));
        !is_excepted
            && match update.lane.audience() {
                Audience::Matching => {
                    update.topics.iter().any(|topic| self.matches(topic))
                        && (!update.private || self.rights.covers_private(update))
                }
                Audience::Owner => update.topics.iter().any(|topic| self.owns(topic)),
                Audience::Nodes => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::{
        event::{EventId, Lane},
        matching::{Matcher, MatcherKind, MatcherLimits},
    };

    const LIMITS: MatcherLimits = MatcherLimits {
        matchers: 10,
        bytes: 100,
        cost: 100,
        cost_of_set: 1000,
        cost_of_all: 1_000_000,
    };

    fn matchers(values: &[(MatcherKind, &str)]) -> Matchers {
        let hub = Url::parse("https://hub.example/.well-known/mercure").expect("a valid address");
        Matchers::parse(values.iter().copied(), &hub, &LIMITS).expect("valid")
    }

    fn update(topics: &[&str], private: bool) -> Update {
        Update {
            topics: topics.iter().map(|it| Topic::parse(it, 100).expect("valid")).collect(),
            data: "".into(),
            id: EventId::random(),
            kind: None,
            retry: None,
            private,
            except: Box::default(),
            lane: Lane::Ordinary,
            from: None,
        }
    }

    #[test]
    fn a_private_update_needs_a_matcher_and_a_grant_on_whichever_of_its_topics() {
        let asks = || matchers(&[(MatcherKind::Exact, "canonical")]);
        let grant = |value| Rights::Of(matchers(&[(MatcherKind::Selector, value)]));
        let update = update(&["canonical", "alternate/7"], true);
        for (rights, expected) in [
            (Rights::PublicOnly, false),
            (Rights::Everything, true),
            (Rights::Of(Matchers::default()), false),
            (grant("canonical"), true),
            (grant("alternate/7"), true),
            (grant("alternate/{id}"), true),
            (grant("*"), true),
            (grant("alternate/8"), false),
            (grant("{id}/x"), false),
        ] {
            let interest = Interest::new(asks(), None, rights);
            assert_eq!(interest.covers(&update), expected, "{interest:?}");
        }
        let asks_for_other = matchers(&[(MatcherKind::Exact, "other")]);
        let interest = Interest::new(asks_for_other, None, grant("*"));
        assert!(!interest.covers(&update), "a grant is not a matcher");
    }

    #[test]
    fn a_public_update_needs_no_grant() {
        for rights in [Rights::PublicOnly, Rights::Of(Matchers::default()), Rights::Everything] {
            let asks = matchers(&[(MatcherKind::UrlPattern, "https://hub.example/.well-known/*")]);
            assert!(Interest::new(asks, None, rights).covers(&update(&["a"], false)));
        }
    }

    #[test]
    fn each_lane_has_its_own_audience() {
        let key = ClientKey::parse("client", "me", 99).expect("a key");
        let own = "/.well-known/mercure/clients/J0TM0Qx1M71zatiQ-d1cqw";
        let all = || matchers(&[(MatcherKind::Exact, "*"), (MatcherKind::UrlPattern, "/*")]);
        let named = || matchers(&[(MatcherKind::Exact, own)]);
        for (lane, by_others, by_owner) in [
            (Lane::Ordinary, true, true),
            (Lane::Subscriptions, true, true),
            (Lane::State, true, true),
            (Lane::Clients, false, true),
            (Lane::Nodes, false, false),
        ] {
            let update = Update { lane, ..update(&[own], false) };
            for (matchers, client, expected) in [
                (all(), None, by_others),
                (named(), None, by_others),
                (all(), Some(key), by_others),
                (named(), Some(ClientKey::kept([7; 16])), by_others),
                (named(), Some(key), by_owner),
            ] {
                let interest = Interest::new(matchers, client, Rights::Everything);
                assert_eq!(interest.covers(&update), expected, "{lane:?} {interest:?}");
                assert!(expected <= interest.may_know(&update), "{lane:?} {interest:?}");
            }
            assert_eq!(
                update.is_restricted(),
                !by_others,
                "shards ask again unless all may see it"
            );
        }
    }

    #[test]
    fn jobs_are_reached_by_name_or_with_a_grant() {
        use MatcherKind::{Exact, UriTemplate, UrlPattern};
        let grant = |value| Rights::Of(matchers(&[(MatcherKind::Selector, value)]));
        for (asked, rights, expected) in [
            ((Exact, "/jobs/1"), Rights::PublicOnly, true),
            ((Exact, "/jobs/1"), Rights::Everything, true),
            ((Exact, "/jobs/2"), Rights::Everything, false),
            ((Exact, "*"), Rights::PublicOnly, false),
            ((Exact, "*"), Rights::Everything, false),
            ((UrlPattern, "/jobs/*"), Rights::Everything, false),
            ((UriTemplate, "/jobs/{id}"), Rights::Everything, false),
            ((Exact, "*"), grant("/jobs/1"), true),
            ((Exact, "*"), grant("/jobs/{id}"), true),
            ((UrlPattern, "/jobs/*"), grant("*"), true),
            ((UriTemplate, "/jobs/{id}"), grant("/jobs/1"), true),
            ((UriTemplate, "/jobs/{id}"), grant("/jobs/2"), false),
            ((UriTemplate, "/tasks/{id}"), grant("*"), false),
        ] {
            let interest = Interest::new(matchers(&[asked]), None, rights);
            assert_eq!(interest.covers(&update(&["/jobs/1"], false)), expected, "{interest:?}");
        }
    }

    #[test]
    fn only_exact_topics_can_be_looked_up() {
        let topics = |values: &[(MatcherKind, &str)]| {
            let interest = Interest::new(matchers(values), None, Rights::PublicOnly);
            interest.exact_topics().map(<[Topic]>::len)
        };
        let exact = (MatcherKind::Exact, "a{b}");
        assert_eq!(topics(&[exact, exact, (MatcherKind::Selector, "c")]), Some(2));
        assert_eq!(topics(&[exact, (MatcherKind::Selector, "a{b}")]), None);
        assert_eq!(topics(&[exact, (MatcherKind::UrlPattern, "*")]), None);
        assert_eq!(topics(&[(MatcherKind::Selector, "{not a template}")]), Some(1));
        let everything = Matchers::new([Matcher::Everything]);
        assert_eq!(Interest::new(everything, None, Rights::PublicOnly).exact_topics(), None);
    }
}

//! What a subscriber receives: the events that it subscribes to and has the rights for.

use smallvec::SmallVec;

use super::Matchers;
use crate::event::{Audience, ClientKey, Event, Lane, Position, Topic, Update};

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
///     event::{Draft, Limits, Position},
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
/// assert!(interest.covers(&draft(false).validate(&limits, &hub)?, Position(1)));
/// assert!(!interest.covers(&draft(true).validate(&limits, &hub)?, Position(1)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Interest {
    /// What the request asked for.
    asked: Matchers,
    /// An update reaches the subscriber unless it excludes all of these.
    clients: SmallVec<[ClientKey; 1]>,
    rights: Rights,
    /// What the subscriber's clients have joined; `None` for subscribers that cannot join.
    joined: Option<Box<Joined>>,
    /// The only lane of interest, if there is only one.
    lane: Option<Lane>,
}

/// The topics of a subscriber's clients.
#[derive(Debug, Clone, Default)]
struct Joined {
    /// The matchers that were asked for, the joined topics, and the clients' own topics.
    matchers: Matchers,
    /// Sorted by topic.
    topics: Box<[JoinedTopic]>,
}

/// A topic that a client has joined. The right to hear it was checked then, and covers its private
/// events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedTopic {
    /// The topic.
    pub topic: Topic,
    /// The position after which the client hears it.
    pub since: Position,
}

impl Interest {
    /// An interest in what `matchers` accept and `rights` allow, except updates that exclude
    /// `client`.
    #[must_use]
    pub fn new(matchers: Matchers, client: Option<ClientKey>, rights: Rights) -> Self {
        Self {
            asked: matchers,
            clients: client.into_iter().collect(),
            rights,
            joined: None,
            lane: None,
        }
    }

    /// The same interest for these clients: in their own topics, and in those that they have
    /// joined. If two have joined the same topic, the earlier one counts.
    #[must_use]
    pub fn of_clients(
        &self,
        clients: impl IntoIterator<Item = ClientKey>,
        joined: impl IntoIterator<Item = JoinedTopic>,
    ) -> Self {
        let clients: SmallVec<[ClientKey; 1]> = clients.into_iter().collect();
        let mut topics: Vec<JoinedTopic> = joined.into_iter().collect();
        topics.sort_unstable_by(|a, b| (&a.topic, a.since).cmp(&(&b.topic, b.since)));
        topics.dedup_by(|later, earlier| later.topic == earlier.topic);
        let own = clients.iter().map(Topic::of_client);
        let matchers = self.asked.with_topics(topics.iter().map(|it| it.topic.clone()).chain(own));
        let joined = Some(Box::new(Joined { matchers, topics: topics.into() }));
        Self { clients, joined, ..self.clone() }
    }

    /// The same interest with other rights.
    #[must_use]
    pub fn with_rights(&self, rights: Rights) -> Self {
        Self { rights, ..self.clone() }
    }

    /// The same interest in the updates of one lane alone.
    #[must_use]
    pub fn only(self, lane: Lane) -> Self {
        Self { lane: Some(lane), ..self }
    }

    /// An interest in nothing, which has no client either.
    #[must_use]
    pub fn nothing() -> Self {
        Self::new(Matchers::default(), None, Rights::PublicOnly)
    }

    /// All matchers that lead events to this subscriber: those of [`asked`](Self::asked), and the
    /// topics of its clients.
    #[must_use]
    pub fn matchers(&self) -> &Matchers {
        self.joined.as_ref().map_or(&self.asked, |it| &it.matchers)
    }

    /// The matchers that the request asked for.
    #[must_use]
    pub fn asked(&self) -> &Matchers {
        &self.asked
    }

    /// The topics that its clients have joined, sorted.
    #[must_use]
    pub fn joined(&self) -> &[JoinedTopic] {
        self.joined.as_ref().map_or(&[], |it| &it.topics)
    }

    /// Whether [`covers`](Self::covers) may refuse an unrestricted update that the index found for
    /// this subscriber.
    #[must_use]
    pub(crate) fn depends_on_position(&self) -> bool {
        !self.joined().is_empty()
    }

    /// The exact topics, sorted and distinct; `None` if there are matchers of another kind.
    #[must_use]
    pub fn exact_topics(&self) -> Option<&[Topic]> {
        exact_topics(self.matchers())
    }

    /// The exact topics that the request asked for; `None` if it had matchers of another kind.
    #[must_use]
    pub(crate) fn asked_exact_topics(&self) -> Option<&[Topic]> {
        exact_topics(&self.asked)
    }

    /// Whether one of the matchers that were asked for accepts `topic`. A job's id is unguessable:
    /// a subscriber that names it may see the job. `*` and patterns match jobs only with a grant
    /// for them.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        if topic.is_job() {
            let may_search = || self.rights.grants(topic) && self.asked.matches(topic);
            return self.asked.names(topic) || may_search();
        }
        self.asked.matches(topic)
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
        event.showing(|topic| self.matchers().names(topic) || self.rights.cover(topic))
    }

    /// Whether a topic belongs to one of this subscriber's clients, and the subscriber has it by
    /// name.
    #[must_use]
    pub(crate) fn owns(&self, topic: &Topic) -> bool {
        let is_own = |client: &ClientKey| topic.is_of_client(client);
        self.clients.iter().any(is_own) && self.matchers().names(topic)
    }

    /// Whether a client joined `topic` before `position`.
    fn has_joined(&self, topic: &Topic, position: Position) -> bool {
        let joined = self.joined();
        let at = joined.binary_search_by(|it| it.topic.cmp(topic));
        at.is_ok_and(|at| joined[at].since < position)
    }

    /// Whether the subscriber may learn which event an id belongs to.
    #[must_use]
    pub(crate) fn may_know(&self, update: &Update) -> bool {
        match update.lane.audience() {
            Audience::Matching => {
                let is_joined = |topic| self.has_joined(topic, Position::MAX);
                !update.private
                    || self.rights.covers_private(update)
                    || update.topics.iter().any(is_joined)
            }
            Audience::Owner => update.topics.iter().any(|topic| self.owns(topic)),
            Audience::Nodes => false,
        }
    }

    /// Whether the update at `position` is for this subscriber. A private update needs a matcher
    /// for one of its topics and a grant for one, not necessarily the same (draft-08,
    /// "Subscribers"), or a topic that was joined. The topic of a client is for this client only.
    #[must_use]
    pub fn covers(&self, update: &Update, position: Position) -> bool {
        !self.is_excepted(update)
            && self.lane.is_none_or(|it| it == update.lane)
            && match update.lane.audience() {
                Audience::Matching => {
                    let is_asked = || {
                        update.topics.iter().any(|topic| self.matches(topic))
                            && (!update.private || self.rights.covers_private(update))
                    };
                    is_asked()
                        || self.joined.is_some()
                            && update.topics.iter().any(|it| self.has_joined(it, position))
                }
                Audience::Owner => update.topics.iter().any(|topic| self.owns(topic)),
                Audience::Nodes => false,
            }
    }

    /// Whether the update excludes all clients of this subscriber.
    fn is_excepted(&self, update: &Update) -> bool {
        !update.except.is_empty()
            && !self.clients.is_empty()
            && self.clients.iter().all(|client| update.except.contains(client))
    }
}

/// The topics of matchers without any of another kind.
fn exact_topics(matchers: &Matchers) -> Option<&[Topic]> {
    let has_others = matchers.is_everything() || !matchers.patterns().is_empty();
    (!has_others).then_some(matchers.topics())
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::{
        event::EventId,
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
            assert_eq!(interest.covers(&update, Position(1)), expected, "{interest:?}");
        }
        let asks_for_other = matchers(&[(MatcherKind::Exact, "other")]);
        let interest = Interest::new(asks_for_other, None, grant("*"));
        assert!(!interest.covers(&update, Position(1)), "a grant is not a matcher");
    }

    #[test]
    fn a_public_update_needs_no_grant() {
        for rights in [Rights::PublicOnly, Rights::Of(Matchers::default()), Rights::Everything] {
            let asks = matchers(&[(MatcherKind::UrlPattern, "https://hub.example/.well-known/*")]);
            assert!(Interest::new(asks, None, rights).covers(&update(&["a"], false), Position(1)));
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
                assert_eq!(
                    interest.covers(&update, Position(1)),
                    expected,
                    "{lane:?} {interest:?}"
                );
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
            assert_eq!(
                interest.covers(&update(&["/jobs/1"], false), Position(1)),
                expected,
                "{interest:?}"
            );
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

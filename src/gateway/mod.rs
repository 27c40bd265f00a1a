//! One gateway: its settings and the state that its handlers share.

mod parts;

use std::{
    any::Any,
    fmt, io,
    sync::{Arc, OnceLock},
};

use actix_web::HttpRequest;
use tidegate_core::{
    budget::Budget,
    calls::Calls,
    clients::{Cell, Clients},
    clock::Clock,
    delivery::{Seats, Sessions},
    event::{Draft, EventId, Invalid, Limits, Update},
    history::Shared,
    hub::{Hub, PublishError},
    jobs::{OnEnd, Tracker},
    ledger::Ledger,
    matching::{MatcherLimits, prepare},
    random::random_text,
    state::States,
    subscriptions::Registry,
};
use tokio::sync::Semaphore;
use tracing::warn;
use url::Url;

use self::parts::{
    hub_of_one_node, open_history, start_clients, start_states, start_subscriptions, user,
};
pub(crate) use self::parts::{member, unusable};
use crate::{
    auth::Keyring,
    hooks::Webhooks,
    policy::{rate::ActionRates, rules::TopicRules},
    settings::{Settings, StoreKind},
    telemetry::{LinePace, Sightings, metrics::Metrics},
};

/// Refused origins that are logged, each once.
const LOGGED_ORIGINS: usize = 100;

/// A handle to a gateway. Clones share it.
///
/// ```no_run
/// use tidegate::{gateway::Gateway, server::Server, settings::Settings};
///
/// # async fn run() -> std::io::Result<()> {
/// let gateway = Gateway::start(Settings::default())?;
/// Server::bind(gateway.clone())?.run(|_| {}).await?;
/// gateway.close();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Gateway(Arc<GatewayParts>);

#[derive(Debug)]
struct GatewayParts {
    settings: Settings,
    keyring: Keyring,
    limits: Limits,
    matcher_limits: MatcherLimits,
    hub_url: Url,
    hub: Hub,
    ledger: Ledger,
    seats: Seats,
    /// Seats of subscribers without a required access token, which watch jobs whose ids they know.
    strangers: Seats,
    /// Memory of request bodies that are arriving.
    bodies: Budget,
    /// Matching costs of the patterns of subscriptions from one address.
    pattern_costs: Budget,
    /// Bytes of the matchers of subscriptions.
    matcher_bytes: Budget,
    /// Subscriptions on the list, for each address.
    listed: Budget,
    /// Permits for steps of searches in the history, for half of the threads that read a store.
    searches: Semaphore,
    sessions: Sessions,
    clients: Clients,
    calls: Calls,
    /// What is done when a client has ended.
    departures: Departures,
    /// The application behind the gateway, whose type a higher room knows.
    application: OnceLock<Application>,
    states: States,
    rules: Arc<TopicRules>,
    rates: ActionRates,
    subscriptions: Option<Registry>,
    tracker: Tracker,
    /// The log that it shares with other gateways, if there is one.
    cluster: Option<Arc<Shared>>,
    metrics: Metrics,
    refusal_lines: LinePace,
    job_grant_lines: LinePace,
    refused_origins: Sightings,
    nonce: Arc<str>,
}

/// The function that learns of the end of a client.
type Depart = Box<dyn Fn(&Arc<Cell>) + Send + Sync>;

/// Where that function is once there is an application.
#[derive(Clone, Default)]
struct Departures(Arc<OnceLock<Depart>>);

impl fmt::Debug for Departures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Departures")
    }
}

/// A value of a type that this module does not know.
struct Application(Box<dyn Any + Send + Sync>);

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Application")
    }
}

/// Why [`Gateway::publish`] did not publish.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The update breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The update could not be accepted.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Gateway {
    /// Starts a gateway: its history and the threads that maintain it. It does not listen yet; see
    /// [`Server`](crate::server::Server) and [`Gateway::configure`].
    ///
    /// # Errors
    /// If the history cannot be opened, a thread cannot be started, or a key of the settings is
    /// unusable.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let keyring = Keyring::new(&settings.auth)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let (history, cluster) = open_history(&settings)?;
        let tail_bytes = settings.delivery.tail_bytes;
        let hub = Hub::start(history, tail_bytes, settings.publish.refuse_when_behind)?;
        if let Some(cluster) = &cluster {
            let hub = hub.clone();
            cluster.count_subscribers(move || hub.totals().open.iter().sum());
        }
        if hub.trouble().is_some() && settings.history.store == StoreKind::Disk {
            warn!("the store is history.path, and the gateway runs as {}", user());
        }
        let subscriptions =
            start_subscriptions(&hub, &settings.mercure, settings.subscription_names())?;
        let limits = &settings.limits;
        let sessions = Sessions::new(settings.poll.session_lease, limits.subscribers);
        let rules = Arc::new(TopicRules::new(&settings).map_err(io::Error::other)?);
        let own_hub = hub_of_one_node(&hub, &settings)?;
        let states = start_states(&own_hub, &settings, rules.clone())?;
        let (calls, departures) = (Calls::default(), Departures::default());
        let clients = start_clients(&own_hub, &settings, &states, &calls, departures.clone())?;
        let webhooks = Webhooks::new(&settings.jobs, Clock::system())?;
        let webhooks = Arc::new(webhooks);
        let on_ask = webhooks.clone();
        let on_end = OnEnd::new(move |job, now| webhooks.ended(job, now))
            .and_asked(move |job, now| on_ask.asked(job, now));
        let tracker = Tracker::start(own_hub, settings.jobs.options(), Clock::system(), on_end)?;
        Ok(Self(Arc::new(GatewayParts {
            keyring,
            limits: Limits {
                topics: limits.topics_per_update,
                topic_bytes: limits.topic_bytes,
                id_bytes: limits.id_bytes,
                type_bytes: limits.type_bytes,
                except: limits.except_per_update,
                client_key_bytes: limits.client_key_bytes,
            },
            matcher_limits: limits.matcher_limits(),
            hub_url: settings.server.hub_url(),
            ledger: Ledger::default(),
            metrics: Metrics::new(
                hub.clone(),
                sessions.clone(),
                &tracker,
                states.clone(),
                cluster.as_ref(),
            ),
            refusal_lines: LinePace::new(settings.log.refusals_per_second),
            job_grant_lines: LinePace::new(1),
            refused_origins: Sightings::new(LOGGED_ORIGINS),
            strangers: Seats::new(limits.strangers, limits.subscribers_per_address),
            bodies: Budget::new(limits.bodies_bytes, limits.bodies_bytes_per_address),
            // No total for costs and the list: `limits.matchers_total_cost` and
            // `mercure.max_subscriptions` are enforced elsewhere.
            pattern_costs: Budget::new(usize::MAX, limits.matchers_cost_per_address),
            matcher_bytes: Budget::new(limits.matchers_bytes, limits.matchers_bytes_per_address),
            listed: Budget::new(usize::MAX, settings.mercure.max_subscriptions_per_address),
            searches: Semaphore::new((settings.history.readers / 2).max(1)),
            seats: Seats::new(limits.subscribers, limits.subscribers_per_address),
            sessions,
            clients,
            calls,
            departures,
            application: OnceLock::new(),
            states,
            rules,
            rates: ActionRates::new(&settings.clients),
            subscriptions,
            tracker,
            cluster,
            nonce: random_text().into(),
            hub,
            settings,
        })))
    }

    /// Closes the gateway in order, for good. Accepted updates are then safe, and another process
    /// may open the store. Without this nothing is lost if every commit is synced, which is the
    /// default of `history.durability`.
    pub fn close(&self) {
        self.0.hub.drain();
        self.0.hub.close();
    }

    /// Returns the gateway that serves `request`.
    ///
    /// # Panics
    /// If the request was not routed by [`Gateway::configure`].
    pub(crate) fn of(request: &HttpRequest) -> Self {
        request
            .app_data::<Self>()
            .expect("`Gateway::configure` adds the gateway to its routes")
            .clone()
    }

    /// Publishes one update, as `POST /events` does, and returns its id.
    ///
    /// ```
    /// use tidegate::{
    ///     event::Draft,
    ///     gateway::{Gateway, Refused},
    /// };
    ///
    /// async fn announce(gateway: &Gateway, title: &str) -> Result<(), Refused> {
    ///     let (topics, data) = (vec!["news".to_owned()], title.to_owned());
    ///     let id = gateway.publish(Draft { topics, data, ..Draft::default() }).await?;
    ///     println!("published as {}", id.as_str());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// If the update breaks a rule or cannot be accepted. Nothing was published then.
    pub async fn publish(&self, draft: Draft) -> Result<EventId, Refused> {
        let update = self.validate(draft)?;
        let id = update.id.clone();
        prepare(update.topics.iter()).await;
        self.0.hub.publish(vec![update]).await?;
        Ok(id)
    }

    /// Checks an update against the rules and limits of this gateway. The [hub](Self::hub)
    /// publishes several such updates in order, all or none.
    ///
    /// ```
    /// # use tidegate::{event::Draft, gateway::{Gateway, Refused}};
    /// # async fn publish(gateway: &Gateway, drafts: Vec<Draft>) -> Result<(), Refused> {
    /// let updates = drafts.into_iter().map(|draft| gateway.validate(draft));
    /// gateway.hub().publish(updates.collect::<Result<_, _>>()?).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The first rule that the update breaks.
    pub fn validate(&self, draft: Draft) -> Result<Update, Invalid> {
        draft.validate(&self.0.limits, &self.0.hub_url)
    }

    /// Returns the bounds for the matchers of one subscriber or access token.
    #[must_use]
    pub(crate) fn matcher_limits(&self) -> &MatcherLimits {
        &self.0.matcher_limits
    }

    /// Returns the hub's own address, against which relative topics and patterns are resolved.
    #[must_use]
    pub fn hub_url(&self) -> &Url {
        &self.0.hub_url
    }

    /// Returns the settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Returns the hub.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Returns the job tracker.
    #[must_use]
    pub fn tracker(&self) -> &Tracker {
        &self.0.tracker
    }

    /// Returns the state and the members of topics.
    #[must_use]
    pub fn states(&self) -> &States {
        &self.0.states
    }

    /// Returns the keys that verify access tokens.
    #[must_use]
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// Returns the seats of its subscribers.
    pub(crate) fn seats(&self) -> &Seats {
        &self.0.seats
    }

    /// Returns the seats of subscribers without a required access token.
    pub(crate) fn strangers(&self) -> &Seats {
        &self.0.strangers
    }

    /// Returns the budget of memory for request bodies that are arriving.
    pub(crate) fn bodies(&self) -> &Budget {
        &self.0.bodies
    }

    /// Returns the budget of pattern costs for subscriptions from one address.
    pub(crate) fn pattern_costs(&self) -> &Budget {
        &self.0.pattern_costs
    }

    /// Returns the budget of bytes for the matchers of subscriptions.
    pub(crate) fn matcher_bytes(&self) -> &Budget {
        &self.0.matcher_bytes
    }

    /// Returns the budget of listed subscriptions for each address.
    pub(crate) fn listed(&self) -> &Budget {
        &self.0.listed
    }

    /// Returns the permits for steps of searches in the history. They are few, so that other
    /// requests find a free reader.
    pub(crate) fn searches(&self) -> &Semaphore {
        &self.0.searches
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Returns the clients.
    pub(crate) fn clients(&self) -> &Clients {
        &self.0.clients
    }

    /// Returns the calls to clients that wait for replies.
    pub(crate) fn calls(&self) -> &Calls {
        &self.0.calls
    }

    /// Sets the application behind the gateway, and what it does when a client has ended. Once.
    pub(crate) fn set_application<T: Any + Send + Sync>(
        &self,
        application: T,
        depart: impl Fn(&Self, &Arc<Cell>) + Send + Sync + 'static,
    ) {
        let gateway = Arc::downgrade(&self.0);
        let depart = move |cell: &Arc<Cell>| {
            if let Some(gateway) = gateway.upgrade() {
                depart(&Self(gateway), cell);
            }
        };
        // A second application would be an error of this crate.
        let _ = self.0.application.set(Application(Box::new(application)));
        let _ = self.0.departures.0.set(Box::new(depart));
    }

    /// Returns the application behind the gateway, if it is of this type.
    pub(crate) fn application<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.application.get()?.0.downcast_ref()
    }

    /// Returns what clients may do with topics.
    pub(crate) fn rules(&self) -> &TopicRules {
        &self.0.rules
    }

    /// Returns how many actions clients may do.
    pub(crate) fn rates(&self) -> &ActionRates {
        &self.0.rates
    }

    /// Returns the registry of subscriptions, if they are announced.
    pub(crate) fn subscriptions(&self) -> Option<&Registry> {
        self.0.subscriptions.as_ref()
    }

    /// Returns the log that it shares with other gateways, if there is one.
    #[must_use]
    pub fn cluster(&self) -> Option<&Shared> {
        self.0.cluster.as_deref()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns the rate limit for logged refusals.
    pub(crate) fn refusal_lines(&self) -> &LinePace {
        &self.0.refusal_lines
    }

    /// Returns the rate limit for warnings about grants that apply to jobs without naming them.
    pub(crate) fn job_grant_lines(&self) -> &LinePace {
        &self.0.job_grant_lines
    }

    /// Returns the refused origins that have been logged.
    pub(crate) fn refused_origins(&self) -> &Sightings {
        &self.0.refused_origins
    }

    /// Returns the nonce that allows the gateway's own scripts under its Content-Security-Policy.
    pub(crate) fn nonce(&self) -> &Arc<str> {
        &self.0.nonce
    }
}

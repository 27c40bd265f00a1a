//! The metrics in OpenMetrics text. Counters kept by other modules are read each time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeMetric as _,
        text::{encode, encode_registry},
    },
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
    },
    registry::{Registry, Unit},
};
use tidegate_core::{
    delivery::Sessions,
    history::Shared,
    hub::Hub,
    jobs::{JobState, Tracker},
    matching::pattern_stats,
    state::States,
    transport::Transport,
};
use tracing::info;

/// The gateway's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    /// The metrics of jobs, separate for each type.
    jobs_by_type: Mutex<Registry>,
    /// The same, for all types together.
    jobs: Mutex<Registry>,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    old_dialect: Family<[(&'static str, &'static str); 1], Counter>,
}

/// A feature that identifies a client of the old dialect of Mercure (draft-07).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OldFeature {
    /// An access token with a claim `mercure`.
    AccessToken,
    /// The cookie `mercureAuthorization`.
    Cookie,
    /// The parameter `authorization`.
    AccessTokenInAddress,
    /// The parameter `topic`.
    Selector,
    /// The parameters `lastEventID` and `Last-Event-ID`.
    Cursor,
}

impl OldFeature {
    fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "token",
            Self::Cookie => "cookie",
            Self::AccessTokenInAddress => "token_in_address",
            Self::Selector => "selector",
            Self::Cursor => "cursor",
        }
    }
}

impl Metrics {
    /// Creates the metrics of a gateway.
    #[must_use]
    pub(crate) fn new(
        hub: Hub,
        sessions: Sessions,
        tracker: &Tracker,
        states: States,
        cluster: Option<&Arc<Shared>>,
    ) -> Self {
        let mut registry = Registry::with_prefix("tidegate");
        let refused = Family::default();
        registry.register("requests_refused", "Requests refused, by reason", refused.clone());
        let old_dialect = Family::default();
        let help = "Requests in the old dialect of Mercure, by what tells it";
        registry.register("old_dialect", help, old_dialect.clone());
        if let Some(times) = hub.history().commit_times() {
            let help = "Time that a commit to the store on disk took";
            registry.register_with_unit("history_commit", help, Unit::Seconds, times);
        }
        if let Some(cluster) = cluster {
            let help = "Time from sending a frame to Redis until its answer";
            let times = cluster.commit_seconds();
            registry.register_with_unit("cluster_commit", help, Unit::Seconds, times);
            let help = "Submissions that share a frame";
            registry.register("cluster_frame_submissions", help, cluster.frame_submissions());
            registry.register_collector(Box::new(ClusterCollector(cluster.clone())));
        }
        registry.register_collector(Box::new(GatewayCollector { hub, sessions }));
        registry.register_collector(Box::new(PatternCollector));
        registry.register_collector(Box::new(StateCollector { states }));
        let jobs = |shows_types| {
            let mut registry = Registry::with_prefix("tidegate");
            let tracker = tracker.clone();
            registry.register_collector(Box::new(JobCollector { tracker, shows_types }));
            Mutex::new(registry)
        };
        Self {
            registry: Mutex::new(registry),
            jobs_by_type: jobs(true),
            jobs: jobs(false),
            refused,
            old_dialect,
        }
    }

    /// Counts a request in the old dialect. Logs the first one of each feature.
    pub(crate) fn old_dialect(&self, feature: OldFeature) {
        let feature = feature.as_str();
        if self.old_dialect.get_or_create(&[("feature", feature)]).inc() == 0 {
            info!(
                feature,
                "the old dialect of Mercure is in use; tidegate_old_dialect_total counts it"
            );
        }
    }

    /// Counts a refused request.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    /// Writes all metrics, those of jobs by type only `with_types`.
    pub(crate) fn write(&self, with_types: bool) -> String {
        let jobs = if with_types { &self.jobs_by_type } else { &self.jobs };
        let mut text = String::new();
        let written = encode_registry(&mut text, &lock(&self.registry))
            .and_then(|()| encode(&mut text, &lock(jobs)));
        if written.is_err() {
            text.clear();
        }
        text
    }
}

fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the counters of the hub and of poll sessions.
#[derive(Debug)]
struct GatewayCollector {
    hub: Hub,
    sessions: Sessions,
}

impl Collector for GatewayCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let hub = &self.hub;
        let totals = hub.totals();
        for (name, help, values) in [
            ("subscribers", "Subscribers that are connected", totals.open),
            ("subscribers_opened", "Subscribers that have connected", totals.opened),
            ("deliveries", "Events handed to subscribers", totals.deliveries),
        ] {
            let kind = if name == "subscribers" { MetricType::Gauge } else { MetricType::Counter };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (transport, value) in Transport::ALL.into_iter().zip(values) {
                let labels = [("transport", transport.as_str())];
                let metric = family.encode_family(&labels)?;
                match kind {
                    MetricType::Gauge => ConstGauge::new(value).encode(metric)?,
                    _ => ConstCounter::new(value).encode(metric)?,
                }
            }
        }
        for (name, help, value) in [
            ("updates", "Updates accepted, those of jobs included", hub.n_events()),
            ("gaps", "Gaps that subscribers were told of", totals.gaps),
            ("history_reads", "Events read from the store on disk", hub.history().n_read()),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        let help = "Long-poll clients that are polling or between two polls";
        let metric = encoder.encode_descriptor("poll_sessions", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.sessions.count() as u64).encode(metric)?;
        let help = "How far the slowest shard is behind the newest event";
        let unit = Unit::Bytes;
        let metric =
            encoder.encode_descriptor("delivery_lag", help, Some(&unit), MetricType::Gauge)?;
        ConstGauge::new(hub.lag()).encode(metric)
    }
}

/// Reads the counters of the log that several gateways share.
#[derive(Debug)]
struct ClusterCollector(Arc<Shared>);

impl Collector for ClusterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (status, metrics) = (self.0.status(), self.0.metrics());
        for (name, help, value) in [
            ("cluster_connected", "Whether the log can be used", u64::from(status.connected)),
            ("cluster_term", "The term of the log", status.term),
            ("cluster_behind_events", "Positions that this node has not read", status.behind),
            ("cluster_nodes", "Nodes with a lease", status.nodes.len() as u64),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        let help = "Time since this node had read everything";
        let unit = Unit::Seconds;
        let metric =
            encoder.encode_descriptor("cluster_behind", help, Some(&unit), MetricType::Gauge)?;
        ConstGauge::new(status.behind_seconds).encode(metric)?;
        let help = "Submissions stored, repeated or in conflict; frames refused or unanswered";
        let kind = MetricType::Counter;
        let mut family = encoder.encode_descriptor("cluster_commits", help, None, kind)?;
        for (outcome, value) in metrics.commits {
            let labels = [("outcome", outcome)];
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        for (name, help, value) in metrics.counters {
            let name = format!("cluster_{name}");
            let metric = encoder.encode_descriptor(&name, help, None, kind)?;
            ConstCounter::new(value).encode(metric)?;
        }
        let help = "The log that this node follows";
        let mut family = encoder.encode_descriptor("cluster_log", help, None, MetricType::Info)?;
        let labels = [("id", status.log.as_str())];
        ConstGauge::new(1_u64).encode(family.encode_family(&labels)?)
    }
}

/// Reads the counters of patterns, which all hubs of a process share.
#[derive(Debug)]
struct PatternCollector;

impl Collector for PatternCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = pattern_stats();
        for (name, help, value) in [
            ("patterns", "Distinct URL patterns and URI templates in use", stats.patterns),
            ("patterns_cost", "What these may cost to match", stats.cost),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value as u64).encode(metric)?;
        }
        let help = "Tests of a pattern on a topic";
        let kind = MetricType::Counter;
        let metric = encoder.encode_descriptor("pattern_tests", help, None, kind)?;
        ConstCounter::new(stats.tests).encode(metric)
    }
}

/// Reads how much state there is.
#[derive(Debug)]
struct StateCollector {
    states: States,
}

impl Collector for StateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.states.counts();
        for (name, help, unit, value) in [
            ("state_documents", "Topics that have state or members", None, counts.documents),
            ("state_members", "Members of all topics", None, counts.members),
            ("state", "Memory for state and members", Some(Unit::Bytes), counts.bytes),
        ] {
            let kind = MetricType::Gauge;
            let metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            ConstGauge::new(value as u64).encode(metric)?;
        }
        let (help, kind) = ("Times that state or members have changed", MetricType::Counter);
        let metric = encoder.encode_descriptor("state_changes", help, None, kind)?;
        ConstCounter::new(counts.changes).encode(metric)
    }
}

/// The label for all types of jobs together.
const ALL_TYPES: &str = "all";

/// Reads the counters of the tracker.
#[derive(Debug)]
struct JobCollector {
    tracker: Tracker,
    /// Whether each type is counted separately.
    shows_types: bool,
}

impl JobCollector {
    /// Groups `values` by the label of their type, and joins those with the same label.
    fn by_label<V>(
        &self,
        values: impl IntoIterator<Item = (String, V)>,
        join: impl Fn(V, V) -> V,
    ) -> BTreeMap<String, V> {
        let mut by_label = BTreeMap::new();
        for (kind, value) in values {
            let label = if self.shows_types { kind } else { ALL_TYPES.to_owned() };
            let joined = match by_label.remove(&label) {
                Some(other) => join(other, value),
                None => value,
            };
            by_label.insert(label, joined);
        }
        by_label
    }

    fn encode_states(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Jobs, by type and state";
        let mut family = encoder.encode_descriptor("jobs", help, None, MetricType::Gauge)?;
        let counts = self.tracker.counts();
        for state in JobState::ALL {
            let of_state = counts.iter().filter(|((_, it), _)| *it == state);
            let of_state = of_state.map(|((kind, _), count)| (kind.clone(), *count));
            for (label, count) in self.by_label(of_state, |a, b| a + b) {
                let labels = [("type", label.as_str()), ("state", state.as_str())];
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Collector for JobCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.encode_states(&mut encoder)?;
        let help = "Age of the oldest job that can be claimed, by type";
        let unit = Unit::Seconds;
        let kind = MetricType::Gauge;
        let mut family =
            encoder.encode_descriptor("jobs_oldest_queued", help, Some(&unit), kind)?;
        for (label, age) in self.by_label(self.tracker.oldest_queued(), Duration::max) {
            let labels = [("type", label.as_str())];
            ConstGauge::new(age.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        let help = "Age of the oldest question that waits for an answer, by type";
        let mut family =
            encoder.encode_descriptor("jobs_oldest_question", help, Some(&unit), kind)?;
        for (label, age) in self.by_label(self.tracker.oldest_questions(), Duration::max) {
            let labels = [("type", label.as_str())];
            ConstGauge::new(age.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        let help = "Leases that ended without a report, by type";
        let kind = MetricType::Counter;
        let mut family = encoder.encode_descriptor("jobs_lost_leases", help, None, kind)?;
        for (label, count) in self.by_label(self.tracker.lost_leases(), |a, b| a + b) {
            let labels = [("type", label.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let run_times = self.by_label(self.tracker.run_times(), |a, b| (a.0 + b.0, a.1 + b.1));
        let help = "Time that the last tries of ended jobs have taken in all, by type";
        let mut family = encoder.encode_descriptor("jobs_run_time", help, Some(&unit), kind)?;
        for (label, (seconds, _)) in &run_times {
            let labels = [("type", label.as_str())];
            ConstCounter::new(*seconds).encode(family.encode_family(&labels)?)?;
        }
        let help = "Jobs that have run and ended, by type";
        let mut family = encoder.encode_descriptor("jobs_ended", help, None, kind)?;
        for (label, (_, count)) in &run_times {
            let labels = [("type", label.as_str())];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

//! What operators see of a cluster: whether this node is connected, and which others there are.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What a node tells the others about itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) format: u8,
    /// Seconds since 1970.
    pub(super) started: i64,
    pub(super) settings: String,
    pub(super) term: u64,
    pub(super) behind: u64,
    pub(super) subscribers: u64,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterNode {
    /// The random id of the process.
    pub id: String,
    /// Its name (`cluster.name`).
    pub name: String,
    /// Its version.
    pub version: String,
    /// The newest format of the log that it reads.
    pub format: u8,
    /// When it started.
    pub started: jiff::Timestamp,
    /// Seconds since its last heartbeat.
    pub heartbeat_age: f64,
    /// The term of the log that it has read.
    pub term: u64,
    /// Positions of the log that it has not read.
    pub behind: u64,
    /// Its subscribers.
    pub subscribers: u64,
    /// A fingerprint of the settings that all nodes should share.
    pub settings: String,
    /// Whether that is the one of this node.
    pub has_same_settings: bool,
    /// Whether it is this node.
    pub is_this: bool,
}

/// The state of the cluster, as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterStatus {
    /// The random id of the log.
    pub log: String,
    /// The term.
    pub term: u64,
    /// Whether this node can read and write the log.
    pub connected: bool,
    /// The reason why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The place of the server that runs the log.
    pub server: String,
    /// Positions of the log that this node has not read.
    pub behind: u64,
    /// Seconds since this node knew that it had read everything.
    pub behind_seconds: f64,
    /// The nodes, by name.
    pub nodes: Vec<ClusterNode>,
}

/// Whether the log can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// It was not reached yet, or not any more, for this reason.
    Away(String),
    /// The operator has to change something.
    Unsuitable(String),
    /// It is being read or recovered.
    Recovering,
    /// It can be read and written.
    Open,
}

/// The state of the connection, and what the last heartbeat has told.
#[derive(Debug)]
pub(super) struct Status {
    phase: Phase,
    /// Since when the log cannot be used; `None` if it can.
    pub(super) away_since: Option<Instant>,
    /// Whether the log has been read once.
    pub(super) has_read: bool,
    /// Why Redis refuses to write now.
    pub(super) refused: Option<String>,
    /// The id of this node.
    pub(super) this: String,
    pub(super) log: String,
    pub(super) server: String,
    pub(super) term: u64,
    pub(super) behind: u64,
    /// When this node last knew that it had read everything.
    pub(super) up_to_date: Instant,
    /// Nodes with what they tell, and the time left of their leases.
    pub(super) nodes: Vec<(String, About, Duration)>,
    /// When the nodes were told.
    pub(super) told: Instant,
}

impl Status {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            phase: Phase::Away("it was not reached yet".to_owned()),
            away_since: Some(now),
            has_read: false,
            refused: None,
            this: String::new(),
            log: String::new(),
            server: String::new(),
            term: 0,
            behind: 0,
            up_to_date: now,
            nodes: Vec::new(),
            told: now,
        }
    }

    pub(super) fn set(&mut self, phase: Phase) {
        match phase {
            Phase::Open => {
                self.away_since = None;
                self.has_read = true;
            }
            _ => _ = self.away_since.get_or_insert_with(Instant::now),
        }
        self.phase = phase;
    }

    pub(super) fn is(&self, phase: &Phase) -> bool {
        self.phase == *phase
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Why nothing can be published, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.phase {
            Phase::Away(why) => Some(format!("the log in Redis (cluster.redis) is away: {why}")),
            Phase::Unsuitable(why) => Some(why.clone()),
            Phase::Recovering => {
                Some("the log in Redis (cluster.redis) is being recovered".to_owned())
            }
            Phase::Open => self
                .refused
                .as_ref()
                .map(|why| format!("Redis (cluster.redis) refuses to write: {why}")),
        }
    }

    /// Why this node should get no requests, if so. A short absence of Redis concerns all nodes
    /// alike, and subscribers stay connected.
    pub(super) fn unready(&self, patience: Duration) -> Option<String> {
        let is_patient = self.away_since.is_none_or(|since| since.elapsed() < patience);
        match &self.phase {
            Phase::Open => None,
            Phase::Away(_) | Phase::Recovering if self.has_read && is_patient => None,
            Phase::Away(_) | Phase::Recovering | Phase::Unsuitable(_) => self.trouble(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stays_ready_for_a_while_but_says_that_it_cannot_publish() {
        let mut status = Status::new();
        let away = || Phase::Away("gone".to_owned());
        let minute = Duration::from_secs(60);
        assert!(status.unready(minute).is_some(), "it has read nothing");
        status.set(Phase::Recovering);
        assert!(status.unready(minute).is_some());
        status.set(Phase::Open);
        assert_eq!((status.trouble(), status.unready(minute)), (None, None));
        status.set(away());
        assert!(status.trouble().is_some_and(|it| it.contains("cluster.redis")));
        assert_eq!(status.unready(minute), None);
        assert!(status.unready(Duration::ZERO).is_some());
        status.set(Phase::Unsuitable("old".to_owned()));
        assert_eq!(status.unready(minute).as_deref(), Some("old"));
        status.set(Phase::Open);
        status.refused = Some("full".to_owned());
        assert!(status.trouble().is_some_and(|it| it.contains("full")));
        assert_eq!(status.unready(minute), None);
    }
}

//! The heartbeat of a node: it keeps the lease, shows which nodes there are, and notices a follower
//! that does not get on.

use std::time::{Duration, Instant};

use super::{
    Core, SharedOptions,
    frame::{Id, items, text},
    life::Node,
    link::{Answered, Link, Trouble},
    scripts::Script,
    status::{About, ClusterNode, ClusterStatus},
};

/// The interval between two heartbeats.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time without progress after which the follower has a dead connection.
const STUCK: Duration = Duration::from_secs(2);

/// The bytes of the log between two places at which it can be trimmed.
pub(super) const MARK: usize = 64 << 10;

/// The limits of the log, as scripts take them: bytes, events, microseconds, and [`MARK`].
pub(super) fn limits(options: &SharedOptions) -> [Vec<u8>; 4] {
    let age = Duration::try_from(options.retention.age).unwrap_or_default();
    let age = options.rules.longest_age(age).as_micros();
    // Beyond this, the numbers of Lua are not exact.
    const EXACT: u128 = 1 << 53;
    [options.retention.bytes as u128, options.retention.events as u128, age, MARK as u128]
        .map(|it| it.min(EXACT).to_string().into_bytes())
}

impl Node {
    /// Beats until the connection breaks.
    pub(super) async fn beat(&self, link: &Link) -> Result<std::convert::Infallible, Trouble> {
        let keys = self.keys.all(&["meta", "log", "marks", "sessions", "nodes", "about"]);
        let lease = self.core.options.lease.as_millis().to_string();
        let mut stuck: Option<(Id, Instant)> = None;
        loop {
            let mut arguments = self.arguments(&[&lease, &self.about()]);
            arguments.extend(limits(&self.core.options));
            let answered = link.call(Script::Beat, &keys, &arguments).await?;
            if answered.word != "OK" {
                return Err(answered.refusal());
            }
            let newest = self
                .hear(&answered)
                .ok_or_else(|| Trouble::Away("a script has answered nonsense".to_owned()))?;
            let read = self.log.borrow().newest;
            stuck = match stuck {
                _ if newest <= read => None,
                Some((before, since)) if before == read => Some((before, since)),
                _ => Some((read, Instant::now())),
            };
            if stuck.is_some_and(|it| STUCK < it.1.elapsed()) {
                return Err(Trouble::Away("the log is not read any more".to_owned()));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Notes what a heartbeat has told. Returns the newest frame of the log.
    fn hear(&self, answered: &Answered) -> Option<Id> {
        let newest = Id::parse(&format!("{}-{}", answered.text(0), answered.text(1)))?;
        let floor = Id::parse(&answered.text(2))?;
        let time: i64 = answered.number(4);
        self.core.set_time(time);
        {
            let mut view = self.core.view_mut();
            view.parts.drop_to(floor.position());
            view.trim(self.core.now());
        }
        let leases = items(answered.rest.get(5)?).chunks_exact(2).filter_map(|pair| {
            let until: f64 = text(&pair[1])?.parse().ok()?;
            let left = (until - (time / 1000) as f64).max(0.0);
            Some((text(&pair[0])?, Duration::try_from_secs_f64(left / 1000.0).ok()?))
        });
        let about = items(answered.rest.get(6)?);
        let about = |id: &str| {
            let mut pairs = about.chunks_exact(2);
            let found = pairs.find(|pair| text(&pair[0]).as_deref() == Some(id))?;
            serde_json::from_str::<About>(&text(&found[1])?).ok()
        };
        let nodes = leases.map(|(id, left)| {
            let about = about(&id).unwrap_or_default();
            (id, about, left)
        });
        let nodes: Vec<_> = nodes.collect();
        let read = self.log.borrow().newest;
        let mut status = self.core.status();
        status.term = newest.term;
        status.behind = newest.number.saturating_sub(read.number);
        if status.behind == 0 {
            status.up_to_date = Instant::now();
        }
        (status.nodes, status.told) = (nodes, Instant::now());
        status.this.clone_from(&self.id.to_string());
        Some(newest)
    }
}

impl Core {
    /// The state of the cluster, as of the last heartbeat.
    pub(super) fn cluster(&self) -> ClusterStatus {
        let own = self.options.fingerprint();
        let status = self.status();
        let since = status.told.elapsed();
        let nodes = status.nodes.iter().map(|(id, about, left)| {
            let age = self.options.lease.saturating_sub(*left) + since;
            ClusterNode {
                id: id.clone(),
                name: about.name.clone(),
                version: about.version.clone(),
                format: about.format,
                started: jiff::Timestamp::from_second(about.started).unwrap_or_default(),
                heartbeat_age: (age.as_secs_f64() * 1000.0).round() / 1000.0,
                term: about.term,
                behind: about.behind,
                subscribers: about.subscribers,
                has_same_settings: about.settings == own,
                settings: about.settings.clone(),
                is_this: *id == status.this,
            }
        });
        let mut nodes: Vec<ClusterNode> = nodes.collect();
        nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        let behind_seconds = if status.is_open() && status.behind == 0 {
            0.0
        } else {
            status.up_to_date.elapsed().as_secs_f64()
        };
        ClusterStatus {
            log: status.log.clone(),
            term: status.term,
            connected: status.is_open(),
            trouble: status.trouble(),
            server: status.server.clone(),
            behind: status.behind,
            behind_seconds,
            nodes,
        }
    }
}

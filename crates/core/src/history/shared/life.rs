//! The thread of a shared history: one connection after the other.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
    sync::{Arc, mpsc as blocking},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::{
    CLOSING, Core, FORMAT,
    frame::{Id, Origin},
    keys::Keys,
    link::{Answered, Link, Trouble},
    queue::{Queue, Submission},
    requests::Request,
    ring::Ring,
    scripts::Script,
    status::{About, Phase},
};
use crate::history::{Revised, Shelf};

/// The shortest and the longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The interval at which late submissions are answered.
const EXPIRY: Duration = Duration::from_millis(50);

/// Why the log has to be read from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reload {
    /// It was not read yet.
    Start,
    /// It is another log.
    Replaced,
    /// This node has read another branch of it.
    Forked,
    /// It has lost what this node has read.
    Lost,
    /// It was trimmed beyond what this node has read.
    Trimmed,
}

/// What the node knows of the log.
#[derive(Debug)]
pub(super) struct Log {
    /// Its random name; empty before the first connection.
    pub(super) name: String,
    /// The last frame that was read.
    pub(super) newest: Id,
    /// The nonces of the terms that were read.
    pub(super) nonces: BTreeMap<u64, String>,
    /// The highest term that the node knows of. The next one must be higher.
    pub(super) known_term: u64,
    /// Set if the log has to be read from its beginning.
    pub(super) reload: Option<Reload>,
}

/// What a node learns when it enters the log.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) is_open: bool,
    pub(super) log: String,
    key: String,
    /// The newest frame.
    pub(super) newest: Id,
    pub(super) nonce: String,
    pub(super) floor: Id,
    /// When the newest trimmed frame was accepted, in microseconds.
    pub(super) floor_time: i64,
    /// The nonces of the terms of this log, and the last numbers of those that have ended.
    pub(super) terms: BTreeMap<u64, (String, Option<u64>)>,
}

/// The newest change of each record.
pub(super) type Changes = HashMap<(Shelf, Box<[u8]>), Revised>;

/// A node: what its thread keeps from one connection to the next.
pub(super) struct Node {
    pub(super) core: Arc<Core>,
    pub(super) keys: Keys,
    /// The random id of this process.
    pub(super) id: Arc<str>,
    /// The number of the session on the present connection.
    pub(super) session: Cell<u64>,
    pub(super) log: RefCell<Log>,
    pub(super) ring: RefCell<Ring>,
    pub(super) queue: RefCell<Queue>,
    pub(super) requests: RefCell<mpsc::Receiver<Request>>,
    /// The changes of records since a reader has begun to read all records.
    pub(super) changes: RefCell<Option<Changes>>,
    /// The origins of the frames that were read last, while the log is read from its beginning.
    pub(super) origins: RefCell<HashSet<Origin>>,
    started: i64,
    link: RefCell<Option<Rc<Link>>>,
    opened: RefCell<Option<blocking::SyncSender<Result<(), String>>>>,
}

impl Node {
    pub(super) fn new(
        core: Arc<Core>,
        submissions: mpsc::Receiver<Submission>,
        requests: mpsc::Receiver<Request>,
        opened: blocking::SyncSender<Result<(), String>>,
    ) -> Self {
        let log = Log {
            name: String::new(),
            newest: Id::START,
            nonces: BTreeMap::new(),
            known_term: 0,
            reload: Some(Reload::Start),
        };
        Self {
            keys: Keys::new(&core.options.hub),
            id: random_text().into(),
            session: Cell::new(0),
            log: RefCell::new(log),
            ring: RefCell::new(Ring::new(core.options.ring_bytes)),
            queue: RefCell::new(Queue::new(submissions)),
            requests: RefCell::new(requests),
            changes: RefCell::default(),
            origins: RefCell::default(),
            started: jiff::Timestamp::now().as_second(),
            link: RefCell::default(),
            opened: RefCell::new(Some(opened)),
            core,
        }
    }

    /// Runs until the history is closed.
    pub(super) async fn run(self) {
        tokio::select! {
            () = self.go_on() => {}
            () = self.expire() => {}
            () = self.closed() => {}
        }
        let link = self.link.borrow_mut().take();
        if let Some(link) = link {
            let keys = self.keys.all(&["meta", "sessions", "nodes", "about", "waiting"]);
            let arguments = self.arguments(&[]);
            // Without an answer, the lease ends by itself.
            let leaving = link.call(Script::Leave, &keys, &arguments);
            let _ = tokio::time::timeout(CLOSING / 2, leaving).await;
        }
        self.queue.borrow_mut().close();
    }

    /// Waits until the history is closed and what was submitted before is stored.
    async fn closed(&self) {
        let mut closing = self.core.closing.subscribe();
        // The sender is beside the receiver, so this does not fail.
        let _ = closing.wait_for(|closing| *closing).await;
        let begun = Instant::now();
        while !self.queue.borrow_mut().is_empty() && begun.elapsed() < CLOSING {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn expire(&self) {
        loop {
            tokio::time::sleep(EXPIRY).await;
            let why = self.core.why();
            self.queue.borrow_mut().expire(Instant::now(), &why);
        }
    }

    async fn go_on(&self) {
        let (mut pause, longest) = PAUSES;
        let mut n_again = 0;
        loop {
            let trouble = match self.live().await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            };
            *self.link.borrow_mut() = None;
            self.queue.borrow_mut().disconnect();
            let was_open = self.core.status().is_open();
            self.core.counters.reconnects.add(u64::from(was_open));
            match trouble {
                Trouble::Again(why) => {
                    info!(why, "the log in Redis is entered again");
                    self.core.status().set(Phase::Recovering);
                    n_again = if was_open { 0 } else { n_again + 1 };
                    let pause = Duration::from_millis(1 << n_again.min(10));
                    tokio::time::sleep(pause).await;
                    continue;
                }
                Trouble::Away(why) => {
                    if was_open || pause == PAUSES.0 {
                        warn!(why, "the log in Redis (cluster.redis) is away");
                    }
                    self.core.status().set(Phase::Away(why));
                }
                Trouble::Unsuitable(why) => {
                    let opened = self.opened.borrow_mut().take();
                    // Fails if the start did not wait so long.
                    if opened.is_some_and(|it| it.try_send(Err(why.clone())).is_ok()) {
                        return;
                    }
                    let phase = Phase::Unsuitable(why);
                    let mut status = self.core.status();
                    if !status.is(&phase)
                        && let Phase::Unsuitable(why) = &phase
                    {
                        error!(why, "the log in Redis (cluster.redis) cannot be used");
                    }
                    status.set(phase);
                }
            }
            pause = if was_open { PAUSES.0 } else { longest.min(2 * pause) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Connects, and works until the connection breaks.
    async fn live(&self) -> Result<std::convert::Infallible, Trouble> {
        let link = Rc::new(Link::connect(&self.core.options, &self.keys).await?);
        let entered = self.enter(&link).await?;
        *self.link.borrow_mut() = Some(link.clone());
        self.meet(&entered)?;
        if !self.core.status().is_open() {
            self.core.status().set(Phase::Recovering);
        }
        let newest =
            if entered.is_open { entered.newest } else { self.recover(&link, &entered).await? };
        self.catch_up(&link, &entered, newest).await?;
        self.queue.borrow_mut().settle(&self.core.counters);
        self.welcome(&link);
        self.followed().await;
        tokio::select! {
            ended = self.write(&link, newest.term) => ended,
            ended = self.follow(&link) => ended,
            ended = self.beat(&link) => ended,
            ended = self.answer(&link) => ended,
        }
    }

    /// The arguments of a script: the log, this node, and more.
    pub(super) fn arguments(&self, more: &[&str]) -> Vec<Vec<u8>> {
        let log = self.log.borrow();
        let first = [log.name.as_str(), &*self.id];
        first.into_iter().chain(more.iter().copied()).map(|it| it.as_bytes().to_vec()).collect()
    }

    /// Enters the log, which ends the earlier session of this node.
    async fn enter(&self, link: &Link) -> Result<Entered, Trouble> {
        const KEYS: [&str; 8] =
            ["meta", "log", "terms", "marks", "sessions", "nodes", "about", "waiting"];
        self.session.set(self.session.get() + 1);
        let mut keys = self.keys.all(&KEYS);
        keys.extend(Shelf::ALL.map(|shelf| self.keys.shelf(shelf)));
        let options = &self.core.options;
        let about = self.about();
        let known = self.log.borrow().known_term;
        let numbers = [
            self.session.get().to_string(),
            known.to_string(),
            options.recovery_wait.as_millis().to_string(),
            options.lease.as_millis().to_string(),
        ];
        let key = [random_text(), random_text()].concat();
        let arguments: Vec<Vec<u8>> = std::iter::once(self.id.to_string())
            .chain(numbers)
            .chain([about, FORMAT.to_string(), random_text(), key, random_text()])
            .map(String::into_bytes)
            .collect();
        let answered = link.call(Script::Enter, &keys, &arguments).await?;
        if answered.word != "OK" {
            return Err(answered.refusal());
        }
        self.core.set_time(answered.number(8));
        Entered::read(&answered)
            .ok_or_else(|| Trouble::Unsuitable("the log in Redis is damaged".to_owned()))
    }

    /// Compares the log with what this node knows of it.
    fn meet(&self, entered: &Entered) -> Result<(), Trouble> {
        let expected = &self.core.options.log;
        if !expected.is_empty() && *expected != entered.log {
            return Err(Trouble::Unsuitable(format!(
                "the log in Redis is {}, and cluster.log allows only {expected}",
                entered.log
            )));
        }
        let log = &mut *self.log.borrow_mut();
        let is_known = !log.name.is_empty();
        if is_known && log.name != entered.log {
            error!(log = entered.log, "the log in Redis was replaced by another one");
            self.core.counters.replaced.add(1);
            self.ring.borrow_mut().clear();
            log.nonces.clear();
            log.reload = Some(Reload::Replaced);
        }
        log.name.clone_from(&entered.log);
        let fork = log
            .nonces
            .iter()
            .find(|(term, nonce)| entered.terms.get(term).is_some_and(|it| it.0 != **nonce));
        if fork.is_some() {
            error!("this node has read another branch of the log, which is cut off");
            self.core.counters.forks.add(1);
            log.reload = Some(Reload::Forked);
        }
        if let Some(key) = entered.key() {
            let terms = entered.terms.iter().map(|(term, it)| (*term, it.0.as_str()));
            self.core.cursor_key.set_log(key, terms);
        }
        let mut status = self.core.status();
        status.log.clone_from(&entered.log);
        Ok(())
    }

    /// Tells that the log can be used.
    fn welcome(&self, link: &Link) {
        let opened = self.opened.borrow_mut().take();
        let mut status = self.core.status();
        if !status.is_open() {
            info!(server = link.server, log = status.log, "the log in Redis is open");
        }
        if opened.is_some()
            && let Some(doubt) = &link.doubt
        {
            warn!("{doubt}");
        }
        status.server.clone_from(&link.server);
        status.set(Phase::Open);
        status.up_to_date = Instant::now();
        drop(status);
        if let Some(opened) = opened {
            let _ = opened.try_send(Ok(()));
        }
    }

    /// Waits until there is a follower, since nothing may be stored before.
    async fn followed(&self) {
        while self.core.follower().is_none() {
            self.core.followed.notified().await;
        }
        if self.core.applied.borrow().0 == 0 {
            // It may have begun to follow before the log was read.
            self.restarted();
        }
    }

    /// What this node tells others about itself, as JSON.
    pub(super) fn about(&self) -> String {
        let options = &self.core.options;
        let (term, behind) = {
            let status = self.core.status();
            (status.term, status.behind)
        };
        let about = About {
            name: options.name.clone(),
            version: options.version.clone(),
            format: FORMAT,
            started: self.started,
            settings: options.fingerprint(),
            term,
            behind,
            subscribers: self.core.count_subscribers.get().map_or(0, |count| count()),
        };
        // A plain structure of texts and numbers has a JSON form.
        serde_json::to_string(&about).unwrap_or_default()
    }
}

impl super::SharedOptions {
    /// A fingerprint of what all nodes should agree on.
    pub(super) fn fingerprint(&self) -> String {
        use sha2::{Digest as _, Sha256};
        let rules = self.rules.fingerprint();
        let own = format!("{:?} {:?} {:?}", self.retention, self.reply_age, self.lease);
        let digest = Sha256::new_with_prefix(own).chain_update(rules).finalize();
        URL_SAFE_NO_PAD.encode(&digest[..6])
    }
}

impl Entered {
    fn read(answered: &Answered) -> Option<Self> {
        let id = |term: usize, number: usize| {
            Id::parse(&format!("{}-{}", answered.text(term), answered.text(number)))
        };
        let pairs = super::frame::items(answered.rest.get(9)?).chunks_exact(2);
        let terms = pairs.filter_map(|pair| {
            let term = super::frame::text(&pair[0])?.parse().ok()?;
            let value = super::frame::text(&pair[1])?;
            let (nonce, end) = match value.split_once(':') {
                Some((nonce, end)) => (nonce.to_owned(), Some(end.parse().ok()?)),
                None => (value, None),
            };
            Some((term, (nonce, end)))
        });
        Some(Self {
            is_open: answered.text(0) == "open",
            log: answered.text(1),
            key: answered.text(2),
            newest: id(3, 4)?,
            nonce: answered.text(5),
            floor: Id::parse(&answered.text(6))?,
            floor_time: answered.number(7),
            terms: terms.collect(),
        })
    }

    /// The key of the log's cursor tokens.
    fn key(&self) -> Option<[u8; 24]> {
        URL_SAFE_NO_PAD.decode(&self.key).ok()?.get(..24)?.try_into().ok()
    }
}

/// Returns 128 random bits as text.
pub(super) fn random_text() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .expect("getrandom waits for a seed, and then cannot fail on supported systems");
    URL_SAFE_NO_PAD.encode(random)
}

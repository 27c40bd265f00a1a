//! Publishers: each posts its share of the messages one by one over its own connection.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use super::{
    connection::Connection,
    ledger::Sent,
    marker::Marker,
    plan::{Plan, Quantity},
    response::Response,
};

/// Time limit for connecting and for the reply to a publication.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts after which a publisher gives up a message.
const MAX_TRIES: u32 = 50;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Idle time after which a connection is replaced, because the server may be about to close it.
const IDLE: Duration = Duration::from_secs(10);

/// Bytes read at once from a reply.
const READ: usize = 4096;

/// The most bytes of a refusal that are reported.
const EXCERPT: usize = 300;

/// What all publishers together have sent.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// By topic, then by lane.
    pub(super) sent: Vec<Vec<Sent>>,
    /// Messages that the server accepted.
    pub(super) accepted: u64,
    /// Attempts that failed. Those refused with status 429 or 5xx were retried.
    pub(super) failures: u64,
    /// The reason for the first failure.
    pub(super) failure: Option<String>,
    pub(super) elapsed: Duration,
}

/// What one publisher has sent: the numbers of its messages under each topic and lane.
struct Share {
    sent: Vec<(u32, u16, Sent)>,
    accepted: u64,
    failures: u64,
    failure: Option<String>,
}

/// How one request ended.
enum Outcome {
    Accepted,
    /// Definitely not accepted.
    Refused {
        status: u16,
        excerpt: String,
    },
    /// The connection broke before the reply.
    Unknown(io::Error),
}

/// Publishes as planned on the calling thread, until `stop` counts an interruption. Times in
/// messages are relative to `origin`.
pub(super) fn publish(
    plan: &Arc<Plan>,
    origin: Instant,
    stop: &watch::Receiver<u32>,
) -> io::Result<Published> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let start = Instant::now();
        let mut publishers = JoinSet::new();
        for number in 0..plan.publishers {
            let (plan, stop) = (plan.clone(), stop.clone());
            let publisher = Publisher { plan, number, origin, start, stop, connection: None };
            publishers.spawn(publisher.run());
        }
        let lanes = |topic| vec![Sent::default(); plan.lanes(topic)];
        let mut published =
            Published { sent: (0..plan.topics).map(lanes).collect(), ..Published::default() };
        while let Some(share) = publishers.join_next().await {
            let share = share.map_err(io::Error::other)?;
            published.accepted += share.accepted;
            published.failures += share.failures;
            published.failure = published.failure.or(share.failure);
            for (topic, lane, sent) in share.sent {
                published.sent[topic as usize][usize::from(lane)] = sent;
            }
        }
        published.elapsed = start.elapsed();
        Ok(published)
    })
}

struct Publisher {
    plan: Arc<Plan>,
    number: u16,
    origin: Instant,
    start: Instant,
    stop: watch::Receiver<u32>,
    /// The connection and when it was last used.
    connection: Option<(Connection, Instant)>,
}

impl Publisher {
    async fn run(mut self) -> Share {
        let mut share = Share { sent: Vec::new(), accepted: 0, failures: 0, failure: None };
        let mut request = Vec::new();
        let mut message = 0;
        while self.wait_for_turn(message).await {
            let (topic, lane) = self.plan.lane(self.number, message);
            let at = share.sent.iter().position(|it| (it.0, it.1) == (topic, lane));
            let at = at.unwrap_or_else(|| {
                share.sent.push((topic, lane, Sent::default()));
                share.sent.len() - 1
            });
            let number = share.sent[at].2.count;
            let outcome = self.send(topic, lane, number, &mut request, &mut share).await;
            let sent = &mut share.sent[at].2;
            match outcome {
                Some(Outcome::Accepted) => share.accepted += 1,
                Some(Outcome::Unknown(_)) => sent.doubtful.push(number),
                Some(Outcome::Refused { .. }) | None => break,
            }
            sent.count += 1;
            message += 1;
        }
        share
    }

    /// Waits until a message is due. Returns whether it is to be published at all.
    async fn wait_for_turn(&mut self, message: u32) -> bool {
        let place = u64::from(message) * u64::from(self.plan.publishers) + u64::from(self.number);
        let due = self.plan.interval.map(|it| it.mul_f64(place as f64));
        let is_wanted = match self.plan.quantity {
            Quantity::Messages(messages) => place < u64::from(messages),
            Quantity::Duration(duration) => {
                due.unwrap_or_default().max(self.start.elapsed()) < duration
            }
        };
        if !is_wanted || 0 < *self.stop.borrow() {
            return false;
        }
        let Some(due) = due.and_then(|due| self.start.checked_add(due)) else { return true };
        if due <= Instant::now() {
            return true;
        }
        tokio::select! {
            () = sleep_until(due.into()) => true,
            _ = self.stop.changed() => false,
        }
    }

    /// Publishes a message. Retries while the server refuses it temporarily or cannot be reached.
    /// Returns `None` when it gives up.
    async fn send(
        &mut self,
        topic: u32,
        lane: u16,
        number: u32,
        request: &mut Vec<u8>,
        share: &mut Share,
    ) -> Option<Outcome> {
        for _ in 0..MAX_TRIES {
            if 0 < *self.stop.borrow() {
                return None;
            }
            let mut connection = match self.reuse_or_connect().await {
                Ok(connection) => connection,
                Err(error) => {
                    share.fail(error.to_string());
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let sent = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let marker = Marker { run: self.plan.run, topic, lane, number, sent };
            self.plan.target.publication(marker, self.plan.payload, request);
            let (outcome, is_reusable) = tokio::select! {
                posted = post(&mut connection, request) => posted,
                () = sleep(REPLY_TIMEOUT) => (Outcome::Unknown(io::Error::other("no reply")), false),
                // A second interruption means: do not wait for the reply.
                _ = self.stop.wait_for(|it| 2 <= *it) => {
                    (Outcome::Unknown(io::Error::other("interrupted before the reply")), false)
                }
            };
            self.connection = is_reusable.then(|| (connection, Instant::now()));
            match &outcome {
                Outcome::Accepted => return Some(outcome),
                Outcome::Unknown(error) => {
                    share.fail(error.to_string());
                    return Some(outcome);
                }
                Outcome::Refused { status, excerpt } => {
                    share.fail(format!("status {status}: {excerpt}"));
                    let may_change = *status == 429 || 500 <= *status;
                    if !may_change {
                        return Some(outcome);
                    }
                }
            }
            sleep(PAUSE).await;
        }
        None
    }

    async fn reuse_or_connect(&mut self) -> io::Result<Connection> {
        match self.connection.take() {
            Some((connection, used)) if used.elapsed() < IDLE => return Ok(connection),
            _ => {}
        }
        let number = self.plan.subscribers.saturating_add(u32::from(self.number));
        let opened = timeout(REPLY_TIMEOUT, Connection::open(&self.plan.target, number)).await;
        opened.map_err(|_| io::Error::other("no connection in time"))?
    }
}

impl Share {
    fn fail(&mut self, reason: String) {
        self.failures += 1;
        self.failure.get_or_insert(reason);
    }
}

/// Sends a request and reads the reply. Also returns whether the connection can be reused.
async fn post(connection: &mut Connection, request: &[u8]) -> (Outcome, bool) {
    let mut response = Response::new();
    let mut excerpt = Vec::new();
    let read = async {
        connection.write_all(request).await?;
        connection.flush().await?;
        let mut bytes = vec![0; READ];
        while !response.is_complete() {
            let count = connection.read(&mut bytes).await?;
            if count == 0 {
                return Err(io::Error::other("the connection was closed before the reply"));
            }
            let taken = response.take_in(&bytes[..count], |_, body| {
                let room = EXCERPT.saturating_sub(excerpt.len());
                excerpt.extend_from_slice(&body[..body.len().min(room)]);
            });
            taken.map_err(io::Error::other)?;
        }
        Ok(())
    };
    let read = read.await;
    match (response.status(), read) {
        // The status decides, even if the rest of the reply does not arrive.
        (Some(200..300), read) => (Outcome::Accepted, read.is_ok() && !response.closes()),
        (Some(status), read) => {
            let excerpt = String::from_utf8_lossy(&excerpt).trim().to_owned();
            (Outcome::Refused { status, excerpt }, read.is_ok() && !response.closes())
        }
        (None, Err(error)) => (Outcome::Unknown(error), false),
        (None, Ok(())) => (Outcome::Unknown(io::Error::other("no status")), false),
    }
}

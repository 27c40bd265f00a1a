//! Subscribers: each is one connection and one small task. All of them read into one buffer.
//!
//! A subscriber that loses its connection reconnects and resumes after its last message, as a
//! browser would.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::ready,
    time::{Duration, Instant},
};

use memchr::memmem;
use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf},
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};

use super::transport::Transport;
use super::{
    connection::Connection,
    ledger::Ledger,
    marker::Scanner,
    plan::Plan,
    response::{Malformed, Response},
    tally::{Tally, add},
};

/// Bytes read at once.
const READ: usize = 256 * 1024;

/// Subscribers that connect at the same time. More would only wait in the server's backlog.
const CONNECTING: usize = 256;

/// Time limit for a subscriber to connect and be accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The least pause before a reconnection. The longest is twice as long.
const RETURN: Duration = Duration::from_millis(250);

/// The most bytes of a refusal that are reported.
const EXCERPT: usize = 300;

/// Bytes kept from the end of a poll's reply, where the address of the next poll is.
const REPLY_END: usize = 8 * 1024;

/// All subscribers and what they share.
pub(super) struct Audience {
    plan: Arc<Plan>,
    pub(super) tally: Tally,
    pub(super) ledgers: Vec<RefCell<Ledger>>,
    scratch: RefCell<Box<[u8]>>,
    gate: Semaphore,
    /// Notified when a subscriber has been accepted or refused.
    pub(super) settled: Notify,
}

/// Why a subscriber was not accepted.
#[derive(Debug, thiserror::Error)]
enum SubscribeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the connection was closed before the reply")]
    Closed,
    #[error("no reply within {} seconds", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    #[error("status {status}: {excerpt}")]
    Status { status: u16, excerpt: String },
    #[error("the reply does not name the next poll")]
    Next,
}

impl Audience {
    pub(super) fn new(plan: Arc<Plan>, origin: Instant) -> Rc<Self> {
        let ledger = |number: u32| {
            let topic = number % plan.topics;
            RefCell::new(Ledger::new(topic, plan.lanes(topic)))
        };
        Rc::new(Self {
            tally: Tally::new(origin),
            ledgers: (0..plan.subscribers).map(ledger).collect(),
            scratch: RefCell::new(vec![0; READ].into()),
            gate: Semaphore::new(CONNECTING),
            settled: Notify::new(),
            plan,
        })
    }
}

/// Runs one subscriber until the future is dropped.
pub(super) async fn hold(audience: Rc<Audience>, number: u32) {
    // Boxed: connecting takes far more state than receiving.
    let first = Box::pin(get_in(&audience, number, None)).await;
    let mut line = match first {
        Ok(line) => {
            audience.ledgers[number as usize].borrow_mut().admit();
            audience.tally.admit();
            audience.settled.notify_one();
            line
        }
        Err(error) => {
            audience.tally.refuse(error.to_string());
            audience.settled.notify_one();
            return;
        }
    };
    loop {
        // The subscriber reconnects in both cases, whether the stream ended or broke.
        let _ = line.follow(&audience).await;
        add(&audience.tally.reconnections, 1);
        let next = line.next.take();
        drop(line);
        line = Box::pin(come_back(&audience, number, next)).await;
    }
}

async fn come_back(audience: &Audience, number: u32, mut next: Option<Vec<u8>>) -> Line {
    loop {
        sleep(RETURN.mul_f64(1.0 + fastrand::f64())).await;
        if let Ok(line) = get_in(audience, number, next.clone()).await {
            return line;
        }
        // A poll session may have expired. Without it the poll resumes after the last message.
        next = None;
    }
}

async fn get_in(
    audience: &Audience,
    number: u32,
    next: Option<Vec<u8>>,
) -> Result<Line, SubscribeError> {
    let _permit = audience.gate.acquire().await.map_err(|_| SubscribeError::Closed)?;
    let opened = timeout(CONNECT_TIMEOUT, Line::open(audience, number, next)).await;
    opened.map_err(|_| SubscribeError::Timeout)?
}

/// The connection of a subscriber.
struct Line {
    connection: Connection,
    number: u32,
    response: Response,
    scanner: Scanner,
    /// The end of a poll's reply, or the beginning of a refusal.
    kept: Vec<u8>,
    /// The request for the next poll.
    next: Option<Vec<u8>>,
}

impl Line {
    /// Connects and subscribes. A poll continues with the request `next`, if there is one.
    async fn open(
        audience: &Audience,
        number: u32,
        next: Option<Vec<u8>>,
    ) -> Result<Self, SubscribeError> {
        let Plan { target, transport, .. } = &*audience.plan;
        let request = next.clone().unwrap_or_else(|| {
            let ledger = audience.ledgers[number as usize].borrow();
            target.subscription(*transport, ledger.topic(), ledger.last())
        });
        let connection = Connection::open(target, number).await?;
        let (scanner, kept) = (Scanner::default(), Vec::new());
        let response = Response::new();
        let mut line = Self { connection, number, response, scanner, kept, next };
        line.ask(&request).await?;
        if line.next.is_some() {
            // The reply to a continued poll may not begin for a long time.
            return Ok(line);
        }
        while line.response.status().is_none() {
            line.read_on(audience).await?;
        }
        line.check(audience).await?;
        if *transport == Transport::Poll {
            line.finish_poll(audience).await?;
        }
        Ok(line)
    }

    async fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        self.response = Response::new();
        self.kept = Vec::new();
        self.connection.write_all(request).await?;
        self.connection.flush().await
    }

    /// Reads the stream until it ends.
    async fn follow(&mut self, audience: &Audience) -> Result<(), SubscribeError> {
        if audience.plan.transport != Transport::Poll {
            while !self.response.is_complete() {
                self.read_on(audience).await?;
            }
            return Ok(());
        }
        loop {
            if self.response.is_complete() {
                if self.response.closes() {
                    return Ok(());
                }
                let next = self.next.take().ok_or(SubscribeError::Next)?;
                self.ask(&next).await?;
                self.next = Some(next);
            }
            while self.response.status().is_none() {
                self.read_on(audience).await?;
            }
            self.check(audience).await?;
            self.finish_poll(audience).await?;
        }
    }

    /// Reads a poll's reply to its end and prepares the next request from it.
    async fn finish_poll(&mut self, audience: &Audience) -> Result<(), SubscribeError> {
        while !self.response.is_complete() {
            self.read_on(audience).await?;
        }
        let next = next_address(&self.kept).ok_or(SubscribeError::Next)?;
        self.next = Some(audience.plan.target.next_poll(&next).ok_or(SubscribeError::Next)?);
        Ok(())
    }

    /// Fails unless the status is 200. The error contains the beginning of the server's reply.
    async fn check(&mut self, audience: &Audience) -> Result<(), SubscribeError> {
        let status = self.response.status().unwrap_or_default();
        if status == 200 {
            return Ok(());
        }
        while !self.response.is_complete() && self.kept.len() < EXCERPT {
            if self.read_on(audience).await.is_err() {
                break;
            }
        }
        // A refused address must not be requested again.
        self.next = None;
        self.kept.truncate(EXCERPT);
        let excerpt = String::from_utf8_lossy(&self.kept).trim().to_owned();
        Err(SubscribeError::Status { status, excerpt })
    }

    /// Reads once and counts the messages that this read completes.
    async fn read_on(&mut self, audience: &Audience) -> Result<(), SubscribeError> {
        poll_fn(|context| {
            let mut scratch = audience.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.connection).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Err(SubscribeError::Closed).into();
            }
            self.take_in(audience, buffer.filled()).map_err(SubscribeError::from).into()
        })
        .await
    }

    fn take_in(&mut self, audience: &Audience, bytes: &[u8]) -> Result<(), Malformed> {
        let now = Instant::now();
        let Audience { plan, tally, ledgers, .. } = audience;
        let mut ledger = ledgers[self.number as usize].borrow_mut();
        add(&tally.bytes, bytes.len() as u64);
        let Self { response, scanner, kept, .. } = self;
        response.take_in(bytes, |status, body| {
            if status != 200 {
                kept.extend_from_slice(&body[..body.len().min(EXCERPT)]);
                return;
            }
            if plan.transport == Transport::Poll {
                keep_end(kept, body);
            }
            scanner.scan(body, |marker| {
                if marker.run == plan.run {
                    let arrival = ledger.enter(marker.topic, marker.lane, marker.number);
                    tally.count(arrival, marker, now);
                }
            });
        })
    }
}

/// Keeps the end of what was read.
fn keep_end(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.extend_from_slice(&bytes[bytes.len().saturating_sub(REPLY_END)..]);
    kept.drain(..kept.len().saturating_sub(REPLY_END));
}

/// Returns the address of the next poll, which is at the end of a reply.
fn next_address(end: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\"next\":";
    let at = memmem::rfind(end, NAME)? + NAME.len();
    // Parses only the value and ignores what follows it.
    serde_json::Deserializer::from_slice(&end[at..]).into_iter().next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_address_is_read_from_the_end_of_a_reply() {
        let mut kept = Vec::new();
        let noise = format!(r#"{{"events":["{}"],"#, "x".repeat(2 * REPLY_END));
        keep_end(&mut kept, noise.as_bytes());
        keep_end(&mut kept, br##""cursor":"#1","next":"http://h/poll?a=1"##);
        keep_end(&mut kept, br#"\u0026b=2","more":false}"#);
        assert!(kept.len() <= REPLY_END);
        assert_eq!(next_address(&kept).as_deref(), Some("http://h/poll?a=1&b=2"));
        assert_eq!(next_address(b"{}"), None);
    }
}

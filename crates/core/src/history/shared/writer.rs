//! Writing: what waits is sent as one frame, and some frames are on their way at once.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{RedisError, Value, pipe};
use tracing::warn;

use super::{
    frame::{Content, Frame, Id, Origin, bytes},
    life::Node,
    link::{Answered, Link, Trouble, words},
    queue::{FRAMES, Order, SentFrame},
    scripts::Script,
};
use crate::{
    event::Position,
    history::{Committed, HistoryError},
};

/// The pause before a frame is sent again that Redis has refused for now.
const PAUSE: Duration = Duration::from_millis(50);

/// The time that replicas have to acknowledge a frame, in milliseconds.
const REPLICATION: u64 = 1000;

/// Errors of Redis with which the script has not started. With the first ones the connection is
/// still good.
const REFUSED_FOR_NOW: [&str; 4] = ["OOM", "MISCONF", "NOREPLICAS", "BUSY"];
const REFUSED: [&str; 10] = [
    "NOSCRIPT",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "NOAUTH",
    "NOPERM",
];

/// The answer to a frame, and how many replicas have it.
type Answer = Result<(Value, u32), RedisError>;

/// A frame on its way, until its answer is there.
enum Answering {
    Pending(Pin<Box<dyn Future<Output = Answer>>>),
    Ready(Answer),
}

/// What an answer means for the frames after it.
enum Next {
    GoOn,
    /// They are refused as well. This one is to be sent again.
    Stall,
}

/// The next thing that concerns the writer.
enum Event {
    Answer(Answer),
    Arrival,
    Resume,
}

impl Node {
    /// Sends frames until the connection breaks.
    pub(super) async fn write(
        &self,
        link: &Link,
        term: u64,
    ) -> Result<std::convert::Infallible, Trouble> {
        let mut answering: VecDeque<Answering> = VecDeque::new();
        let mut number = 0;
        let mut pause: Option<Instant> = None;
        loop {
            let is_stalled = pause.is_some() || !self.queue.borrow().returned.is_empty();
            while !is_stalled && answering.len() < FRAMES {
                let order = self.queue.borrow_mut().next(
                    self.session.get(),
                    number + 1,
                    &self.keys,
                    self.core.options.reply_age,
                );
                let Some(order) = order else { break };
                number += 1;
                answering.push_back(self.send(link, term, order));
            }
            let event = self.next(&mut answering, pause, is_stalled).await;
            match event {
                Event::Arrival => {}
                Event::Resume => pause = None,
                Event::Answer(answer) => {
                    if let Next::Stall = self.answered(term, answer)? {
                        number -= 1;
                    }
                    if answering.is_empty() && !self.queue.borrow().returned.is_empty() {
                        let mut queue = self.queue.borrow_mut();
                        let returned = std::mem::take(&mut queue.returned);
                        queue.put_back(returned.into_iter());
                        pause = Some(Instant::now() + PAUSE);
                    }
                }
            }
        }
    }

    async fn next(
        &self,
        answering: &mut VecDeque<Answering>,
        pause: Option<Instant>,
        is_stalled: bool,
    ) -> Event {
        let has_room = answering.len() < FRAMES && !is_stalled;
        let answer = poll_fn(|context| {
            // Each is polled, so that it is sent, and in order.
            for it in &mut *answering {
                if let Answering::Pending(pending) = it
                    && let Poll::Ready(answer) = pending.as_mut().poll(context)
                {
                    *it = Answering::Ready(answer);
                }
            }
            match answering.pop_front() {
                Some(Answering::Ready(answer)) => Poll::Ready(answer),
                Some(pending) => {
                    answering.push_front(pending);
                    Poll::Pending
                }
                None => Poll::Pending,
            }
        });
        let resume = async {
            match pause {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => Event::Answer(answer),
            () = resume => Event::Resume,
            () = self.arrival(), if has_room => Event::Arrival,
        }
    }

    async fn arrival(&self) {
        poll_fn(|context| self.queue.borrow_mut().poll_arrival(context)).await;
    }

    /// Sends a frame. Returns the future of its answer, which sends it when it is polled first.
    fn send(&self, link: &Link, term: u64, order: Order) -> Answering {
        let Order { keys, arguments, frame } = order;
        let options = &self.core.options;
        self.core.frame_submissions.observe(frame.submissions.len() as f64);
        let (session, number) = (frame.session.to_string(), frame.number.to_string());
        let limits = super::beat::limits(options);
        let mut all = {
            let log = self.log.borrow();
            let own = [&log.name, &term.to_string(), &*self.id, &session, &number];
            own.map(|it| it.as_bytes().to_vec()).to_vec()
        };
        all.extend(limits);
        all.extend(arguments);
        let command = link.command(Script::Commit, &keys, &all);
        self.queue.borrow_mut().in_flight.push_back(frame);
        let mut connection = link.main.clone();
        let replicas = options.replicas_acked;
        Answering::Pending(Box::pin(async move {
            if replicas == 0 {
                return Ok((command.query_async(&mut connection).await?, 0));
            }
            let mut commands = pipe();
            commands.add_command(command).cmd("WAIT").arg(replicas).arg(REPLICATION);
            commands.query_async(&mut connection).await
        }))
    }

    /// Handles the answer to the oldest frame on its way.
    fn answered(&self, term: u64, answer: Answer) -> Result<Next, Trouble> {
        let counters = &self.core.counters;
        let refused = |node: &Self| {
            let mut queue = node.queue.borrow_mut();
            let frame = queue.in_flight.pop_front();
            queue.returned.extend(frame);
            counters.refused.add(1);
        };
        let (value, n_replicas) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let code = error.code().unwrap_or_default();
                let is_for_now = REFUSED_FOR_NOW.contains(&code);
                if is_for_now || REFUSED.contains(&code) {
                    refused(self);
                } else {
                    counters.unanswered.add(1);
                }
                if is_for_now {
                    let why = words(&error);
                    let mut status = self.core.status();
                    if status.refused.is_none() {
                        warn!(why, "Redis (cluster.redis) refuses to write");
                    }
                    status.refused = Some(why);
                    return Ok(Next::Stall);
                }
                return Err(error.into());
            }
        };
        let nonsense = || Trouble::Away("a script has answered nonsense".to_owned());
        let answered = Answered::of(value).ok_or_else(nonsense)?;
        if answered.word != "OK" {
            refused(self);
            // After a frame that Redis refused for now, its number is missing.
            if answered.word == "SESSION" && 1 < self.queue.borrow().returned.len() {
                return Ok(Next::Stall);
            }
            return Err(answered.refusal());
        }
        let frame = self.queue.borrow_mut().in_flight.pop_front().ok_or_else(nonsense)?;
        self.core.status().refused = None;
        self.core.commit_seconds.observe(frame.sent.elapsed().as_secs_f64());
        self.stored(term, frame, &answered, n_replicas).ok_or_else(nonsense)?;
        Ok(Next::GoOn)
    }

    /// Answers the senders of a frame, and keeps it for Redis.
    fn stored(
        &self,
        term: u64,
        frame: SentFrame,
        answered: &Answered,
        n_replicas: u32,
    ) -> Option<()> {
        let SentFrame { session, number, mut submissions, pieces, .. } = frame;
        let counters = &self.core.counters;
        let needed = self.core.options.replicas_acked;
        let predecessor = Id::parse(&answered.text(0))?;
        let mut here = Id { term, number: predecessor.number };
        let mut stored: Vec<Bytes> = Vec::new();
        for ((piece, numbers), outcome) in pieces.into_iter().zip(&answered.rest[2..]) {
            let outcome = bytes(outcome)?;
            let (kind, rest) = outcome.split_first()?;
            for number in numbers {
                let submission = submissions.get_mut(usize::from(number))?;
                let outcome = match kind {
                    b'S' => {
                        counters.stored.add(1);
                        here.number += submission.encoded.positions;
                        Committed::Stored(here.position())
                    }
                    b'A' => {
                        counters.repeated.add(1);
                        Committed::Already(rest.into())
                    }
                    _ => {
                        counters.conflicts.add(1);
                        let revision = std::str::from_utf8(rest).ok().and_then(Id::parse);
                        Committed::Conflict(revision.map_or(Position::START, Id::position))
                    }
                };
                let is_stored = matches!(outcome, Committed::Stored(_));
                submission.answer(if is_stored && n_replicas < needed {
                    Err(HistoryError::Unknown(format!(
                        "{n_replicas} of {needed} replicas of Redis have acknowledged it (cluster.replicas_acked)"
                    )))
                } else {
                    Ok(outcome)
                });
            }
            if *kind == b'S' {
                stored.push(piece);
            }
        }
        if !stored.is_empty() {
            let origin = Origin { node: self.id.clone(), session, number };
            let content = Content::Pieces { origin, pieces: stored };
            let time = answered.number(1);
            self.ring.borrow_mut().insert(Frame { id: here, predecessor, time, content });
        }
        Some(())
    }
}

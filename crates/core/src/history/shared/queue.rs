//! Submissions on their way to the log: those that wait, those in frames without an answer, and
//! those whose answer was lost.

use std::{
    collections::{HashSet, VecDeque},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    frame::{Encoded, EncodedRecord, Id, Piece},
    keys::Keys,
    metrics::Counters,
};
use crate::history::{Committed, Expect, HistoryError, Shelf};

/// Submissions in one frame, and their bytes. A larger submission has a frame of its own.
const FRAME_SUBMISSIONS: usize = 256;
const FRAME_BYTES: usize = 512 << 10;

/// The time after its deadline that a frame on its way has for an answer. It may be one that says
/// for certain that nothing was stored.
const GRACE: Duration = Duration::from_millis(500);

/// Frames without an answer.
pub(super) const FRAMES: usize = 4;

/// A submission, until its sender has an answer.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) encoded: Encoded,
    /// The time at which its sender is told that it was not stored, or that this is not known.
    pub(super) deadline: Instant,
    /// `None` once the sender has an answer, or if there is none.
    pub(super) reply: Option<oneshot::Sender<Result<Committed, HistoryError>>>,
    /// Whether it is sent until it is stored, although its sender has no answer to wait for.
    pub(super) is_persistent: bool,
}

impl Submission {
    /// Answers the sender.
    pub(super) fn answer(&mut self, outcome: Result<Committed, HistoryError>) {
        if let Some(reply) = self.reply.take() {
            // It may have left.
            let _ = reply.send(outcome);
        }
    }

    /// Whether it is still to be stored.
    fn is_wanted(&self) -> bool {
        self.is_persistent || self.reply.is_some()
    }
}

/// A frame that was sent.
#[derive(Debug)]
pub(super) struct SentFrame {
    pub(super) session: u64,
    pub(super) number: u64,
    pub(super) submissions: Vec<Submission>,
    /// The pieces, each with the numbers of its submissions.
    pub(super) pieces: Vec<(Bytes, Vec<u16>)>,
    /// The submissions that the follower has found in the log, once it has found the frame.
    pub(super) found: Option<Vec<(u16, Id)>>,
    pub(super) sent: Instant,
}

/// What a script needs of a frame.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) keys: Vec<String>,
    /// Those of all pieces.
    pub(super) arguments: Vec<Vec<u8>>,
    pub(super) frame: SentFrame,
}

/// All submissions without an answer.
#[derive(Debug)]
pub(super) struct Queue {
    arriving: mpsc::Receiver<Submission>,
    waiting: VecDeque<Submission>,
    pub(super) in_flight: VecDeque<SentFrame>,
    /// Frames that were refused, in order, until the frames after them are refused as well.
    pub(super) returned: Vec<SentFrame>,
    pub(super) unanswered: Vec<SentFrame>,
}

impl Queue {
    pub(super) fn new(arriving: mpsc::Receiver<Submission>) -> Self {
        Self {
            arriving,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            returned: Vec::new(),
            unanswered: Vec::new(),
        }
    }

    /// Takes what has arrived.
    fn receive(&mut self) {
        while self.waiting.len() < 2 * FRAME_SUBMISSIONS
            && let Ok(submission) = self.arriving.try_recv()
        {
            self.waiting.push_back(submission);
        }
    }

    /// Waits for a submission.
    pub(super) fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.waiting.is_empty() {
            return Poll::Ready(());
        }
        match self.arriving.poll_recv(context) {
            Poll::Ready(Some(submission)) => {
                self.waiting.push_back(submission);
                Poll::Ready(())
            }
            // Without senders there will be none any more.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Whether everything is answered.
    pub(super) fn is_empty(&mut self) -> bool {
        self.receive();
        self.waiting.is_empty()
            && self.in_flight.is_empty()
            && self.returned.is_empty()
            && self.unanswered.is_empty()
    }

    /// Adds a submission that no sender waits for.
    pub(super) fn push(&mut self, submission: Submission) {
        self.waiting.push_back(submission);
    }

    /// Makes the next frame. No two submissions of a frame touch the same key or record, so the
    /// conditions of each can be checked before anything is written.
    pub(super) fn next(
        &mut self,
        session: u64,
        number: u64,
        keys: &Keys,
        ttl: Duration,
    ) -> Option<Order> {
        self.receive();
        let mut touched: HashSet<(Option<Shelf>, Vec<u8>)> = HashSet::new();
        let (mut submissions, mut size) = (Vec::new(), 0);
        while let Some(next) = self.waiting.front() {
            let encoded = &next.encoded;
            let records = encoded.records.iter().map(|it| (Some(it.shelf), it.key.to_vec()));
            let replies = encoded.replies.iter().map(|it| (None, it.0.clone().into_bytes()));
            let touches: Vec<_> = records.chain(replies).collect();
            let is_full = submissions.len() == FRAME_SUBMISSIONS
                || FRAME_BYTES < size + encoded.size()
                || touches.iter().any(|it| touched.contains(it));
            if is_full && !submissions.is_empty() {
                break;
            }
            size += encoded.size();
            touched.extend(touches);
            submissions.extend(self.waiting.pop_front());
        }
        if submissions.is_empty() {
            return None;
        }
        Some(order(session, number, submissions, keys, ttl))
    }

    /// Puts submissions back in front of all others, except those that nobody waits for.
    pub(super) fn put_back(&mut self, frames: impl DoubleEndedIterator<Item = SentFrame>) {
        for frame in frames.rev() {
            for submission in frame.submissions.into_iter().rev() {
                if submission.is_wanted() {
                    self.waiting.push_front(submission);
                }
            }
        }
    }

    /// Notes that the connection is gone: what became of the frames in flight is not known.
    pub(super) fn disconnect(&mut self) {
        self.unanswered.extend(self.in_flight.drain(..));
        let returned = std::mem::take(&mut self.returned);
        self.put_back(returned.into_iter());
    }

    /// Notes that the follower has found a frame of this node in the log.
    pub(super) fn find(&mut self, session: u64, number: u64, found: &[(u16, Id)]) {
        let sent = self.in_flight.iter_mut().chain(&mut self.unanswered);
        for frame in sent.filter(|it| (it.session, it.number) == (session, number)) {
            frame.found = Some(found.to_vec());
        }
    }

    /// Decides about the frames whose answers were lost, now that the log was read to a point
    /// behind which they cannot appear.
    pub(super) fn settle(&mut self, counters: &Counters) {
        let mut again = Vec::new();
        for mut frame in std::mem::take(&mut self.unanswered) {
            if let Some(found) = frame.found.take() {
                for (number, id) in found {
                    if let Some(submission) = frame.submissions.get_mut(usize::from(number)) {
                        counters.stored.add(1);
                        submission.answer(Ok(Committed::Stored(id.position())));
                        submission.is_persistent = false;
                    }
                }
            }
            // Of a frame in the log, these were refused because of a condition.
            again.push(frame);
        }
        self.put_back(again.into_iter());
    }

    /// Answers the senders of frames whose fate is not to be found out any more.
    pub(super) fn give_up(&mut self, why: &str) {
        let lost = self.unanswered.iter_mut().filter(|it| it.found.is_none());
        for submission in lost.flat_map(|it| &mut it.submissions) {
            submission.answer(Err(HistoryError::Unknown(why.to_owned())));
        }
    }

    /// Answers those whose time is over.
    pub(super) fn expire(&mut self, now: Instant, why: &str) {
        self.receive();
        let is_late = |it: &Submission, grace| it.deadline + grace <= now && !it.is_persistent;
        let is_due = |it: &Submission| is_late(it, Duration::ZERO);
        self.waiting.retain_mut(|submission| {
            let is_due = is_due(submission);
            if is_due {
                submission.answer(Err(HistoryError::Unavailable(why.to_owned())));
            }
            !is_due
        });
        for submission in self.returned.iter_mut().flat_map(|it| &mut it.submissions) {
            if is_due(submission) {
                submission.answer(Err(HistoryError::Unavailable(why.to_owned())));
            }
        }
        let sent = self.in_flight.iter_mut().chain(&mut self.unanswered);
        for submission in sent.flat_map(|it| &mut it.submissions) {
            if is_late(submission, GRACE) {
                submission.answer(Err(HistoryError::Unknown(why.to_owned())));
            }
        }
    }

    /// Answers everything that is left when the history is closed.
    pub(super) fn close(&mut self) {
        self.arriving.close();
        self.disconnect();
        self.give_up("the gateway has stopped");
        while let Ok(submission) = self.arriving.try_recv() {
            self.waiting.push_back(submission);
        }
        for mut submission in self.waiting.drain(..) {
            submission.answer(Err(HistoryError::Stopped));
        }
    }
}

/// The keys of the script `commit` before those of replies and records.
const OWN_KEYS: [&str; 4] = ["meta", "log", "marks", "sessions"];

fn order(
    session: u64,
    number: u64,
    submissions: Vec<Submission>,
    keys: &Keys,
    ttl: Duration,
) -> Order {
    let mut order_keys = keys.all(&OWN_KEYS);
    let mut arguments = Vec::new();
    let mut pieces = Vec::new();
    let mut plain: Option<(Piece, Vec<u16>)> = None;
    let text = |number: usize| number.to_string().into_bytes();
    let mut finish = |(piece, numbers): (Piece, Vec<u16>), conditions: Vec<Vec<u8>>| {
        arguments.push(piece.positions.to_string().into_bytes());
        arguments.push(piece.payload.clone());
        arguments.extend(conditions);
        pieces.push((Bytes::from(piece.payload), numbers));
    };
    for (at, submission) in (0..).zip(&submissions) {
        let encoded = &submission.encoded;
        if encoded.is_plain() {
            let (piece, numbers) = plain.get_or_insert_with(|| (Piece::new(), Vec::new()));
            piece.push(at, encoded);
            numbers.push(at);
            continue;
        }
        if let Some(plain) = plain.take() {
            finish(plain, vec![text(0), text(0)]);
        }
        let mut piece = Piece::new();
        let body = piece.push(at, encoded);
        let mut key = |name: String| {
            let known = order_keys.iter().position(|it| *it == name);
            let at = known.unwrap_or_else(|| {
                order_keys.push(name);
                order_keys.len() - 1
            });
            text(at + 1)
        };
        // The places of Lua begin with 1 and include the last byte.
        let mut conditions = vec![text(encoded.replies.len())];
        for (name, value) in &encoded.replies {
            conditions.push(key(keys.reply(name)));
            conditions.extend([text(body + value.start + 1), text(body + value.end)]);
            conditions.push(ttl.as_millis().max(1).to_string().into_bytes());
        }
        conditions.push(text(encoded.records.len()));
        for EncodedRecord { shelf, key: field, expect, value } in &encoded.records {
            conditions.push(key(keys.shelf(*shelf)));
            conditions.push(field.to_vec());
            conditions.push(match expect {
                Expect::Any => b"*".to_vec(),
                Expect::Absent => Vec::new(),
                Expect::At(revision) => Id::of(*revision).to_string().into_bytes(),
            });
            let (from, to) =
                value.as_ref().map_or((0, 0), |it| (body + it.start + 1, body + it.end));
            conditions.extend([text(from), text(to)]);
        }
        finish((piece, vec![at]), conditions);
    }
    if let Some(plain) = plain {
        finish(plain, vec![text(0), text(0)]);
    }
    arguments.insert(0, text(pieces.len()));
    let sent = Instant::now();
    let frame = SentFrame { session, number, submissions, pieces, found: None, sent };
    Order { keys: order_keys, arguments, frame }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Batch, KeyedReply, Record, Write, disk::tests as on_disk};

    fn submission(
        batch: &Batch,
    ) -> (Submission, oneshot::Receiver<Result<Committed, HistoryError>>) {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + Duration::from_secs(60);
        let encoded = Encoded::new(batch);
        (Submission { encoded, deadline, reply: Some(reply), is_persistent: false }, answer)
    }

    fn record(key: u8) -> Batch {
        let record = Record { shelf: Shelf::Jobs, key: [key].into(), value: Some([1].into()) };
        let records = vec![Write { record, expect: Expect::Absent }];
        Batch { records, ..Batch::default() }
    }

    fn update(bytes: usize) -> Batch {
        vec![on_disk::update(&[0], 1, bytes)].into()
    }

    fn reply(key: &str) -> Batch {
        let reply = KeyedReply { key: key.to_owned(), value: [1].into() };
        Batch { replies: vec![reply], ..update(1) }
    }

    fn frames(batches: &[Batch]) -> Vec<(usize, usize)> {
        let (arrive, arriving) = mpsc::channel(1024);
        let mut queue = Queue::new(arriving);
        for batch in batches {
            arrive.try_send(submission(batch).0).expect("room");
        }
        let keys = Keys::new("main");
        let next = |number| queue.next(1, number, &keys, Duration::from_secs(1));
        let orders = (1..).map_while(next);
        orders.map(|it| (it.frame.submissions.len(), it.frame.pieces.len())).collect()
    }

    #[test]
    fn a_frame_touches_nothing_twice_and_keeps_the_order() {
        assert_eq!(frames(&[update(1), update(1), update(1)]), [(3, 1)]);
        assert_eq!(frames(&[update(1), record(1), update(1), record(2)]), [(4, 4)]);
        assert_eq!(frames(&[record(1), record(2), record(1), record(1)]), [(2, 2), (1, 1), (1, 1)]);
        assert_eq!(frames(&[reply("a"), reply("b"), reply("a")]), [(2, 2), (1, 1)]);
        let large = FRAME_BYTES / 2;
        assert_eq!(frames(&[update(large), update(large), update(3 * large)]), [(1, 1); 3]);
        assert_eq!(frames(&vec![update(1); 300]), [(256, 1), (44, 1)]);
    }

    #[test]
    fn a_lost_answer_is_found_in_the_log_or_the_frame_is_sent_again_in_order() {
        let (arrive, arriving) = mpsc::channel(1024);
        let mut queue = Queue::new(arriving);
        let keys = Keys::new("main");
        let mut answers = Vec::new();
        for batch in [update(1), record(1), update(2), record(2)] {
            let (submission, answer) = submission(&batch);
            arrive.try_send(submission).expect("room");
            answers.push(answer);
            let number = answers.len() as u64;
            let order = queue.next(1, number, &keys, Duration::from_secs(1));
            queue.in_flight.push_back(order.expect("a frame").frame);
        }
        queue.disconnect();
        let id = Id { term: 1, number: 9 };
        queue.find(1, 2, &[(0, id)]);
        queue.settle(&Counters::default());
        assert_eq!(
            answers[1].try_recv().expect("answered").expect("stored"),
            Committed::Stored(id.position())
        );
        let again = queue.next(2, 1, &keys, Duration::from_secs(1)).expect("a frame");
        assert_eq!(again.frame.submissions.len(), 3);
        queue.in_flight.push_back(again.frame);
        queue.expire(Instant::now() + Duration::from_secs(61), "why");
        assert!(matches!(answers[0].try_recv(), Ok(Err(HistoryError::Unknown(_)))));
        queue.disconnect();
        queue.settle(&Counters::default());
        assert!(queue.is_empty(), "what was answered is not sent again");
    }
}

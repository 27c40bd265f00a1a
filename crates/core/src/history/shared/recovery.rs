//! Between two terms: what Redis has lost is put back, and what cannot be put back is published
//! again.

use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::{
    frame::{Content, Encoded, Frame, Id},
    life::{Entered, Node, Reload, random_text},
    link::{Link, Trouble},
    queue::Submission,
    scripts::Script,
};
use crate::history::{Batch, KeyedReply};

/// Bytes of frames in one call.
const CHUNK: usize = 1 << 20;

/// The interval at which a node asks whether the new term is open.
const ASKING: Duration = Duration::from_millis(50);

impl Node {
    /// Puts back the frames that this server lacks, and waits for the new term. Returns its frame.
    pub(super) async fn recover(&self, link: &Link, entered: &Entered) -> Result<Id, Trouble> {
        let has_read = self.log.borrow().reload.is_none();
        if has_read {
            self.heal(link, entered).await?;
        }
        let keys = self.keys.all(&["meta", "log", "terms", "waiting"]);
        loop {
            let known = {
                let log = self.log.borrow();
                log.known_term.max(log.newest.term).to_string()
            };
            let arguments = self.arguments(&[&known, &random_text()]);
            let answered = link.call(Script::Open, &keys, &arguments).await?;
            match answered.word.as_str() {
                "OK" => {
                    let newest = format!("{}-{}", answered.text(0), answered.text(1));
                    let damaged = || Trouble::Unsuitable("the log in Redis is damaged".to_owned());
                    let newest = Id::parse(&newest).ok_or_else(damaged)?;
                    self.core.cursor_key.learn_term(newest.term, &answered.text(2));
                    return Ok(newest);
                }
                "WAIT" => tokio::time::sleep(ASKING).await,
                _ => return Err(answered.refusal()),
            }
        }
    }

    async fn heal(&self, link: &Link, entered: &Entered) -> Result<(), Trouble> {
        let nonce = self.log.borrow().nonces.get(&entered.newest.term).cloned();
        // Without its nonce, this may be another branch.
        let Some(mut nonce) = nonce else { return Ok(()) };
        let frames: Vec<Frame> = {
            let ring = self.ring.borrow();
            ring.chain_after(entered.newest).into_iter().cloned().collect()
        };
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let mut size = 0;
            let fits = |frame: &&Frame| {
                size += frame.size();
                size <= CHUNK
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (chunk, more) = rest.split_at(count);
            let Some(healed) = self.put_back(link, &nonce, chunk).await? else {
                self.log.borrow_mut().reload = Some(Reload::Forked);
                self.core.counters.forks.add(1);
                return Ok(());
            };
            if 0 < healed {
                info!(healed, "frames that Redis had lost are back in the log");
                self.core.counters.healed.add(healed);
            }
            // Another node may be at it as well. What it has put back need not be sent.
            rest = more;
            for frame in chunk {
                if let Content::Term(opened) = &frame.content {
                    nonce = opened.to_string();
                }
            }
        }
        Ok(())
    }

    /// Sends frames to be put back. Returns how many were, or `None` if the log is another branch.
    async fn put_back(
        &self,
        link: &Link,
        nonce: &str,
        frames: &[Frame],
    ) -> Result<Option<u64>, Trouble> {
        let mut keys = self.keys.all(&["meta", "log", "marks", "terms"]);
        let mut key = |name: String| {
            let known = keys.iter().position(|it| *it == name);
            let at = known.unwrap_or_else(|| {
                keys.push(name);
                keys.len() - 1
            });
            (at + 1).to_string().into_bytes()
        };
        let text = |number: usize| number.to_string().into_bytes();
        let log = self.log.borrow().name.clone();
        let mut arguments = vec![
            log.into_bytes(),
            nonce.as_bytes().to_vec(),
            text(super::beat::MARK),
            text(frames.len()),
        ];
        let now = self.core.now().as_microsecond();
        for frame in frames {
            let opened = match &frame.content {
                Content::Term(nonce) => nonce.as_bytes().to_vec(),
                Content::Pieces { .. } => Vec::new(),
            };
            arguments.extend([
                frame.id.to_string().into_bytes(),
                frame.predecessor.to_string().into_bytes(),
                frame.time.to_string().into_bytes(),
                text(frame.size()),
                opened,
            ]);
            let fields = frame.fields();
            arguments.push(text(fields.len()));
            for (name, value) in fields {
                arguments.extend([name.as_bytes().to_vec(), value.to_vec()]);
            }
            // It was read before, or the script has accepted it.
            let submissions = frame.submissions().unwrap_or_default();
            let replies = submissions.iter().flat_map(|it| &it.1.replies);
            arguments.push(text(replies.clone().count()));
            for KeyedReply { key: name, value } in replies {
                let age = u64::try_from(now.saturating_sub(frame.time) / 1000).unwrap_or(0);
                let all =
                    u64::try_from(self.core.options.reply_age.as_millis()).unwrap_or(u64::MAX);
                let left = all.saturating_sub(age).max(1);
                let left = left.to_string().into_bytes();
                arguments.extend([key(self.keys.reply(name)), value.to_vec(), left]);
            }
            let records = submissions
                .iter()
                .flat_map(|(id, it)| it.records.iter().map(move |record| (id, record)));
            arguments.push(text(records.clone().count()));
            for (revision, record) in records {
                let value = record.value.as_ref();
                let value = value.map(|value| [format!("{revision} ").as_bytes(), value].concat());
                arguments.extend([
                    key(self.keys.shelf(record.shelf)),
                    record.key.to_vec(),
                    value.unwrap_or_default(),
                ]);
            }
        }
        let answered = link.call(Script::Heal, &keys, &arguments).await?;
        match answered.word.as_str() {
            "OK" => Ok(Some(answered.number(0))),
            "FORKED" => Ok(None),
            // Another node has opened the term already.
            "CLOSED" => Ok(Some(0)),
            _ => Err(answered.refusal()),
        }
    }

    /// Publishes again what is in frames that belong to no branch that goes on. Their records are
    /// dropped, because others may have changed them since.
    pub(super) fn publish_late(&self, frames: Vec<Frame>) {
        for frame in frames {
            let Content::Pieces { origin, .. } = &frame.content else { continue };
            let submissions = match frame.submissions() {
                Ok(submissions) => submissions,
                Err(error) => {
                    error!(%error, "a frame cannot be published again");
                    continue;
                }
            };
            for (_, mut submitted) in submissions {
                let view = self.core.view();
                submitted.updates.retain(|update| !view.parts.knows(&update.id));
                drop(view);
                if submitted.updates.is_empty() {
                    continue;
                }
                let n_events = submitted.updates.len();
                warn!(n_events, frame = %frame.id, "events that the log has lost are published again");
                self.core.counters.late.add(n_events as u64);
                let key = format!("late:{origin}:{}", submitted.number);
                let mut replies = submitted.replies;
                // Several nodes may know the frame. The first one publishes it.
                replies.push(KeyedReply { key, value: Box::default() });
                let batch = Batch { updates: submitted.updates, records: Vec::new(), replies };
                self.queue.borrow_mut().push(Submission {
                    encoded: Encoded::new(&batch),
                    deadline: Instant::now(),
                    reply: None,
                    is_persistent: true,
                });
            }
        }
    }
}

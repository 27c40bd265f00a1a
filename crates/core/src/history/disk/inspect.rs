//! A slow inspection of all stored events, once after each start. It finds damage that no reader
//! meets, above all missing index entries.

use redb::{Database, Error, ReadableDatabase as _};

use super::{
    codec,
    tables::{EVENTS, IDS, TOPICS, index_key},
};
use crate::{event::Position, history::hash::hash};

/// Events inspected in one step; few, because publishers wait meanwhile.
const SLICE: usize = 128;

/// The progress of the inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inspection {
    /// All events up to this position are intact.
    At(Position),
    /// Nothing is left to inspect.
    Done,
}

impl Inspection {
    /// Inspects the next events: their checksums and their index entries.
    ///
    /// # Errors
    /// Fails if something is damaged, or if the store cannot be read.
    pub(super) fn go_on(self, database: &Database) -> Result<Self, Error> {
        let Self::At(mut at) = self else { return Ok(self) };
        let transaction = database.begin_read()?;
        let events = transaction.open_table(EVENTS)?;
        let (topics, ids) = (transaction.open_table(TOPICS)?, transaction.open_table(IDS)?);
        let mut n_looked_at = 0;
        for entry in events.range(at.0 + 1..)?.take(SLICE) {
            let (position, record) = entry?;
            at = Position(position.value());
            n_looked_at += 1;
            let event = codec::decode(at, record.value())?;
            let id = index_key(hash(event.update.id.as_str()), at);
            let mut of_topics = event.update.topics.iter();
            let is_listed = of_topics.try_fold(true, |so_far, topic| {
                let key = index_key(hash(topic.as_str()), at);
                Ok::<_, Error>(so_far && topics.get(key)?.is_some())
            })?;
            if !is_listed || ids.get(id)?.is_none() {
                return Err(Error::Corrupted("an entry of an index is missing".to_owned()));
            }
        }
        Ok(if n_looked_at < SLICE { Self::Done } else { Self::At(at) })
    }
}

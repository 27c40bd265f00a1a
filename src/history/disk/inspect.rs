//! A slow look at everything that is stored, once after each start: damage that no reader meets would otherwise stay
//! unknown, above all an entry that is missing in an index.

use redb::{Database, Error, ReadableDatabase as _};

use super::{
    codec,
    tables::{EVENTS, IDS, TOPICS, index_key},
};
use crate::{event::Position, history::hash::hash};

/// Events that one look takes in; few, because publishers wait meanwhile.
const SLICE: usize = 128;

/// How far the look has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inspection {
    /// Up to this position everything is whole.
    At(Position),
    /// There is nothing left to look at.
    Done,
}

impl Inspection {
    /// Looks at the next events: at their checksums, and at their entries in the indexes.
    ///
    /// # Errors
    /// If something is damaged, or the store cannot be read.
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

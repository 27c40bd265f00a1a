//! Dropping events that the retention no longer covers, and replies that are too old or too many.

use redb::{
    Database, Error, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
};

use super::{
    DiskOptions,
    codec::Remembered,
    damage::damaged,
    tables::{BY_RULE, TOTALS, index_key, number},
    write::Session,
};
use crate::{event::Position, history::hash::hash};

impl Session<'_, '_> {
    /// Drops an event, and remembers that it existed if a subscriber can miss it.
    pub(super) fn drop_event(&mut self, position: Position) -> Result<(), Error> {
        // The tables that lead here have no entry without an event, so a missing event is damage.
        let event = self.remove(position)?;
        let event = event.ok_or_else(|| damaged("an index names an event that is not there"))?;
        let Some(remembered) = Remembered::of(&event) else {
            self.tables.ids.remove(index_key(hash(event.update.id.as_str()), position))?;
            return Ok(());
        };
        self.tables.dropped.insert(position.0, &*remembered.encode(position))?;
        self.drops.push((position, remembered));
        while self.options.remembered < self.tables.dropped.len()? {
            let Some((position, remembered)) = self.tables.dropped.pop_first()? else { break };
            let position = Position(position.value());
            let remembered = Remembered::decode(position, remembered.value())?;
            self.tables.ids.remove(index_key(remembered.id, position))?;
            let numbers = &mut self.tables.numbers;
            for reach in remembered.reaches() {
                let name = number::FORGOTTEN_BY_REACH[*reach as usize];
                let before = numbers.get(name)?.map_or(0, |it| it.value());
                if before < position.0 as i64 {
                    let accepted = number::FORGOTTEN_BY_REACH_ACCEPTED[*reach as usize];
                    numbers.insert(name, position.0 as i64)?;
                    numbers.insert(accepted, remembered.accepted)?;
                }
            }
        }
        Ok(())
    }

    /// Drops events that the retention no longer covers, at most `budget`. Returns whether more
    /// remain.
    pub(super) fn trim(&mut self, now: i64, budget: usize) -> Result<bool, Error> {
        for _ in 0..budget {
            match self.superfluous(now)? {
                Some(position) => self.drop_event(position)?,
                None => return Ok(false),
            }
        }
        Ok(self.superfluous(now)?.is_some())
    }

    /// Returns an event to drop: the oldest of a part that exceeds its limits, else the oldest of
    /// all ordinary ones.
    fn superfluous(&self, now: i64) -> Result<Option<Position>, Error> {
        let mut ordinary = Ordinary::default();
        for (part, total) in (0..).zip(&self.log.totals).filter(|it| 0 < it.1.0) {
            let oldest = self.tables.by_rule.range((part, 0)..=(part, u64::MAX))?.next();
            let Some((key, entry)) = oldest.transpose()? else { continue };
            let (oldest, accepted) = (Position(key.value().1), entry.value().1);
            if is_exceeded(self.options, part, *total, now.saturating_sub(accepted)) {
                return Ok(Some(oldest));
            }
            ordinary.add(self.options, part, *total, oldest);
        }
        Ok(ordinary.oldest.filter(|_| ordinary.is_exceeded(self.options)))
    }

    /// Drops replies that are too old or too many.
    pub(super) fn forget_replies(&mut self, now: i64) -> Result<(), Error> {
        let age = self.options.age_of_replies();
        loop {
            let oldest = self.tables.reply_order.first()?;
            let Some((number, given)) = oldest.map(|it| (it.0.value(), it.1.value().0)) else {
                return Ok(());
            };
            let n_replies = self.log.next_reply - number;
            let is_kept = now.saturating_sub(given) <= age
                && n_replies <= self.options.replies.count as u64
                && self.log.reply_bytes <= self.options.replies.bytes as u64;
            if is_kept {
                return Ok(());
            }
            self.remove_reply(number)?;
        }
    }
}

/// Whether there is something to drop, as far as a snapshot shows.
pub(super) fn is_due(database: &Database, options: &DiskOptions, now: i64) -> Result<bool, Error> {
    let transaction = database.begin_read()?;
    let by_rule = transaction.open_table(BY_RULE)?;
    let totals = transaction.open_table(TOTALS)?;
    let mut ordinary = Ordinary::default();
    for entry in totals.range(0..)? {
        let (part, total) = entry?;
        let (part, total) = (part.value(), total.value());
        let oldest = by_rule.range((part, 0)..=(part, u64::MAX))?.next().transpose()?;
        let Some((key, entry)) = oldest else { continue };
        if is_exceeded(options, part, total, now.saturating_sub(entry.value().1)) {
            return Ok(true);
        }
        ordinary.add(options, part, total, Position(key.value().1));
    }
    Ok(ordinary.is_exceeded(options))
}

/// Whether a part must drop its oldest event, which was accepted `age` microseconds ago.
fn is_exceeded(options: &DiskOptions, part: u32, total: (u64, u64), age: i64) -> bool {
    options.bounds(part).are_exceeded(total.0, total.1, age)
}

/// The ordinary events of all parts: their number, their weight and the oldest.
#[derive(Debug, Default)]
struct Ordinary {
    events: u64,
    bytes: u64,
    oldest: Option<Position>,
}

impl Ordinary {
    fn add(&mut self, options: &DiskOptions, part: u32, total: (u64, u64), oldest: Position) {
        if options.rules.is_ordinary(part as usize) {
            (self.events, self.bytes) = (self.events + total.0, self.bytes + total.1);
            self.oldest = Some(self.oldest.map_or(oldest, |it| it.min(oldest)));
        }
    }

    fn is_exceeded(&self, options: &DiskOptions) -> bool {
        options.events < self.events || options.bytes < self.bytes
    }
}

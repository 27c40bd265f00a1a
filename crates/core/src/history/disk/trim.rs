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

    /// Returns an event to drop: the oldest of a rule that exceeds its limits, else the oldest of
    /// all.
    fn superfluous(&self, now: i64) -> Result<Option<Position>, Error> {
        for (rule, total) in (0..).zip(&self.log.totals) {
            let own = self.options.rule(rule);
            let oldest = self.tables.by_rule.range((rule, 0)..=(rule, u64::MAX))?.next();
            let Some((key, entry)) = oldest.transpose()? else { continue };
            let is_old = self.options.age_of(own) < now.saturating_sub(entry.value().1);
            if is_old || own.and_then(|it| it.bytes).is_some_and(|limit| limit < total.1) {
                return Ok(Some(Position(key.value().1)));
            }
        }
        let (events, bytes) =
            self.log.totals.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        if self.options.events < events || self.options.bytes < bytes {
            let oldest = self.tables.events.first()?;
            return Ok(oldest.map(|(position, _)| Position(position.value())));
        }
        Ok(None)
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
    let (mut events, mut bytes) = (0, 0);
    for entry in totals.range(0..)? {
        let (rule, total) = entry?;
        let (rule, (rule_events, rule_bytes)) = (rule.value(), total.value());
        (events, bytes) = (events + rule_events, bytes + rule_bytes);
        let own = options.rule(rule);
        let oldest = by_rule.range((rule, 0)..=(rule, u64::MAX))?.next().transpose()?;
        let is_old = |accepted| options.age_of(own) < now.saturating_sub(accepted);
        let is_over = own.and_then(|it| it.bytes).is_some_and(|limit| limit < rule_bytes);
        if is_over || oldest.is_some_and(|(_, entry)| is_old(entry.value().1)) {
            return Ok(true);
        }
    }
    Ok(options.events < events || options.bytes < bytes)
}

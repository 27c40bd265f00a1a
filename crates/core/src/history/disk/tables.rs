//! The tables of a store, and the keys of its indexes.
//!
//! Numbers in keys are big-endian, so that their byte order is their numeric order. A change of
//! what is stored must raise [`FORMAT`], so that older programs refuse the store.

use std::ops::RangeInclusive;

use redb::{Table, TableDefinition, TableError, WriteTransaction};

use crate::{
    event::Position,
    history::{Shelf, hash::Hash},
};

/// The version of the tables and records.
pub(super) const FORMAT: i64 = 4;

/// The version before state and clients. It lacks the shelves added since.
pub(super) const FORMAT_WITHOUT_STATE: i64 = 3;

/// The version whose records have no revision. It lacks the shelves added since.
pub(super) const FORMAT_WITHOUT_REVISIONS: i64 = 2;

/// The version without checksums. It is migrated when it is opened.
pub(super) const FORMAT_WITHOUT_CHECKSUMS: i64 = 1;

/// Numbers, under the names in [`number`].
pub(super) const NUMBERS: TableDefinition<'_, &str, i64> = TableDefinition::new("numbers");

/// The key of cursor tokens, and the rules by which events were sorted.
pub(super) const BYTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bytes");

/// Position to record.
pub(super) const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

/// Topic and position.
pub(super) const TOPICS: TableDefinition<'_, IndexKey, ()> = TableDefinition::new("topics");

/// Id and position. Includes dropped events while they are remembered.
pub(super) const IDS: TableDefinition<'_, IndexKey, ()> = TableDefinition::new("ids");

/// Rule and position to weight and time of acceptance.
pub(super) const BY_RULE: TableDefinition<'_, (u32, u64), (u32, i64)> =
    TableDefinition::new("by_rule");

/// Rule, topic and position, for rules that count events per topic.
pub(super) const COUNTED: TableDefinition<'_, CountKey, ()> = TableDefinition::new("counted");

/// Rule and topic to the number of counted events.
pub(super) const COUNTS: TableDefinition<'_, (u32, Hash), u64> = TableDefinition::new("counts");

/// Rule to the number and the weight of its events.
pub(super) const TOTALS: TableDefinition<'_, u32, (u64, u64)> = TableDefinition::new("totals");

/// Position of a dropped event to what is remembered of it.
pub(super) const DROPPED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dropped");

/// Key to the number and value of a reply.
pub(super) const REPLIES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("replies");

/// Number of a reply to its time, key and weight.
pub(super) const REPLY_ORDER: TableDefinition<'_, u64, (i64, &str, u64)> =
    TableDefinition::new("reply_order");

/// The shelves that a store of a format has.
pub(super) fn shelves(format: i64) -> &'static [Shelf] {
    const ALL: &[Shelf] = &Shelf::ALL;
    match format {
        ..=FORMAT_WITHOUT_REVISIONS => &ALL[..4],
        FORMAT_WITHOUT_STATE => &ALL[..5],
        _ => ALL,
    }
}

/// The records of a shelf.
pub(super) fn shelf(shelf: Shelf) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(shelf_name(shelf))
}

/// The name of a shelf's table.
pub(in crate::history) fn shelf_name(shelf: Shelf) -> &'static str {
    match shelf {
        Shelf::Jobs => "jobs",
        Shelf::JobPayloads => "job_payloads",
        Shelf::JobLogs => "job_logs",
        Shelf::JobTombstones => "job_tombstones",
        Shelf::JobKeys => "job_keys",
        Shelf::State => "state",
        Shelf::Clients => "clients",
    }
}

/// All tables except those of the shelves. A store that lacks one is damaged.
pub(super) const NAMES: [&str; 12] = [
    "numbers",
    "bytes",
    "events",
    "topics",
    "ids",
    "by_rule",
    "counted",
    "counts",
    "totals",
    "dropped",
    "replies",
    "reply_order",
];

/// Names in [`NUMBERS`].
pub(super) mod number {
    /// The store's [`FORMAT`](super::FORMAT).
    pub(crate) const FORMAT: &str = "format";
    /// The newest position.
    pub(crate) const LAST: &str = "last";
    /// The time of acceptance of the newest event, in microseconds since 1970.
    pub(crate) const ACCEPTED: &str = "accepted";
    /// The number of commits, which shows whether one has reached the disk.
    pub(crate) const COMMITS: &str = "commits";
    /// The position up to which dropped events are forgotten, and its time of acceptance.
    pub(crate) const FORGOTTEN: &str = "forgotten";
    pub(crate) const FORGOTTEN_ACCEPTED: &str = "forgotten_accepted";
    /// The same for the events of each reach, in the order of `Reach::ALL`.
    pub(crate) const FORGOTTEN_BY_REACH: [&str; 5] = [
        "forgotten_open",
        "forgotten_job",
        "forgotten_private",
        "forgotten_shared",
        "forgotten_client",
    ];
    pub(crate) const FORGOTTEN_BY_REACH_ACCEPTED: [&str; 5] = [
        "forgotten_open_accepted",
        "forgotten_job_accepted",
        "forgotten_private_accepted",
        "forgotten_shared_accepted",
        "forgotten_client_accepted",
    ];
    /// 1 while a gateway runs that does not sync every commit.
    pub(crate) const UNSYNCED: &str = "unsynced";
    /// The number of the next reply.
    pub(crate) const NEXT_REPLY: &str = "next_reply";
    /// The checksum of the totals.
    pub(crate) const TOTALS_CHECKSUM: &str = "totals_checksum";
    /// The weight of all replies.
    pub(crate) const REPLY_BYTES: &str = "reply_bytes";
}

/// Names in [`BYTES`].
pub(super) mod bytes {
    pub(crate) const TOKEN_KEY: &str = "token_key";
    pub(crate) const RULES: &str = "rules";
}

/// The high 6 bytes of a position, a hash, and the low 2 bytes of the position. Entries of events
/// accepted at about the same time are close together. So an append touches few pages, however many
/// events there are.
pub(super) type IndexKey = [u8; 24];

/// The number of positions with the same high bytes in their keys.
pub(super) const BUCKET: u64 = 1 << 16;

/// Builds an index key.
pub(super) fn index_key(hash: Hash, position: Position) -> IndexKey {
    let position = position.0.to_be_bytes();
    let mut key = IndexKey::default();
    key[..6].copy_from_slice(&position[..6]);
    key[6..22].copy_from_slice(&hash);
    key[22..].copy_from_slice(&position[6..]);
    key
}

/// Splits an index key into its hash and position.
pub(super) fn index_parts(key: IndexKey) -> (Hash, Position) {
    let mut position = [0; 8];
    position[..6].copy_from_slice(&key[..6]);
    position[6..].copy_from_slice(&key[22..]);
    let mut hash = Hash::default();
    hash.copy_from_slice(&key[6..22]);
    (hash, Position(u64::from_be_bytes(position)))
}

/// A rule's number, a topic's hash and a position.
pub(super) type CountKey = [u8; 28];

/// Builds a key of a counted event.
pub(super) fn count_key(rule: u32, topic: Hash, position: Position) -> CountKey {
    let mut key = [0; 28];
    key[..4].copy_from_slice(&rule.to_be_bytes());
    key[4..20].copy_from_slice(&topic);
    key[20..].copy_from_slice(&position.0.to_be_bytes());
    key
}

/// The position in such a key.
pub(super) fn count_position(key: CountKey) -> Position {
    let mut position = [0; 8];
    position.copy_from_slice(&key[20..]);
    Position(u64::from_be_bytes(position))
}

/// The key range of a topic's counted events.
pub(super) fn count_range(rule: u32, topic: Hash) -> RangeInclusive<CountKey> {
    count_key(rule, topic, Position::START)..=count_key(rule, topic, Position(u64::MAX))
}

/// All tables of a write transaction, except those of the shelves.
pub(super) struct Tables<'t> {
    pub(super) numbers: Table<'t, &'static str, i64>,
    pub(super) events: Table<'t, u64, &'static [u8]>,
    pub(super) topics: Table<'t, IndexKey, ()>,
    pub(super) ids: Table<'t, IndexKey, ()>,
    pub(super) by_rule: Table<'t, (u32, u64), (u32, i64)>,
    pub(super) counted: Table<'t, CountKey, ()>,
    pub(super) counts: Table<'t, (u32, Hash), u64>,
    pub(super) totals: Table<'t, u32, (u64, u64)>,
    pub(super) dropped: Table<'t, u64, &'static [u8]>,
    pub(super) replies: Table<'t, &'static str, (u64, &'static [u8])>,
    pub(super) reply_order: Table<'t, u64, (i64, &'static str, u64)>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            numbers: transaction.open_table(NUMBERS)?,
            events: transaction.open_table(EVENTS)?,
            topics: transaction.open_table(TOPICS)?,
            ids: transaction.open_table(IDS)?,
            by_rule: transaction.open_table(BY_RULE)?,
            counted: transaction.open_table(COUNTED)?,
            counts: transaction.open_table(COUNTS)?,
            totals: transaction.open_table(TOTALS)?,
            dropped: transaction.open_table(DROPPED)?,
            replies: transaction.open_table(REPLIES)?,
            reply_order: transaction.open_table(REPLY_ORDER)?,
        })
    }
}

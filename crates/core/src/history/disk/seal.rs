//! Checksums of stored records. The embedded store does not check a page when it reads it, so every
//! record has its own checksum.
//!
//! The checksum also covers the table and the key, so a record under the wrong key counts as
//! damaged. CRC-32 finds every flip of up to three bits and every burst of up to 32 bits. Other
//! damage goes unnoticed once in 4 billion times.

use redb::{Error, ReadableTable};

use super::damage::Unreadable;

/// The length in bytes of a checksum, which ends each record.
const LENGTH: usize = size_of::<u32>();

/// The name of the checksum in the table of numbers.
const CHECKSUM: &str = "checksum";

/// The place of a record: its table and its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'k> {
    table: &'static str,
    key: &'k [u8],
}

impl<'k> Place<'k> {
    pub(super) fn new(table: &'static str, key: &'k [u8]) -> Self {
        Self { table, key }
    }

    fn checksum(self, record: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.table.as_bytes());
        // This byte occurs in no table name, so the name cannot run into what follows.
        hasher.update(&[0]);
        hasher.update(&(self.key.len() as u64).to_le_bytes());
        hasher.update(self.key);
        hasher.update(record);
        hasher.finalize()
    }

    /// Appends the checksum to a record.
    pub(super) fn seal(self, mut record: Vec<u8>) -> Vec<u8> {
        let checksum = self.checksum(&record);
        record.extend_from_slice(&checksum.to_le_bytes());
        record
    }

    /// Returns the record without its checksum, if the checksum is right.
    pub(super) fn unseal(self, sealed: &[u8]) -> Result<&[u8], Unreadable> {
        let at = sealed.len().checked_sub(LENGTH).ok_or(Unreadable::Damaged)?;
        let (record, checksum) = sealed.split_at(at);
        if self.checksum(record).to_le_bytes() == checksum {
            Ok(record)
        } else {
            Err(Unreadable::Checksum { table: self.table })
        }
    }
}

/// Writes the checksum of all numbers. Called after a number has changed.
pub(super) fn seal_numbers(numbers: &mut redb::Table<'_, &'static str, i64>) -> Result<(), Error> {
    let checksum = numbers_checksum(numbers)?;
    numbers.insert(CHECKSUM, checksum)?;
    Ok(())
}

/// Checks all numbers together; there are only a few.
pub(super) fn check_numbers(numbers: &impl ReadableTable<&'static str, i64>) -> Result<(), Error> {
    let stored = numbers.get(CHECKSUM)?.map(|it| it.value());
    if stored == Some(numbers_checksum(numbers)?) {
        Ok(())
    } else {
        Err(Unreadable::Checksum { table: "numbers" }.into())
    }
}

fn numbers_checksum(numbers: &impl ReadableTable<&'static str, i64>) -> Result<i64, Error> {
    let mut hasher = crc32fast::Hasher::new();
    for entry in numbers.iter()? {
        let (name, number) = entry?;
        if name.value() != CHECKSUM {
            hasher.update(name.value().as_bytes());
            hasher.update(&[0]);
            hasher.update(&number.value().to_le_bytes());
        }
    }
    Ok(i64::from(hasher.finalize()))
}

/// The checksum of the number and weight of each rule's events.
pub(super) fn totals_checksum(totals: &[(u64, u64)]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for (events, bytes) in totals {
        hasher.update(&events.to_le_bytes());
        hasher.update(&bytes.to_le_bytes());
    }
    i64::from(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_is_what_it_was_or_it_is_refused(
            record in prop::collection::vec(any::<u8>(), 0..300), key in any::<[u8; 8]>(), bit in any::<prop::sample::Index>(),
        ) {
            let place = Place::new("events", &key);
            let mut sealed = place.seal(record.clone());
            prop_assert_eq!(place.unseal(&sealed), Ok(&*record));
            prop_assert!(Place::new("dropped", &key).unseal(&sealed).is_err());
            let mut other = key;
            other[bit.index(8)] ^= 1 << bit.index(7);
            prop_assert!(Place::new("events", &other).unseal(&sealed).is_err());
            let bit = bit.index(8 * sealed.len());
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(place.unseal(&sealed).is_err());
        }
    }
}

//! The records of keys: which unfinished job has a type and key.

use super::{
    Job,
    record::{key as number_key, record},
};
use crate::history::{Expect, Record, Shelf, Write};

/// Returns the change of a key's record that a change of a job brings with it. `before` is `None`
/// for a new job.
pub(super) fn changed(before: Option<&Job>, after: &Job) -> Option<Write> {
    let held = before.is_some_and(|it| !it.state.is_final());
    match (held, !after.state.is_final()) {
        (false, true) => hold(after),
        (true, false) => release(after),
        _ => None,
    }
}

/// Returns the record that makes a job the holder of its key, if it has one and nothing else holds
/// it.
pub(super) fn hold(job: &Job) -> Option<Write> {
    let key_record = key_of(&job.kind, job.key.as_ref()?);
    let holder = record(Shelf::JobKeys, key_record, Some(number_key(job.number)));
    Some(Write { expect: Expect::Absent, ..holder })
}

/// Returns the record that releases the key of a job, if it has one.
fn release(job: &Job) -> Option<Write> {
    Some(record(Shelf::JobKeys, key_of(&job.kind, job.key.as_ref()?), None))
}

/// Returns the record that removes what a key record says.
pub(super) fn gone(kept: &Record) -> Write {
    record(Shelf::JobKeys, kept.key.to_vec(), None)
}

/// Returns the number of the job that holds a key.
pub(super) fn holder(kept: &Record) -> u64 {
    let value = kept.value.as_deref().unwrap_or_default();
    value.first_chunk().map_or(0, |it| u64::from_be_bytes(*it))
}

/// The type with its length, and the key.
fn key_of(kind: &str, job_key: &str) -> Vec<u8> {
    let length = (kind.len() as u64).to_be_bytes();
    [&length[..], kind.as_bytes(), job_key.as_bytes()].concat()
}

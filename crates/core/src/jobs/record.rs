//! The stored form of jobs: what never changes, what each change rewrites, and the log in blocks.
//!
//! Keys begin with the job's number, big-endian. Instants are meaningless to another process, so
//! records hold times of day. Where they are read, a comment says how.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Asked, Job, JobLog, JobOptions, JobState, Lease, NewJob, Now, Outcome, Progress, Report, Rules,
    job::Passed,
};
use crate::history::{Expect, Record, Shelf, Write};

/// The version of these records. A higher one was written by a newer program.
const VERSION: u32 = 2;

/// The version of a record without questions, which older programs can read.
const WITHOUT_QUESTIONS: u32 = 1;

/// The highest number of a job, offset in a log or version. What counts on from there does not
/// overflow.
pub(super) const HIGHEST: u64 = 1 << 62;

/// Bytes of a log per record, so that a new line is a small write.
const BLOCK: u64 = 4096;

/// The reason why a stored job cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The record is not what this program writes.
    #[error("the record of a job is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// A newer program wrote the record.
    #[error("the record of a job has version {0}, which is newer than this program")]
    Newer(u32),
    /// A number in the record is too high to count on from there.
    #[error("the record of a job has the number {0}; at most {HIGHEST} is possible")]
    Number(u64),
}

#[derive(Deserialize)]
struct JobVersion {
    record_version: u32,
}

#[derive(Serialize, Deserialize)]
struct JobRecord {
    record_version: u32,
    id: String,
    kind: String,
    title: String,
    key: Option<String>,
    is_done_here: bool,
    state: JobState,
    attempt: u32,
    last_attempt: u32,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    newest_report: Option<Report>,
    percent: Option<f64>,
    estimate_seconds: Option<f64>,
    result: Option<Box<RawValue>>,
    link: Option<String>,
    problem: Option<Box<RawValue>>,
    log_start: u64,
    log_end: u64,
    version: u64,
    not_before: Option<Timestamp>,
    lease: Option<String>,
    was_handed_back: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    questions: Vec<Asked>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_unheard: bool,
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    waited: Duration,
}

/// Returns the records that a change of a job writes, if the job is still as `before`, which is
/// `None` for a new job.
///
/// # Errors
/// If the job cannot be written as JSON. An empty record instead would lose the job at the next
/// start.
pub(super) fn changed(
    before: Option<&Job>,
    after: &Job,
    now: Now,
) -> Result<Vec<Write>, serde_json::Error> {
    let value = serde_json::to_vec(&JobRecord::of(after, now))?;
    let expect = before.map_or(Expect::Absent, |it| Expect::At(it.revision));
    let job = record(Shelf::Jobs, key(after.number), Some(value));
    let mut records = vec![Write { expect, ..job }];
    if before.is_none()
        && let Some(payload) = &after.payload
    {
        let payload = payload.get().as_bytes().to_vec();
        records.push(record(Shelf::JobPayloads, key(after.number), Some(payload)));
    }
    let (start, end) = before.map_or((0, 0), |it| (it.log.start(), it.log.end()));
    for block in start / BLOCK..after.log.start() / BLOCK {
        records.push(record(Shelf::JobLogs, block_key(after.number, block), None));
    }
    if end < after.log.end() {
        let first = end.max(after.log.start()) / BLOCK;
        for block in first..=(after.log.end() - 1) / BLOCK {
            let offset = (block * BLOCK).max(after.log.start());
            let length = usize::try_from((block + 1) * BLOCK - offset).unwrap_or_default();
            let mut value = offset.to_be_bytes().to_vec();
            value.append(&mut after.log.read(offset, length));
            records.push(record(Shelf::JobLogs, block_key(after.number, block), Some(value)));
        }
    }
    Ok(records)
}

/// Returns the value of a job's record, if it can be written.
pub(super) fn value(job: &Job, now: Now) -> Option<Box<[u8]>> {
    serde_json::to_vec(&JobRecord::of(job, now)).ok().map(Into::into)
}

/// Returns the records that remove a job, if it is still as given, and leave a tombstone.
pub(super) fn forgotten(job: &Job) -> Vec<Write> {
    let mut records = vec![
        Write { expect: Expect::At(job.revision), ..record(Shelf::Jobs, key(job.number), None) },
        record(Shelf::JobPayloads, key(job.number), None),
        record(Shelf::JobTombstones, key(job.number), Some(job.id.clone().into_bytes())),
    ];
    for block in job.log.start() / BLOCK..=job.log.end() / BLOCK {
        records.push(record(Shelf::JobLogs, block_key(job.number, block), None));
    }
    records
}

/// Returns the record that removes a job's tombstone.
pub(super) fn tombstone_gone(number: u64) -> Write {
    record(Shelf::JobTombstones, key(number), None)
}

/// Returns the job number in a key.
///
/// # Errors
/// If the number is too high to count on from there.
pub(super) fn number(key: &[u8]) -> Result<u64, Unreadable> {
    within(key.first_chunk().map_or(0, |it| u64::from_be_bytes(*it)))
}

fn within(number: u64) -> Result<u64, Unreadable> {
    if number <= HIGHEST { Ok(number) } else { Err(Unreadable::Number(number)) }
}

/// Returns a job as other records of it say, which may lack what did not change since `known`. Its
/// lease begins now.
pub(super) fn followed(
    known: &Job,
    kept: &Record,
    log: &[Record],
    options: &JobOptions,
    now: Now,
) -> Result<Job, Unreadable> {
    // The blocks replace the log from their first offset on.
    let first = log.iter().filter_map(|it| it.value.as_deref()?.first_chunk()).next();
    let first = first.map_or(u64::MAX, |it| u64::from_be_bytes(*it));
    let unchanged = usize::try_from(first.saturating_sub(known.log.start())).unwrap_or(usize::MAX);
    let mut value = known.log.start().to_be_bytes().to_vec();
    value.append(&mut known.log.read(known.log.start(), unchanged));
    let unchanged =
        Record { shelf: Shelf::JobLogs, key: Box::default(), value: Some(value.into()) };
    let log: Vec<Record> = std::iter::once(unchanged).chain(log.iter().cloned()).collect();
    let mut job = restore(kept, None, &log, options, now)?;
    job.payload.clone_from(&known.payload);
    Ok(job)
}

/// Restores a job. A running job gets a full new lease, because its worker could not report
/// meanwhile.
pub(super) fn restore(
    kept: &Record,
    payload: Option<&Record>,
    log: &[Record],
    options: &JobOptions,
    now: Now,
) -> Result<Job, Unreadable> {
    let kept_value = kept.value.as_deref().unwrap_or_default();
    let it: JobRecord = serde_json::from_slice(kept_value).map_err(|error| {
        // A newer program may have added a state, so that only the version can be read.
        let version =
            serde_json::from_slice(kept_value).map(|JobVersion { record_version }| record_version);
        version
            .ok()
            .filter(|it| VERSION < *it)
            .map_or(Unreadable::Damaged(error), Unreadable::Newer)
    })?;
    if VERSION < it.record_version {
        return Err(Unreadable::Newer(it.record_version));
    }
    let number = number(&kept.key)?;
    within(it.log_start.max(it.log_end).max(it.version))?;
    let payload = payload.and_then(|it| it.value.as_deref());
    let payload = payload.map(serde_json::from_slice::<Box<RawValue>>).transpose()?;
    let rules = options.rules(&it.kind);
    let new =
        NewJob { kind: it.kind, title: it.title, payload: payload.map(Into::into), key: it.key };
    let mut job = Job::new(it.id, number, new, rules, options.log_bytes, now);
    job.is_done_here = it.is_done_here;
    job.state = it.state;
    (job.attempt, job.last_attempt) = (it.attempt, it.last_attempt);
    (job.created_at, job.started_at, job.ended_at) = (it.created_at, it.started_at, it.ended_at);
    job.progress = Progress::kept(it.newest_report, it.percent, it.estimate_seconds);
    job.outcome = match (it.result, it.link, it.problem) {
        (Some(result), _, _) => Some(Outcome::Inline(result.into())),
        (_, Some(link), _) => Some(Outcome::Link(link)),
        (_, _, Some(problem)) => Some(Outcome::Problem(problem.into())),
        (None, None, None) => None,
    };
    job.log = JobLog::kept(options.log_bytes, it.log_start, &joined(log, it.log_start, it.log_end));
    job.version = it.version;
    job.was_handed_back = it.was_handed_back;
    let ends = it.questions.last().filter(|_| it.state == JobState::Waiting).map(|it| it.until);
    job.question_ends = ends.map(|it| now.instant + elapsed(now.time, it).min(rules.ask_time));
    job.questions = it.questions.into_iter().map(Into::into).collect();
    (job.is_unheard, job.waited) = (it.is_unheard, it.waited);
    job.not_before = it.not_before.map(|time| now.instant + wait(time, now, &rules));
    job.lease = it.lease.map(|token| Lease { token, expires: now.instant + rules.lease });
    // Measured by the time of day. A clock that was set back makes them shorter, never negative.
    let passed =
        |from: Option<Timestamp>, to| from.map_or(Duration::ZERO, |from| elapsed(from, to));
    job.began = job.started_at.map(|_| now.instant);
    job.ended = job.ended_at.map(|_| now.instant);
    job.passed = Passed {
        run: passed(job.started_at, job.ended_at.unwrap_or(now.time)),
        since_end: passed(job.ended_at, now.time),
    };
    Ok(job)
}

/// Returns the rest of a back-off, at most `max_backoff` even if the clock was set back.
fn wait(until: Timestamp, now: Now, rules: &Rules) -> Duration {
    elapsed(now.time, until).min(rules.max_backoff)
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Returns the bytes of a log from `start` to `end`, joined from its blocks.
fn joined(blocks: &[Record], start: u64, end: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in blocks.iter().filter_map(|it| it.value.as_deref()) {
        let Some((offset, block)) = value.split_first_chunk() else { continue };
        let offset = u64::from_be_bytes(*offset);
        let from = usize::try_from(start.saturating_sub(offset)).unwrap_or(usize::MAX);
        let to = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        bytes.extend_from_slice(block.get(from..block.len().min(to)).unwrap_or_default());
    }
    bytes
}

impl JobRecord {
    fn of(job: &Job, now: Now) -> Self {
        let (result, link, problem) = match &job.outcome {
            Some(Outcome::Inline(result)) => (Some((**result).to_owned()), None, None),
            Some(Outcome::Link(link)) => (None, Some(link.clone()), None),
            Some(Outcome::Problem(problem)) => (None, None, Some((**problem).to_owned())),
            None => (None, None, None),
        };
        let not_before = job.not_before.map(|it| {
            let wait = it.saturating_duration_since(now.instant);
            now.time.saturating_add(wait).unwrap_or(now.time)
        });
        Self {
            record_version: if job.questions.is_empty() { WITHOUT_QUESTIONS } else { VERSION },
            id: job.id.clone(),
            kind: job.kind.clone(),
            title: job.title.clone(),
            key: job.key.clone(),
            is_done_here: job.is_done_here,
            state: job.state,
            attempt: job.attempt,
            last_attempt: job.last_attempt,
            created_at: job.created_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            newest_report: job.progress.newest().cloned(),
            percent: job.progress.percent(),
            estimate_seconds: job.progress.estimate_seconds(),
            result,
            link,
            problem,
            log_start: job.log.start(),
            log_end: job.log.end(),
            version: job.version,
            not_before,
            lease: job.lease.as_ref().map(|it| it.token.clone()),
            was_handed_back: job.was_handed_back,
            questions: job.questions().cloned().collect(),
            is_unheard: job.is_unheard,
            waited: job.waited,
        }
    }
}

pub(super) fn key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn block_key(number: u64, block: u64) -> Vec<u8> {
    [number.to_be_bytes(), block.to_be_bytes()].concat()
}

pub(super) fn record(shelf: Shelf, key: Vec<u8>, value: Option<Vec<u8>>) -> Write {
    let record = Record { shelf, key: key.into(), value: value.map(Into::into) };
    Write { record, expect: Expect::Any }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::history::Shelf;

    fn now() -> Now {
        Now { instant: std::time::Instant::now(), time: Timestamp::now() }
    }

    /// The records that a history would hold after these writes.
    #[derive(Default)]
    struct Kept(std::collections::BTreeMap<(u8, Box<[u8]>), Record>);

    impl Kept {
        fn write(&mut self, records: Vec<Write>) {
            for Write { record, .. } in records {
                let key = (record.shelf as u8, record.key.clone());
                match &record.value {
                    Some(_) => self.0.insert(key, record),
                    None => self.0.remove(&key),
                };
            }
        }

        fn on(&self, shelf: Shelf) -> Vec<Record> {
            self.0.values().filter(|it| it.shelf == shelf).cloned().collect()
        }

        fn restore(&self, options: &JobOptions, now: Now) -> Job {
            let (jobs, payloads) = (self.on(Shelf::Jobs), self.on(Shelf::JobPayloads));
            restore(&jobs[0], payloads.first(), &self.on(Shelf::JobLogs), options, now)
                .expect("readable")
        }
    }

    fn options(log_bytes: usize) -> JobOptions {
        JobOptions { log_bytes, ..JobOptions::with_lease(Duration::from_secs(60)) }
    }

    fn new_job(options: &JobOptions) -> Job {
        let payload = RawValue::from_string("{\"a\": 1}".to_owned()).expect("JSON");
        let new = NewJob {
            kind: "k".to_owned(),
            title: "T".to_owned(),
            payload: Some(payload.into()),
            key: Some("key".to_owned()),
        };
        Job::new("id".to_owned(), 7, new, options.rules("k"), options.log_bytes, now())
    }

    #[test]
    fn a_job_comes_back_as_it_was_and_its_lease_begins_anew() {
        let options = options(256 << 10);
        let mut kept = Kept::default();
        let mut job = new_job(&options);
        kept.write(changed(None, &job, now()).expect("writable"));
        let created = job.clone();
        let _ = job.claim("lease".to_owned(), now()).expect("claimed");
        let report = Report { seq: 3, done: 1.0, total: Some(4.0), ..Report::default() };
        let _ = job.report("lease", report, now()).expect("taken");
        kept.write(changed(Some(&created), &job, now()).expect("writable"));
        let later = Now { instant: now().instant + Duration::from_secs(3600), ..now() };
        let restored = kept.restore(&options, later);
        let lease = restored.lease.as_ref().expect("it runs");
        assert_eq!((&*lease.token, lease.expires), ("lease", later.instant + options.rules.lease));
        assert_eq!(restored.state, JobState::Running);
        assert_eq!(restored.progress, job.progress);
        assert_eq!(restored.payload.as_ref().map(|it| it.get()), Some("{\"a\": 1}"));
        assert_eq!((restored.version, restored.number), (job.version, 7));
        let mut restored = restored;
        let result = RawValue::from_string("[1]".to_owned()).expect("JSON");
        let done = Outcome::Inline(result.into());
        let _ = restored.complete("lease", done.clone(), later).expect("its lease is good");
        kept.write(changed(Some(&job), &restored, later).expect("writable"));
        let mut again = kept.restore(&options, later);
        assert_eq!(again.outcome, Some(done.clone()));
        let repeated = again.complete("lease", done, later).expect("the same end again");
        assert_eq!(repeated, crate::jobs::Change::Nothing);
        kept.write(forgotten(&again));
        assert_eq!(kept.0.len(), 1, "only that it was there");
    }

    #[test]
    fn time_that_has_passed_counts_even_if_the_machine_has_started_anew() {
        let options = options(256 << 10);
        let mut kept = Kept::default();
        let mut job = new_job(&options);
        let ended = Timestamp::now() - Duration::from_secs(3000 * 24 * 3600);
        let _ = job.cancel(Now { time: ended, ..now() }).expect("cancelled");
        kept.write(changed(None, &job, now()).expect("writable"));
        let now = now();
        let restored = kept.restore(&options, now);
        assert_eq!(restored.ended_for(Duration::from_secs(3600)), Some(now.instant));
    }

    #[test]
    fn numbers_that_cannot_be_counted_on_from_are_refused() {
        let options = options(256 << 10);
        let mut kept = Kept::default();
        kept.write(changed(None, &new_job(&options), now()).expect("writable"));
        let good = kept.on(Shelf::Jobs).remove(0);
        let restored = |kept: &Record| restore(kept, None, &[], &options, now());
        assert!(restored(&good).is_ok());
        let outcome = restored(&Record { key: [255; 8].into(), ..good.clone() });
        assert!(matches!(outcome, Err(Unreadable::Number(u64::MAX))), "{outcome:?}");
        let value = String::from_utf8(good.value.clone().expect("a value").into()).expect("JSON");
        for field in ["log_start", "log_end", "version"] {
            let (before, behind) = value.split_once(&format!("\"{field}\":")).expect("a field");
            let behind = behind.trim_start_matches(|it: char| it.is_ascii_digit());
            let value = format!("{before}\"{field}\":{}{behind}", u64::MAX);
            let outcome =
                restored(&Record { value: Some(value.into_bytes().into()), ..good.clone() });
            assert!(matches!(outcome, Err(Unreadable::Number(u64::MAX))), "{field}: {outcome:?}");
        }
    }

    #[test]
    fn a_record_of_a_newer_program_is_named_so_even_with_an_unknown_state() {
        let options = options(256 << 10);
        let mut kept = Kept::default();
        kept.write(changed(None, &new_job(&options), now()).expect("writable"));
        let good = kept.on(Shelf::Jobs).remove(0);
        let value = String::from_utf8(good.value.clone().expect("a value").into()).expect("JSON");
        let value = value.replace("\"record_version\":1", "\"record_version\":3");
        let value = value.replace("\"queued\"", "\"unheard_of\"");
        let newer = Record { value: Some(value.into_bytes().into()), ..good };
        let outcome = restore(&newer, None, &[], &options, now());
        assert!(matches!(outcome, Err(Unreadable::Newer(3))), "{outcome:?}");
    }

    #[test]
    fn a_job_may_have_any_number_of_attempts() {
        let mut options = options(256 << 10);
        options.rules.max_attempts = u32::MAX;
        let mut job = new_job(&options);
        let _ = job.claim("lease".to_owned(), now()).expect("claimed");
        let _ = job.cancel(now()).expect("it runs");
        let _ = job.give_back("lease", now()).expect("its lease is good");
        let _ = job.retry().expect("it was cancelled");
        assert_eq!((job.attempt, job.last_attempt), (1, u32::MAX));
    }

    proptest! {
        #[test]
        fn logs_come_back_whatever_their_lines(
            lines in prop::collection::vec(0..5000_usize, 1..20), log_bytes in 1..20_000_usize,
        ) {
            let options = options(log_bytes);
            let mut kept = Kept::default();
            let mut job = new_job(&options);
            kept.write(changed(None, &job, now()).expect("writable"));
            let _ = job.claim("lease".to_owned(), now()).expect("claimed");
            for (at, length) in lines.into_iter().enumerate() {
                let before = job.clone();
                let text = char::from(b'a' + u8::try_from(at).expect("few")).to_string().repeat(length);
                let _ = job.append_log("lease", job.log.end(), &text, now()).expect("it fits");
                kept.write(changed(Some(&before), &job, now()).expect("writable"));
                let restored = kept.restore(&options, now());
                prop_assert_eq!(restored.log.start(), job.log.start());
                prop_assert_eq!(restored.log.end(), job.log.end());
                prop_assert_eq!(restored.log.read(0, usize::MAX), job.log.read(0, usize::MAX));
                let most = u64::try_from(log_bytes).expect("few") / BLOCK + 2;
                prop_assert!(kept.on(Shelf::JobLogs).len() as u64 <= most, "old blocks are taken away");
            }
            kept.write(forgotten(&job));
            prop_assert_eq!(kept.0.len(), 1);
        }
    }
}

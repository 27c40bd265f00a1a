//! Counters of the tracker, by job type.

use std::{collections::BTreeMap, time::Duration};

use tracing::info;

use super::{Job, JobState, Now, Tracker, redact::Redacted, tracker::lock};

impl Tracker {
    /// Updates the counters after an attempt, and reports a job that has ended or asks a question.
    pub(super) fn note_turn(&self, before: &Job, after: &Job, now: Now) {
        let was_running = before.state.has_worker();
        let is_lost = after.state == JobState::Lost
            || (was_running && after.state == JobState::Queued && after.not_before.is_some());
        let kind = after.kind.clone();
        if was_running
            && is_lost
            && before.lease.as_ref().is_some_and(|it| it.expires <= now.instant)
        {
            let mut lost_leases = lock(&self.0.lost_leases);
            let label = label(&lost_leases, &kind);
            *lost_leases.entry(label).or_default() += 1;
            drop(lost_leases);
            let job = Redacted(&after.id);
            info!(%job, kind, attempt = before.attempt, "a worker has fallen silent");
        }
        if after.state.is_final() {
            self.0.on_end.ended(after, now.time);
        } else if after.open_question().is_some() && before.open_question().is_none() {
            self.0.on_end.asked(after, now.time);
        }
        if after.state.is_final()
            && let Some(time) = after.run_time(now.instant)
        {
            let mut run_times = lock(&self.0.run_times);
            let label = label(&run_times, &kind);
            let (seconds, count) = run_times.entry(label).or_default();
            *seconds += time.as_secs_f64();
            *count += 1;
        }
    }

    /// Returns the number of jobs by type and state.
    pub fn counts(&self) -> BTreeMap<(String, JobState), u64> {
        self.table().counts().clone()
    }

    /// Returns the age of the oldest claimable job of each type.
    pub fn oldest_queued(&self) -> Vec<(String, Duration)> {
        let now = self.now().time;
        let age = |created| Duration::try_from(now.duration_since(created)).unwrap_or_default();
        let table = self.table();
        let oldest = table.oldest_claimable();
        oldest.map(|(kind, cell)| (kind.clone(), age(cell.created_at))).collect()
    }

    /// Returns the age of the oldest open question of each type.
    pub fn oldest_questions(&self) -> BTreeMap<String, Duration> {
        let now = self.now().time;
        let mut oldest = BTreeMap::new();
        for (kind, asked_at) in self.table().waiting() {
            let age = Duration::try_from(now.duration_since(*asked_at)).unwrap_or_default();
            let longest: &mut Duration = oldest.entry(kind.clone()).or_default();
            *longest = age.max(*longest);
        }
        oldest
    }

    /// Returns the number of leases that expired without a report, by type.
    pub fn lost_leases(&self) -> BTreeMap<String, u64> {
        lock(&self.0.lost_leases).clone()
    }

    /// Returns the total run time in seconds and the number of ended jobs, by type.
    pub fn run_times(&self) -> BTreeMap<String, (f64, u64)> {
        lock(&self.0.run_times).clone()
    }
}

/// Returns the label that counts a type: its own name, or `other` after the first 100 types.
fn label<T>(counted: &BTreeMap<String, T>, kind: &str) -> String {
    const MOST: usize = 100;
    let is_own = counted.len() < MOST || counted.contains_key(kind);
    if is_own { kind } else { "other" }.to_owned()
}

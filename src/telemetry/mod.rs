//! Logging and metrics.

pub(crate) mod metrics;

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    io::{self, IsTerminal as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::settings::{LogFormat, LogSettings};

/// Sends log lines of the whole process to standard error from now on.
///
/// ```
/// use tidegate::{settings::LogSettings, telemetry};
///
/// # fn main() -> Result<(), tracing_subscriber::filter::ParseError> {
/// let filter = "info,tidegate=debug".to_owned();
/// telemetry::start(&LogSettings { filter, ..LogSettings::default() })?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If the filter is malformed, which checked settings never are.
pub fn start(settings: &LogSettings) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(&settings.filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second call, as in tests with several gateways, keeps the first subscriber.
    let _ = match settings.format {
        LogFormat::Text => {
            lines.with_target(false).with_ansi(io::stderr().is_terminal()).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Limits how many lines of one kind are logged per second.
#[derive(Debug)]
pub(crate) struct LinePace {
    lines_per_second: u32,
    second: Mutex<Second>,
}

/// What was logged since `began`.
#[derive(Debug)]
struct Second {
    began: Instant,
    n_lines: u32,
    n_left_out: u64,
}

/// Whether a line may be logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It may. This many lines of the previous second were omitted.
    Write(u64),
    /// The limit of this second has been reached.
    LeaveOut,
}

impl LinePace {
    /// Allows at most this many lines per second.
    pub(crate) fn new(lines_per_second: u32) -> Self {
        let second = Second { began: Instant::now(), n_lines: 0, n_left_out: 0 };
        Self { lines_per_second, second: Mutex::new(second) }
    }

    /// Requests a line at `now`.
    pub(crate) fn ask(&self, now: Instant) -> Line {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        let mut n_left_out = 0;
        if Duration::from_secs(1) <= now.saturating_duration_since(second.began) {
            n_left_out = second.n_left_out;
            *second = Second { began: now, n_lines: 0, n_left_out: 0 };
        }
        if self.lines_per_second <= second.n_lines {
            second.n_left_out += 1;
            return Line::LeaveOut;
        }
        second.n_lines += 1;
        Line::Write(n_left_out)
    }
}

/// The values that have been logged, so that each is logged once. Bounded, because clients choose
/// them.
#[derive(Debug)]
pub(crate) struct Sightings {
    limit: usize,
    hasher: RandomState,
    /// Hashes of the values.
    seen: Mutex<HashSet<u64>>,
}

/// Whether a value was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// It is new.
    New,
    /// It is new, and the last one that is remembered.
    Last,
    /// It was seen before, or came after the last one.
    Known,
}

impl Sightings {
    /// Remembers at most this many values.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, hasher: RandomState::new(), seen: Mutex::default() }
    }

    /// Remembers a value.
    pub(crate) fn see(&self, value: &str) -> Sighting {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.limit <= seen.len() || !seen.insert(self.hasher.hash_one(value)) {
            return Sighting::Known;
        }
        if seen.len() == self.limit { Sighting::Last } else { Sighting::New }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_seen_once_and_their_number_is_bounded() {
        let sightings = Sightings::new(2);
        assert_eq!((sightings.see("a"), sightings.see("a")), (Sighting::New, Sighting::Known));
        assert_eq!((sightings.see("b"), sightings.see("b")), (Sighting::Last, Sighting::Known));
        for n in 0..1000 {
            assert_eq!(sightings.see(&n.to_string()), Sighting::Known);
        }
        assert_eq!(sightings.seen.lock().expect("no panic").len(), 2);
    }

    #[test]
    fn a_flood_of_lines_is_counted_and_not_written() {
        let pace = LinePace::new(2);
        let start = Instant::now();
        assert_eq!(pace.ask(start), Line::Write(0));
        assert_eq!(pace.ask(start), Line::Write(0));
        assert_eq!((pace.ask(start), pace.ask(start)), (Line::LeaveOut, Line::LeaveOut));
        let later = start + Duration::from_secs(2);
        assert_eq!((pace.ask(later), pace.ask(later)), (Line::Write(2), Line::Write(0)));
    }
}

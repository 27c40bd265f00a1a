//! Logs.

use std::{
    io::{self, IsTerminal as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::settings::{LogFormat, LogSettings};

/// Sends log lines to standard error from now on, for the whole process.
///
/// # Errors
/// If the filter is not valid, which checked settings never are.
pub fn start(settings: &LogSettings) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(&settings.filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second call, as in tests that embed several gateways, keeps the first one's subscriber.
    let _ = match settings.format {
        LogFormat::Text => {
            lines.with_target(false).with_ansi(io::stderr().is_terminal()).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Bounds the lines of one kind that are logged in a second.
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
    /// It may; this many lines of the second before were left out.
    Write(u64),
    /// There were enough in this second.
    LeaveOut,
}

impl LinePace {
    /// At most this many lines a second.
    pub(crate) fn new(lines_per_second: u32) -> Self {
        let second = Second { began: Instant::now(), n_lines: 0, n_left_out: 0 };
        Self { lines_per_second, second: Mutex::new(second) }
    }

    /// Asks for a line now.
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

#[cfg(test)]
mod tests {
    use super::*;

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

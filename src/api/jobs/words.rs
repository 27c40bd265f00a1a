//! A job in words. `static/job.js` takes the words of states from here, and has the others too, so
//! that a page reads the same with and without scripts.

use std::time::Duration;

use jiff::Timestamp;
use tidegate_core::jobs::{Job, JobState, Place};

/// Describes a state. For a queued job, says whether it was tried before.
pub(super) fn state(state: JobState, attempt: u32) -> &'static str {
    match state {
        JobState::Queued if attempt == 0 => "Waiting for a worker",
        JobState::Queued => "Waiting for another attempt",
        JobState::Running => "Running",
        JobState::Waiting => "Waiting for an answer",
        JobState::Cancelling => "Being cancelled",
        JobState::Succeeded => "Done",
        JobState::Failed => "Failed",
        JobState::Cancelled => "Cancelled",
        JobState::Lost => "Lost: its worker fell silent",
    }
}

/// Describes the place of a job in the queue. `static/job.js` says the same.
pub(super) fn place(place: Place) -> String {
    let ahead = match place.ahead {
        0 => "It is the next one.".to_owned(),
        1 => "1 job is ahead of it.".to_owned(),
        ahead => format!("{ahead} jobs are ahead of it."),
    };
    let worker = if place.has_worker { "" } else { " No worker is there at the moment." };
    ahead + worker
}

/// Describes all states for the scripts, as a JSON object by name: the words before and after the
/// first attempt, and whether the job has ended or may be cancelled.
pub(super) fn states() -> String {
    let describe = |it: JobState| {
        let described = serde_json::json!({
            "words": [state(it, 0), state(it, 1)],
            "is_final": it.is_final(),
            "is_cancellable": is_cancellable(it),
        });
        (it.as_str().to_owned(), described)
    };
    serde_json::Value::from_iter(JobState::ALL.map(describe)).to_string()
}

/// Returns whole percents, rounded down, if the progress is known. A job that succeeded has 100.
pub(super) fn percent(job: &Job) -> Option<u8> {
    if job.state == JobState::Succeeded {
        return Some(100);
    }
    let percent = job.progress.percent()?.clamp(0.0, 100.0);
    (0..=100_u8).rev().find(|it| f64::from(*it) <= percent)
}

/// Returns the time from `from` to `to`, or zero if `to` is earlier.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Formats a duration in its two largest units.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {:02} s", seconds % 60),
        3600..86_400 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    }
}

/// Formats an estimate, rounded because an estimate is not exact.
pub(super) fn estimate(seconds: f64) -> String {
    let about = |count: f64, unit: &str| {
        format!("about {count} {unit}{} left", if count == 1.0 { "" } else { "s" })
    };
    match seconds {
        seconds if seconds < 10.0 => "a few seconds left".to_owned(),
        seconds if seconds < 55.0 => about((seconds / 10.0).round() * 10.0, "second"),
        seconds if seconds < 3570.0 => about((seconds / 60.0).round(), "minute"),
        seconds if seconds < 84_600.0 => about((seconds / 3600.0).round(), "hour"),
        seconds => about((seconds / 86_400.0).round(), "day"),
    }
}

/// Returns the icon of a page, which shows the state or the progress. `static/job.js` chooses the
/// same one.
pub(super) fn icon(job: &Job) -> String {
    match (job.state, percent(job)) {
        (JobState::Waiting, _) => "icon-waiting.svg".to_owned(),
        (JobState::Running | JobState::Cancelling, Some(percent)) => {
            format!("icon-{}.svg", percent / 5 * 5)
        }
        (JobState::Succeeded, _) => "icon-100.svg".to_owned(),
        _ => "icon.svg".to_owned(),
    }
}

/// Returns text without the escape sequences of terminals (ECMA-48) and other control characters.
pub(super) fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(it) = rest.next() {
        match it {
            '\n' | '\t' => plain.push(it),
            '\x1b' => match rest.next_if(|it| !it.is_control()) {
                Some('[') => {
                    while rest.next_if(|it| (' '..='?').contains(it)).is_some() {}
                    let _ = rest.next_if(|it| ('@'..='~').contains(it));
                }
                // Strings, such as titles and links, up to their end.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while rest.next_if(|it| !['\x07', '\x1b', '\n'].contains(it)).is_some() {}
                    if rest.next_if_eq(&'\x1b').is_some() {
                        let _ = rest.next_if_eq(&'\\');
                    }
                }
                _ => {}
            },
            it if it.is_control() => {}
            it => plain.push(it),
        }
    }
    plain
}

/// Returns a title as the name of a file.
pub(super) fn file_name(title: &str, extension: &str) -> String {
    const LONGEST: usize = 60;
    let letter = |it: char| if it.is_alphanumeric() { it } else { '-' };
    let name: String = title.chars().take(LONGEST).map(letter).collect();
    let name = name.trim_matches('-');
    format!("{}.{extension}", if name.is_empty() { "job" } else { name })
}

pub(super) fn is_cancellable(state: JobState) -> bool {
    matches!(state, JobState::Queued | JobState::Running | JobState::Waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_style_and_is_told_to_the_scripts() {
        let states: serde_json::Value = serde_json::from_str(&states()).expect("JSON");
        for state in JobState::ALL.map(JobState::as_str) {
            let style = format!("[data-state=\"{state}\"] #state");
            assert!(include_str!("../../../static/job.css").contains(&style), "{state}");
            assert!(states[state]["words"][1].is_string(), "{state}");
        }
        assert_eq!(states["lost"]["is_final"], true);
    }

    #[test]
    fn logs_without_scripts_have_no_escape_sequences_whatever_they_hold() {
        for (text, plain) in [
            ("\x1b[1;31mred\x1b[0m\n\tand", "red\n\tand"),
            ("\x1b]0;a title\x07x\x1b]8;;https://evil.test\x1b\\y", "xy"),
            ("a\x1b[2J\x1b[Hb\x1b(Bc\x1bMd\r\x08e", "abBcde"),
            ("\x1b[", ""),
            ("\x1b", ""),
            ("\x1b[12", ""),
            ("\x1b]unended\nnext", "\nnext"),
            ("\u{9b}31mx\x1b\x1b[1mäöü", "31mxäöü"),
        ] {
            assert_eq!(without_escapes(text), plain, "{text:?}");
        }
    }

    #[test]
    fn files_have_plain_names() {
        let name = |title: &str| file_name(title, "log");
        assert_eq!(name("Yearly report"), "Yearly-report.log");
        assert_eq!(name("../../etc/passwd"), "etc-passwd.log");
        assert_eq!(name("\"<b>\r\n"), "b.log");
        assert_eq!(name("?"), "job.log");
    }

    #[test]
    fn times_are_told_in_two_units_and_guesses_in_one() {
        let told = [59, 60, 3599, 3600, 86_399, 90_000].map(|it| duration(Duration::from_secs(it)));
        assert_eq!(
            told,
            ["59 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "23 h 59 min", "1 d 01 h"]
        );
        let told = [3.0, 14.0, 55.0, 119.0, 3570.0, 200_000.0].map(estimate);
        assert_eq!(
            told,
            [
                "a few seconds left",
                "about 10 seconds left",
                "about 1 minute left",
                "about 2 minutes left",
                "about 1 hour left",
                "about 2 days left"
            ]
        );
    }
}

//! Git's output while it clones: lines for the log, and the progress.

/// The stages of a clone, as git names them, and the part of the bar at which each begins. Most of
/// the time passes while objects arrive; earlier stages are often too short to be seen.
const STAGES: [(&str, f64); 6] = [
    ("Enumerating objects", 0.0),
    ("Counting objects", 0.0),
    ("Compressing objects", 3.0),
    ("Receiving objects", 6.0),
    ("Resolving deltas", 75.0),
    ("Updating files", 90.0),
];

/// The end of the bar.
pub(crate) const WHOLE: f64 = 100.0;

/// The limit of a line in bytes; longer lines are cut.
const LONGEST_LINE: usize = 1000;

/// Parses git's output.
#[derive(Debug, Default)]
pub(crate) struct Output {
    line: Vec<u8>,
    reached: f64,
}

/// The news in a piece of output.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Complete lines.
    pub(crate) lines: Vec<String>,
    /// The last step, if there was one.
    pub(crate) step: Option<Step>,
}

/// A step of git's progress.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    /// The part of [`WHOLE`] that is done; it never decreases.
    pub(crate) reached: f64,
    pub(crate) stage: &'static str,
    pub(crate) message: String,
}

impl Output {
    /// Parses the next piece. A line that ends with a carriage return is about to be overwritten,
    /// so it is a step and not for the log.
    pub(crate) fn take(&mut self, piece: &[u8]) -> News {
        let mut news = News::default();
        for byte in piece {
            if !matches!(byte, b'\r' | b'\n') {
                if self.line.len() < LONGEST_LINE {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = readable(&std::mem::take(&mut self.line));
            if let Some(step) = self.step(&line) {
                news.step = Some(step);
            }
            if *byte == b'\n' && !line.is_empty() {
                news.lines.push(line);
            }
        }
        news
    }

    fn step(&mut self, line: &str) -> Option<Step> {
        let (name, told) = line.strip_prefix("remote: ").unwrap_or(line).split_once(": ")?;
        let at = STAGES.iter().position(|(stage, _)| *stage == name)?;
        let (stage, begin) = STAGES[at];
        let end = STAGES.get(at + 1).map_or(WHOLE, |(_, begin)| *begin);
        let reached = begin + (end - begin) * share(told).unwrap_or_default();
        self.reached = self.reached.max(reached);
        Some(Step { reached: self.reached, stage, message: told.trim().to_owned() })
    }
}

/// Returns the share in ` 45% (450/1000), 1.20 MiB | 2.00 MiB/s`.
fn share(told: &str) -> Option<f64> {
    let (done, rest) = told.split_once('(')?.1.split_once('/')?;
    let (done, total): (f64, f64) = (done.parse().ok()?, rest.split_once(')')?.0.parse().ok()?);
    (0.0 < total).then(|| (done / total).clamp(0.0, 1.0))
}

/// Makes a line safe to show: a remote server may have written it, so control characters are
/// removed.
fn readable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let visible: String = text.chars().filter(|it| !it.is_control()).collect();
    visible.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_lines_are_told_apart_and_the_bar_never_goes_back() {
        let mut output = Output::default();
        let news = output.take(b"Cloning into '.'...\nremote: Counting objects:  50% (2/4)\rremo");
        assert_eq!(news.lines, ["Cloning into '.'..."]);
        let step = news.step.expect("a step");
        assert_eq!(
            (step.reached, step.stage, &*step.message),
            (1.5, "Counting objects", "50% (2/4)")
        );
        let news = output.take(b"te: x\x1b[K\nReceiving objects: 100% (9/9), 1.20 MiB, done.\n");
        assert_eq!(news.lines, ["remote: x[K", "Receiving objects: 100% (9/9), 1.20 MiB, done."]);
        assert_eq!(news.step.map(|it| it.reached), Some(75.0));
        let back = output.take(b"Receiving objects:   0% (0/9)\r").step.expect("a step");
        assert_eq!(back.reached, 75.0);
        assert_eq!(output.take(b"Updating files: 100% (7/0)\rUpdating: (1/2)\r").step, None);
    }
}

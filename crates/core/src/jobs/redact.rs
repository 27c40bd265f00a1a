//! Job ids in logs: an id is the permission to see its job, so a log shows only the beginning of
//! one.

use std::{borrow::Cow, fmt};

/// Characters of an id that a log shows: enough to find the job, while 92 of its 128 bits stay
/// unknown.
const SHOWN: usize = 6;

/// A job id as logs show it.
#[derive(Debug, Clone, Copy)]
pub struct Redacted<'a>(pub &'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0;
        match id.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{}…", &id[..end]),
            None => f.write_str(id),
        }
    }
}

/// Redacts every id after `/jobs/` in `text`. Text too short for an id stays.
pub fn redact_paths(text: &str) -> Cow<'_, str> {
    const FOLDER: &str = "/jobs/";
    let mut redacted = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(FOLDER) {
        let (before, behind) = rest.split_at(at + FOLDER.len());
        let is_of_id = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '%');
        let end = behind.find(|it| !is_of_id(it)).unwrap_or(behind.len());
        let (id, behind) = behind.split_at(end);
        redacted.push_str(before);
        match id {
            "claim" => redacted.push_str(id),
            _ => redacted.push_str(&Redacted(id).to_string()),
        }
        rest = behind;
    }
    if redacted.is_empty() {
        return Cow::Borrowed(text);
    }
    redacted.push_str(rest);
    Cow::Owned(redacted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_jobs_are_cut_wherever_they_stand() {
        for (text, expected) in [
            ("/events", "/events"),
            ("/jobs", "/jobs"),
            ("/jobs/claim", "/jobs/claim"),
            ("/jobs/abcdefghijklmnopqrstuv", "/jobs/abcdef…"),
            ("/base/jobs/abcdefghij-_lmnopqrstuv/log", "/base/jobs/abcdef…/log"),
            (
                "not on `/jobs/abcdefghijkl`, nor /jobs/bcdefghijklm",
                "not on `/jobs/abcdef…`, nor /jobs/bcdefg…",
            ),
            ("/jobs/{id}", "/jobs/{id}"),
            ("/jobs/é", "/jobs/é"),
        ] {
            assert_eq!(redact_paths(text), expected);
        }
    }
}

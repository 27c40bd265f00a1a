//! Where a setting is written: the line of the file, the variable or the command line. Only
//! messages need it.

use std::path::PathBuf;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The keys that are set, and where.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The file and its text.
    pub(super) file: Option<(PathBuf, String)>,
    /// Keys set by the environment, with the names of their variables.
    pub(super) variables: Vec<(String, String)>,
    /// Keys set by flags.
    pub(super) flags: Vec<&'static str>,
}

impl Places {
    /// Returns where the value of `key` is written. `key` may have indexes: `auth.issuers[0].name`.
    pub(super) fn of(&self, key: &str) -> Option<String> {
        let is_part = |it: &str| key == it || key.strip_prefix(it).is_some_and(is_deeper);
        if self.flags.iter().any(|it| is_part(it)) {
            return Some("the command line".to_owned());
        }
        if let Some((_, name)) = self.variables.iter().find(|(it, _)| is_part(it)) {
            return Some(format!("the variable {name}"));
        }
        let (file, text) = self.file.as_ref()?;
        Some(format!("{}, line {}", file.display(), line_of_key(text, key)?))
    }

    /// Returns the keys that a sentence names, each with its place.
    pub(super) fn named_in(&self, sentence: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.variables.iter().map(|(key, _)| key.clone()).collect();
        keys.extend(self.flags.iter().map(|it| (*it).to_owned()));
        if let Some((_, text)) = &self.file
            && let Ok(document) = DeTable::parse(text)
        {
            collect_keys(document.get_ref(), "", &mut keys);
        }
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|it| has_word(sentence, it));
        keys.iter().filter_map(|key| Some(format!("{key}: {}", self.of(key)?))).collect()
    }
}

/// Returns the line of an offset in a text, from 1.
pub(super) fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|it| *it == b'\n').count()
}

/// Splits a key into names and indexes.
pub(super) fn segments(key: &str) -> impl DoubleEndedIterator<Item = &str> {
    key.split(['.', '[', ']']).filter(|it| !it.is_empty())
}

/// Whether what follows a key names a part of it.
fn is_deeper(rest: &str) -> bool {
    rest.starts_with(['.', '['])
}

/// Returns the line of a key, or of the innermost table around it.
fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut found: Option<(usize, &DeValue<'_>)> = None;
    for segment in segments(key) {
        let next = match found {
            None => entry(document.get_ref(), segment),
            Some((_, DeValue::Table(table))) => entry(table, segment),
            Some((_, DeValue::Array(array))) => {
                let element = segment.parse().ok().and_then(|at: usize| array.get(at));
                element.map(|it| (it.span().start, it.get_ref()))
            }
            Some(_) => None,
        };
        let Some(next) = next else { break };
        found = Some(next);
    }
    found.map(|(offset, _)| line(text, offset))
}

fn entry<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<(usize, &'a DeValue<'i>)> {
    let (key, value) = table.iter().find(|(key, _)| &**key.get_ref() == name)?;
    Some((Spanned::span(key).start, value.get_ref()))
}

fn collect_keys(table: &DeTable<'_>, prefix: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        let key = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(table) => collect_keys(table, &format!("{key}."), keys),
            _ => keys.push(key),
        }
    }
}

/// Whether a sentence has a key as a word of its own.
fn has_word(sentence: &str, key: &str) -> bool {
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '.';
    sentence.match_indices(key).any(|(at, _)| {
        let (before, after) = (&sentence[..at], &sentence[at + key.len()..]);
        let continues = |it: char| it.is_ascii_alphanumeric() || it == '_';
        !before.ends_with(is_part) && !after.starts_with(continues)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# first\n[server]\nlisten = 1\nhosts = [\n  'a',\n  'b',\n]\n\n\
                        [[auth.issuers]]\nname = 1\n\n[[auth.issuers]]\nname = 2\n";

    #[test]
    fn keys_have_lines() {
        for (key, expected) in [
            ("server", Some(2)),
            ("server.listen", Some(3)),
            ("server.hosts[1]", Some(6)),
            ("server.port", Some(2)),
            ("auth.issuers[0].name", Some(10)),
            ("auth.issuers[1]name", Some(13)),
            ("limits.matchers", None),
        ] {
            assert_eq!(line_of_key(TEXT, key), expected, "{key}");
        }
    }

    #[test]
    fn the_source_that_counts_is_named() {
        let places = Places {
            file: Some(("a.toml".into(), TEXT.to_owned())),
            variables: vec![("server.hosts".into(), "TIDEGATE_SERVER__HOSTS".into())],
            flags: vec!["server.listen"],
        };
        for (key, expected) in [
            ("server.listen", Some("the command line")),
            ("server.hosts[0]", Some("the variable TIDEGATE_SERVER__HOSTS")),
            ("auth.issuers[1].name", Some("a.toml, line 13")),
            ("limits.matchers", None),
        ] {
            assert_eq!(places.of(key).as_deref(), expected, "{key}");
        }
        let named = places.named_in("server.hosts and server.listen_more are wrong");
        assert_eq!(named, ["server.hosts: the variable TIDEGATE_SERVER__HOSTS"]);
    }
}

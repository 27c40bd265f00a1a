//! What is said of a wrong value: where it is written, its key, and what is allowed.

use config::{Config, ConfigError};

use super::{
    Settings, SettingsError,
    place::{Places, segments},
};

/// Describes why settings cannot be read. `merged` are the settings as they are.
pub(super) fn describe(
    error: &ConfigError,
    merged: Option<&Config>,
    places: &Places,
) -> SettingsError {
    let (key, what) = parts(error);
    // The library leaves this full stop out.
    let mut key = key.unwrap_or_default().replace(']', "].").replace("..", ".");
    key.truncate(key.trim_end_matches('.').len());
    let mut what = in_terms_of_toml(&one_line(&what));
    if let Some(name) = unknown_field(&what) {
        let sections = sections_with(name);
        key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
        if !sections.is_empty() {
            what += &format!("; did you mean {}?", sections.join(" or "));
        }
    } else if what.contains("does not have variant constructor")
        && let Some(allowed) = merged.and_then(|it| allowed(it, &key))
    {
        what = allowed;
    }
    let labels = places.of(&key).into_iter().chain((!key.is_empty()).then_some(key));
    let labels: String = labels.map(|it| it + ": ").collect();
    SettingsError::Invalid(format!("{labels}{what}"))
}

/// Adds where the settings are written that a contradiction names.
pub(super) fn with_places(error: SettingsError, places: &Places) -> SettingsError {
    let SettingsError::Invalid(sentence) = error else { return error };
    let named = places.named_in(&sentence);
    if named.is_empty() {
        return SettingsError::Invalid(sentence);
    }
    SettingsError::Invalid(format!("{sentence} ({})", named.join("; ")))
}

/// Joins the lines of a text.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the key and the words of an error.
fn parts(error: &ConfigError) -> (Option<String>, String) {
    match error {
        ConfigError::At { error, key, .. } => {
            let (inner, what) = parts(error);
            (key.clone().or(inner), what)
        }
        ConfigError::Type { unexpected, expected, key, .. } => {
            (key.clone(), format!("invalid type: {unexpected}, expected {expected}"))
        }
        other => (None, other.to_string()),
    }
}

/// Returns the settings of all sections that have this name.
fn sections_with(name: &str) -> Vec<String> {
    let Ok(all) = toml::Table::try_from(Settings::default()) else { return Vec::new() };
    let has_it = |section: &toml::Value| section.as_table().is_some_and(|it| it.contains_key(name));
    let sections = all.iter().filter(|(_, section)| has_it(section));
    sections.map(|(section, _)| format!("{section}.{name}")).collect()
}

/// Replaces the names of Rust types.
fn in_terms_of_toml(what: &str) -> String {
    if let Some((before, _)) = what.split_once(", expected struct ") {
        return format!("{before}, expected a table");
    }
    what.replace(", expected a sequence", ", expected a list")
}

/// Explains an unclosed string, which the library describes by the grammar's words.
pub(super) fn in_terms_of_quotes(what: &str) -> String {
    let Some((_, mark)) = what.split_once("string, expected ") else { return what.to_owned() };
    format!("the text that begins here does not end: a closing {mark} is missing ({what})")
}

/// Returns the unknown key that an error is about.
fn unknown_field(what: &str) -> Option<&str> {
    what.strip_prefix("unknown field `")?.split('`').next()
}

/// Returns serde's words for a value that an enum does not have: they list those that it has.
fn allowed(merged: &Config, key: &str) -> Option<String> {
    let value: toml::Value = merged.get(key).ok()?;
    let settings = segments(key).rev().fold(value, |inner, segment| {
        if segment.parse::<usize>().is_ok() {
            return vec![inner].into();
        }
        toml::Table::from_iter([(segment.to_owned(), inner)]).into()
    });
    settings.try_into::<Settings>().err().map(|error| one_line(error.message()))
}

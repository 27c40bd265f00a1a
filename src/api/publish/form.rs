//! An update as a form (Mercure draft-08, "Publication").

use tidegate_core::event::Draft;

use crate::http::{
    form::{self, Misspelled},
    problem::Problem,
};

/// Names of fields, each with names that no dialect and no known library uses. An update without
/// the field that is meant would be published, and be of no use.
const FIELDS: [Misspelled; 7] = [
    ("topic", &["topics", "Topic", "Topics", "TOPIC", "topic[]", "topics[]", "tpoic", "topik"]),
    ("data", &["dat", "Data", "DATA", "daat", "dta", "datas", "data[]"]),
    ("id", &["ID", "Id", "event_id", "eventid", "eventId"]),
    ("type", &["typ", "Type", "TYPE", "tpye", "event_type", "eventType"]),
    ("retry", &["Retry", "RETRY", "rety"]),
    ("private", &["Private", "PRIVATE", "privat", "privte", "is_private"]),
    ("except", &["Except", "EXCEPT", "exept", "excepts", "except[]"]),
];

/// Parses the fields of an update. Unknown fields are ignored, as the protocol demands.
///
/// # Errors
/// If a field is misspelled or given too often, or if the body is JSON.
pub(crate) fn parse(body: &[u8]) -> Result<Draft, Problem> {
    let mut draft = Draft::default();
    let (mut data, mut retry) = (None, None);
    for pair in form::pairs(body) {
        let (name, value) = pair?;
        match name.as_str() {
            "topic" => draft.topics.push(value),
            "except" => draft.except.push(value),
            // With any value: the protocol checks only the presence.
            "private" => draft.private = true,
            "data" => set(&mut data, &name, value)?,
            "id" => set(&mut draft.id, &name, value)?,
            "type" => set(&mut draft.kind, &name, value)?,
            "retry" => set(&mut retry, &name, value)?,
            other => {
                if let Some(right) = form::meant(&FIELDS, other) {
                    let detail = format!("`{name}` is no field of an update; `{right}` is meant");
                    return Err(Problem::field(&name, detail));
                }
            }
        }
    }
    if draft.topics.is_empty() && matches!(body.trim_ascii_start(), [b'{' | b'[', ..]) {
        let detail = "the body looks like JSON, but `Content-Type` says that it is a form; send \
                      JSON to /events, with `Content-Type: application/json`";
        return Err(Problem::field("Content-Type", detail));
    }
    draft.data = data.unwrap_or_default();
    draft.retry = retry.filter(|it| !it.is_empty()).map(|it| parse_retry(&it)).transpose()?;
    Ok(draft)
}

/// Parses digits only (draft-08, "Publication"). Too large a number is refused later, with the
/// other fields.
fn parse_retry(digits: &str) -> Result<u64, Problem> {
    if digits.bytes().all(|it| it.is_ascii_digit()) {
        return Ok(digits.parse().unwrap_or(u64::MAX));
    }
    Err(Problem::field("retry", "`retry` is not a whole number of milliseconds"))
}

fn set(field: &mut Option<String>, name: &str, value: String) -> Result<(), Problem> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Problem::field(name, format!("`{name}` is given more than once"))),
    }
}

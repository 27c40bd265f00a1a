//! An update as a form (Mercure draft-08, "Publication").

use tidegate_core::event::Draft;

use crate::http::{form, problem::Problem};

/// Parses the fields of an update. Unknown fields are ignored, as the protocol demands.
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
            _ => {}
        }
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

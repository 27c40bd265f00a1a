//! Updates as JSON: one object, or an array of them.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tidegate_core::event::Draft;

use crate::http::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<'a> {
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default, borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    private: bool,
    retry: Option<u64>,
    #[serde(default)]
    except: Vec<String>,
}

/// Returns the drafts in `body`, and whether they were an array. An array's length is checked
/// before its elements are parsed.
pub(crate) fn parse(body: &[u8], limit: usize) -> Result<(Vec<Draft>, bool), Problem> {
    let text =
        std::str::from_utf8(body).map_err(|_| Problem::malformed("the body is not valid UTF-8"))?;
    if !text.trim_ascii_start().starts_with('[') {
        return Ok((vec![draft(text, "")?], false));
    }
    let elements: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| malformed("", &error))?;
    if elements.is_empty() {
        return Err(Problem::malformed("the array has no updates"));
    }
    if limit < elements.len() {
        let detail = format!("the array has more than {limit} updates");
        return Err(Problem::too_large("body", limit, detail));
    }
    let element = |(at, element): (usize, &&RawValue)| draft(element.get(), &format!("[{at}]: "));
    Ok((elements.iter().enumerate().map(element).collect::<Result<_, _>>()?, true))
}

fn draft(text: &str, prefix: &str) -> Result<Draft, Problem> {
    let object: Object<'_> =
        serde_json::from_str(text).map_err(|error| malformed(prefix, &error))?;
    let data = match object.data.map(RawValue::get) {
        None => String::new(),
        Some(text) if text.starts_with('"') => {
            serde_json::from_str(text).map_err(|error| malformed(prefix, &error))?
        }
        Some(text) => text.to_owned(),
    };
    Ok(Draft {
        topics: object.topics,
        data,
        id: object.id,
        kind: object.kind,
        retry: object.retry,
        private: object.private,
        except: object.except,
    })
}

/// Reads a present field: `null` is data, but serde would take it for an absent field.
fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(input).map(Some)
}

fn malformed(prefix: &str, error: &serde_json::Error) -> Problem {
    Problem::malformed(format!("{prefix}the JSON is not an update: {error}"))
}

//! The readable page of the description, `docs/http-api.md`, which a test compares and writes.

use std::fmt::Write as _;

use serde_json::Value;
use utoipa::openapi::path::ParameterIn;

use super::{
    all,
    operations::{Answer, COMMON, Operation, PROBLEM, TAGS},
    schemas::schemas,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http-api.md");

const LAST_COLUMN: usize = 100;

const INTRODUCTION: &str = "# HTTP API

Every address, parameter and answer. A running gateway has the same for programs at
`/openapi.json`:

```sh
curl http://127.0.0.1:3000/openapi.json
```

This page is written by `UPDATE_DOCS=1 cargo test --lib http_api`. Edit `src/ops/openapi/` instead.

A token goes into the header `Authorization: Bearer` or into the cookie `auth.cookie`. Without keys
(development mode) nothing needs one. Every address that can be read answers `HEAD` and `OPTIONS` as
well, and `405` to other methods. A refusal is a problem document (RFC 9457), `Problem` below.

Any of them may also answer:
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n| status | meaning |\n|---|---|\n");
    COMMON.iter().for_each(|it| row(&mut page, it));
    for (tag, what) in TAGS {
        let _ = write!(page, "\n## {}{}\n\n{what}\n", tag[..1].to_uppercase(), &tag[1..]);
        all().filter(|it| it.tag == *tag).for_each(|it| section(&mut page, it));
    }
    page.push_str("\n## Bodies and answers\n");
    for (name, schema) in schemas() {
        let schema = serde_json::to_value(schema).expect("JSON");
        fields(&mut page, name, &schema);
    }
    page
}

/// Writes the fields of a schema.
fn fields(page: &mut String, name: &str, schema: &Value) {
    let _ = write!(page, "\n### {name}\n\n");
    let Some(properties) = schema["properties"].as_object() else {
        let what = schema["description"].as_str();
        let what = what.unwrap_or("An `Update`, or an array of them.");
        paragraph(page, what);
        return;
    };
    page.push_str("| field | type | |\n|---|---|---|\n");
    for (field, schema) in properties {
        let kind = match (&schema["type"], schema["$ref"].as_str()) {
            (Value::String(kind), _) => kind.clone(),
            (Value::Array(kinds), _) if kinds.len() == 2 => {
                format!("{}, or null", kinds[0].as_str().unwrap_or_default())
            }
            (Value::Array(_), _) => "any JSON".to_owned(),
            (_, reference) => {
                reference.and_then(|it| it.rsplit('/').next()).unwrap_or("").to_owned()
            }
        };
        let what = schema["description"].as_str().unwrap_or_default();
        let inner = schema["properties"].as_object().or(schema["items"]["properties"].as_object());
        let inner: Vec<&str> = inner.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let listed = schema["enum"].as_array().into_iter().flatten();
        let listed: Vec<&str> = listed.filter_map(Value::as_str).chain(inner).collect();
        let listed = listed.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(page, "| `{field}` | {kind} | {what}{listed} |");
    }
}

fn row(page: &mut String, answer: &Answer) {
    let types: Vec<String> = answer
        .contents
        .iter()
        .filter(|(media_type, _)| *media_type != PROBLEM)
        .map(|(media_type, _)| format!("`{}`", media_type.split(';').next().unwrap_or_default()))
        .collect();
    let types = if types.is_empty() { String::new() } else { format!(" ({})", types.join(", ")) };
    let _ = writeln!(page, "| {} | {}{types} |", answer.status, answer.what);
}

fn section(page: &mut String, operation: &Operation) {
    let Operation { method, path, summary, description, .. } = operation;
    let _ = write!(page, "\n### {method} {path}\n\n");
    paragraph(page, &format!("{summary}. {description}"));
    let parameters: Vec<_> = operation.parameters.iter().copied().flatten().collect();
    if !parameters.is_empty() {
        page.push_str("\n| parameter | in | |\n|---|---|---|\n");
    }
    for parameter in parameters {
        let place = match parameter.place {
            ParameterIn::Path => "path",
            ParameterIn::Header => "header",
            _ => "query",
        };
        let needed = if parameter.is_required { "Required. " } else { "" };
        let _ = writeln!(page, "| `{}` | {place} | {needed}{} |", parameter.name, parameter.what);
    }
    if !operation.bodies.is_empty() {
        let bodies: Vec<String> =
            operation.bodies.iter().map(|(it, schema)| format!("`{it}` ({schema})")).collect();
        let _ = write!(page, "\nBody: {}\n", bodies.join(" or "));
    }
    page.push_str("\n| status | answer |\n|---|---|\n");
    operation.answers.iter().for_each(|it| row(page, it));
}

/// Writes text in lines.
fn paragraph(page: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let is_full = LAST_COLUMN < column + 1 + word.len();
        page.push_str(if column == 0 {
            ""
        } else if is_full {
            "\n"
        } else {
            " "
        });
        column = if is_full { word.len() } else { column + 1 + word.len() };
        page.push_str(word);
    }
    page.push('\n');
}

#[test]
fn http_api_in_the_docs_is_this_description() {
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(FILE, &page).expect("a writable file");
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(written == page, "docs/http-api.md differs: UPDATE_DOCS=1 cargo test --lib http_api");
}

//! A question that a job has asked, its answer, and the rules for both.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_client::{Answer, Field, FieldKind, Question};

use super::times::in_milliseconds;

/// The limit of the names of a question and of a field, and of what people see of a field, in
/// bytes.
const LONGEST_NAME: usize = 64;
const LONGEST_SHOWN: usize = 256;

/// The longest text in characters, if the field says nothing.
const LONGEST_TEXT: usize = 500;

/// The limits of questions and answers.
#[derive(Debug, Clone, Copy)]
pub struct AskLimits {
    /// Fields of a question.
    pub fields: usize,
    /// Choices of a field.
    pub choices: usize,
    /// Bytes of a question.
    pub question_bytes: usize,
    /// Bytes of an answer.
    pub answer_bytes: usize,
    /// Jobs that wait for an answer at a time.
    pub waiting: usize,
}

/// A question that a job has asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When it ends without an answer.
    pub until: Timestamp,
    /// Its answer.
    pub answer: Option<Answered>,
}

/// An answer, and when it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The values by the names of the fields.
    pub values: Map<String, Value>,
    /// The subject of the answerer's access token.
    pub by: Option<String>,
    /// When it came.
    #[serde(serialize_with = "in_milliseconds")]
    pub at: Timestamp,
    /// Whether it is the question's own, because no answer came in time.
    pub otherwise: bool,
}

/// What is wrong with a part of a question or of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct BadField {
    /// The field.
    pub field: String,
    /// What is wrong, and what would be right.
    pub detail: String,
    /// The limit that is exceeded.
    pub limit: Option<usize>,
}

impl BadField {
    fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into(), limit: None }
    }

    fn beyond(limit: usize, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { limit: Some(limit), ..Self::new(field, detail) }
    }
}

impl Asked {
    /// Bytes of memory.
    pub(super) fn weight(&self) -> usize {
        let of_field = |it: &Field| {
            let texts =
                [Some(&it.name), it.label.as_ref()].into_iter().flatten().chain(&it.choices);
            100 + texts.map(|text| text.len() + 24).sum::<usize>()
        };
        let fields: usize = self.question.fields.iter().map(of_field).sum();
        let of_answer = |it: &Answered| weight(&it.values) + it.by.as_ref().map_or(0, String::len);
        let answer = self.answer.as_ref().map_or(0, of_answer);
        let otherwise = self.question.otherwise.as_ref().map_or(0, weight);
        300 + self.question.name.len() + self.question.title.len() + fields + answer + otherwise
    }
}

impl Answered {
    /// Returns the answer as the worker sees it.
    #[must_use]
    pub fn for_worker(&self) -> Answer {
        Answer { values: self.values.clone(), by: self.by.clone(), otherwise: self.otherwise }
    }
}

fn weight(values: &Map<String, Value>) -> usize {
    let of_value = |it: &Value| it.as_str().map_or(8, str::len);
    values.iter().map(|(name, value)| 100 + name.len() + of_value(value)).sum()
}

/// Whether a text can name a question or a field.
fn is_name(text: &str) -> bool {
    let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"-_.".contains(&it);
    !text.is_empty() && text.len() <= LONGEST_NAME && text.bytes().all(is_plain)
}

/// Checks a question. `longest` is how long it may wait for an answer.
///
/// # Errors
/// If a part of it breaks a rule or a limit.
pub fn check_question(
    question: &Question,
    limits: &AskLimits,
    longest: Duration,
) -> Result<(), BadField> {
    if !is_name(&question.name) {
        let rule = "is not 1 to 64 letters, digits, hyphens, underscores or dots";
        return Err(BadField::new("ask", format!("`ask` {rule}")));
    }
    if question.title.trim().is_empty() {
        return Err(BadField::new("title", "`title` is empty: what people are asked"));
    }
    if limits.fields < question.fields.len() {
        let limit = limits.fields;
        let detail = format!("`fields` has more than {limit} entries (jobs.ask_fields)");
        return Err(BadField::beyond(limit, "fields", detail));
    }
    if question.fields.is_empty() {
        return Err(BadField::new("fields", "`fields` is empty: an answer has at least one"));
    }
    let mut names = HashSet::new();
    for (at, field) in question.fields.iter().enumerate() {
        check_field(field, limits).map_err(|bad| BadField {
            field: format!("fields[{at}].{}", bad.field),
            detail: format!("`fields[{at}].{}` {}", bad.field, bad.detail),
            ..bad
        })?;
        if !names.insert(&field.name) {
            let place = format!("fields[{at}].name");
            return Err(BadField::new(&*place, format!("`{place}` is there twice")));
        }
    }
    let seconds = usize::try_from(longest.as_secs()).unwrap_or(usize::MAX);
    if question.until.is_some_and(|it| it == 0 || longest < Duration::from_secs(it)) {
        let detail = format!("`until` is not 1 to {seconds} seconds (jobs.ask_time)");
        return Err(BadField::beyond(seconds, "until", detail));
    }
    if let Some(otherwise) = &question.otherwise {
        let otherwise = otherwise.clone();
        read_answer(question, otherwise, limits.answer_bytes).map_err(|bad| {
            let bad = bad.into_iter().next().unwrap_or_else(|| BadField::new("", ""));
            let field = format!("otherwise.{}", bad.field);
            BadField { field, detail: format!("`otherwise`: {}", bad.detail), ..bad }
        })?;
    }
    let limit = limits.question_bytes;
    if serde_json::to_vec(question).map_or(true, |it| limit < it.len()) {
        let detail = format!("the question is longer than {limit} bytes (jobs.ask_bytes)");
        return Err(BadField::beyond(limit, "title", detail));
    }
    Ok(())
}

/// Checks a field of a question. The error lacks the name of the part.
fn check_field(field: &Field, limits: &AskLimits) -> Result<(), BadField> {
    if !is_name(&field.name) {
        let rule = "is not 1 to 64 letters, digits, hyphens, underscores or dots";
        return Err(BadField::new("name", rule));
    }
    if field.label.as_ref().is_some_and(|it| LONGEST_SHOWN < it.len() || it.trim().is_empty()) {
        let rule = format!("is not 1 to {LONGEST_SHOWN} bytes");
        return Err(BadField::beyond(LONGEST_SHOWN, "label", rule));
    }
    let is_choice = field.kind == FieldKind::Choice;
    if is_choice == field.choices.is_empty() {
        let rule = if is_choice { "is empty" } else { "is only for fields of the type `choice`" };
        return Err(BadField::new("choices", rule));
    }
    if limits.choices < field.choices.len() {
        let rule = format!("has more than {} entries (jobs.ask_choices)", limits.choices);
        return Err(BadField::beyond(limits.choices, "choices", rule));
    }
    let is_usable = |it: &String| {
        !it.trim().is_empty() && it.len() <= LONGEST_SHOWN && !it.contains(['\r', '\n'])
    };
    if !field.choices.iter().all(is_usable) {
        let rule = format!("has an entry that is not one line of 1 to {LONGEST_SHOWN} bytes");
        return Err(BadField::beyond(LONGEST_SHOWN, "choices", rule));
    }
    if field.choices.iter().collect::<HashSet<_>>().len() < field.choices.len() {
        return Err(BadField::new("choices", "has an entry twice"));
    }
    let longest = limits.answer_bytes;
    match field.max {
        Some(_) if field.kind != FieldKind::Text => {
            Err(BadField::new("max", "is only for fields of the type `text`"))
        }
        Some(max) if max == 0 || longest < max => {
            let rule = format!("is not 1 to {longest} (jobs.answer_bytes)");
            Err(BadField::beyond(longest, "max", rule))
        }
        _ => Ok(()),
    }
}

/// Returns the longest text of a field, in characters.
#[must_use]
pub fn longest_text(field: &Field) -> usize {
    field.max.unwrap_or(LONGEST_TEXT)
}

/// Checks the values of an answer. Optional values that are `null` or empty are left out.
///
/// # Errors
/// If values break the rules of their fields: all of them, in the order of the question.
pub fn read_answer(
    question: &Question,
    mut given: Map<String, Value>,
    longest: usize,
) -> Result<Map<String, Value>, Vec<BadField>> {
    let mut bad = Vec::new();
    let mut values = Map::new();
    for field in &question.fields {
        match read_value(field, given.remove(&field.name)) {
            Ok(Some(value)) => {
                values.insert(field.name.clone(), value);
            }
            Ok(None) => {}
            Err(detail) => bad.push(BadField::new(&*field.name, detail)),
        }
    }
    if let Some(name) = given.keys().next() {
        // The name is the caller's, so only its beginning is repeated.
        let name: String = name.chars().take(LONGEST_NAME).collect();
        bad.push(BadField::new(name, "the question has no such field"));
    }
    let is_long = serde_json::to_vec(&values).map_or(true, |it| longest < it.len());
    if bad.is_empty() && is_long {
        let longer = |it: &&Field| values.get(&it.name).map_or(0, |it| it.to_string().len());
        let field = question.fields.iter().max_by_key(longer).map_or("", |it| &it.name);
        let detail = format!("the answer is longer than {longest} bytes (jobs.answer_bytes)");
        bad.push(BadField::beyond(longest, field, detail));
    }
    if bad.is_empty() { Ok(values) } else { Err(bad) }
}

/// Returns the value for a field, or what is wrong with it.
fn read_value(field: &Field, given: Option<Value>) -> Result<Option<Value>, String> {
    let given = given.filter(|it| !it.is_null() && it.as_str().is_none_or(|it| !it.is_empty()));
    let Some(value) = given else {
        return match field.required {
            true => Err("this is missing".to_owned()),
            false => Ok(None),
        };
    };
    match (field.kind, value) {
        (FieldKind::Confirm, value @ Value::Bool(_)) => Ok(Some(value)),
        (FieldKind::Confirm, _) => Err("this is neither true nor false".to_owned()),
        (FieldKind::Choice, Value::String(text)) if field.choices.contains(&text) => {
            Ok(Some(Value::String(text)))
        }
        (FieldKind::Choice, _) => Err("this is none of the choices".to_owned()),
        (FieldKind::Text, Value::String(text)) => {
            let max = longest_text(field);
            if max < text.chars().count() {
                return Err(format!("this is longer than {max} characters"));
            }
            if field.required && text.trim().is_empty() {
                return Err("this is missing".to_owned());
            }
            Ok(Some(Value::String(text)))
        }
        (FieldKind::Text, _) => Err("this is not text".to_owned()),
    }
}

/// Returns the values of a form, which has only texts: yes or no, and line feeds as browsers send
/// them.
#[must_use]
pub fn values_of_form(question: &Question, pairs: Vec<(String, String)>) -> Map<String, Value> {
    let mut values = Map::new();
    for (name, text) in pairs {
        let kind = question.fields.iter().find(|it| it.name == name).map(|it| it.kind);
        let value = match (kind, &*text) {
            (Some(FieldKind::Confirm), "yes" | "true" | "on") => Value::Bool(true),
            (Some(FieldKind::Confirm), "no" | "false") => Value::Bool(false),
            (Some(FieldKind::Text), _) => Value::String(text.replace("\r\n", "\n")),
            _ => Value::String(text),
        };
        values.insert(name, value);
    }
    values
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIMITS: AskLimits =
        AskLimits { fields: 3, choices: 3, question_bytes: 900, answer_bytes: 60, waiting: 9 };

    fn question(fields: &Value) -> Question {
        let question = json!({ "ask": "a", "title": "A?", "fields": fields });
        serde_json::from_value(question).expect("a question")
    }

    fn three() -> Question {
        question(&json!([
            { "name": "go", "type": "confirm" },
            { "name": "when", "type": "choice", "choices": ["now", "later"] },
            { "name": "why", "type": "text", "required": false, "max": 5 },
        ]))
    }

    fn read(given: &Value) -> Result<Value, Vec<String>> {
        let given = given.as_object().cloned().expect("an object");
        let read = read_answer(&three(), given, LIMITS.answer_bytes);
        read.map(Value::Object).map_err(|bad| bad.into_iter().map(|it| it.field).collect())
    }

    #[test]
    fn answers_have_the_values_of_the_fields_and_nothing_else() {
        let good = json!({ "go": false, "when": "now", "why": "ä\nöüß" });
        assert_eq!(read(&good), Ok(good));
        let short = json!({ "go": true, "when": "later" });
        assert_eq!(read(&json!({ "go": true, "when": "later", "why": "" })), Ok(short.clone()));
        assert_eq!(read(&json!({ "go": true, "when": "later", "why": null })), Ok(short));
        let wrong = json!({ "go": "yes", "when": "Now", "why": "sixsix" });
        assert_eq!(read(&wrong), Err(vec!["go".into(), "when".into(), "why".into()]));
        assert_eq!(read(&json!({})), Err(vec!["go".into(), "when".into()]));
        let more = json!({ "go": true, "when": "now", "x": 1 });
        assert_eq!(read(&more), Err(vec!["x".into()]));
        let blank = question(&json!([{ "name": "t", "type": "text" }]));
        let given = |text: &str| json!({ "t": text }).as_object().cloned().expect("an object");
        assert!(read_answer(&blank, given("  \n"), 60).is_err());
        let long = read_answer(&blank, given(&"x".repeat(100)), 60).expect_err("too long");
        assert_eq!((&*long[0].field, long[0].limit), ("t", Some(60)));
    }

    #[test]
    fn a_form_says_the_same_in_texts() {
        let pairs = [("go", "no"), ("when", "now"), ("why", "a\r\nb")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let values = values_of_form(&three(), pairs);
        assert_eq!(Value::Object(values), json!({ "go": false, "when": "now", "why": "a\nb" }));
    }

    #[test]
    fn questions_are_bounded_and_what_is_wrong_is_named() {
        let hour = Duration::from_secs(3600);
        assert_eq!(check_question(&three(), &LIMITS, hour), Ok(()));
        let text = |name: &str| json!({ "name": name, "type": "text" });
        let choice =
            |choices: Value| json!([{ "name": "c", "type": "choice", "choices": choices }]);
        let long = "x".repeat(300);
        for (fields, field) in [
            (json!([]), "fields"),
            (json!([text("a"), text("b"), text("c"), text("d")]), "fields"),
            (json!([text("a b")]), "fields[0].name"),
            (json!([text("a"), text("a")]), "fields[1].name"),
            (choice(json!([])), "fields[0].choices"),
            (choice(json!(["a", "a"])), "fields[0].choices"),
            (choice(json!(["a", ""])), "fields[0].choices"),
            (choice(json!(["a\nb"])), "fields[0].choices"),
            (choice(json!(["a", "b", "c", "d"])), "fields[0].choices"),
            (json!([{ "name": "a", "type": "text", "choices": ["a"] }]), "fields[0].choices"),
            (json!([{ "name": "a", "type": "confirm", "max": 3 }]), "fields[0].max"),
            (json!([{ "name": "a", "type": "text", "max": 61 }]), "fields[0].max"),
            (json!([{ "name": "a", "type": "text", "max": 0 }]), "fields[0].max"),
            (json!([{ "name": "a", "type": "text", "label": long }]), "fields[0].label"),
        ] {
            let bad = check_question(&question(&fields), &LIMITS, hour).expect_err(field);
            assert_eq!(bad.field, field, "{bad:?}");
        }
        let named = |name: &str| Question { name: name.to_owned(), ..three() };
        let titled = |title: &str| Question { title: title.to_owned(), ..three() };
        let otherwise = json!({ "go": 1, "when": "now" }).as_object().cloned();
        for (question, field) in [
            (named("a/b"), "ask"),
            (named(""), "ask"),
            (titled(" "), "title"),
            (titled(&"x".repeat(900)), "title"),
            (Question { until: Some(0), ..three() }, "until"),
            (Question { until: Some(3601), ..three() }, "until"),
            (Question { otherwise, ..three() }, "otherwise.go"),
        ] {
            let bad = check_question(&question, &LIMITS, hour).expect_err(field);
            assert_eq!(bad.field, field, "{bad:?}");
        }
    }
}

//! Questions that a job asks people, and their answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A question that a job asks. It becomes a form on the job's page.
///
/// ```
/// use std::time::Duration;
///
/// use tidegate_client::{Field, Question};
///
/// let plain = Question::confirm("Deploy 4f2c to production?");
/// let question = Question::new("Deploy 4f2c?")
///     .field(Field::choice("place", &["staging", "production"]).label("Where"))
///     .field(Field::text("why").optional())
///     .until(Duration::from_secs(3600));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Names the question within its job. A question that is asked again has the same name.
    #[serde(rename = "ask")]
    pub name: String,
    /// What people are asked.
    pub title: String,
    /// The parts of an answer.
    pub fields: Vec<Field>,
    /// How long the question waits for an answer, in seconds. If absent, the gateway decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// The answer if none came in time. Without it the job fails then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Map<String, Value>>,
}

/// One part of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The name of the value in the answer.
    pub name: String,
    /// The type of the value.
    #[serde(rename = "type")]
    pub kind: FieldKind,
    /// What people see instead of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether an answer must have it.
    #[serde(default = "yes")]
    pub required: bool,
    /// The texts to choose from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The longest text, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
}

/// The type of a value in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// Yes or no.
    Confirm,
    /// One of several texts.
    Choice,
    /// Any text.
    Text,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The values by the names of the fields.
    pub values: Map<String, Value>,
    /// The subject of the answerer's access token, if there was one.
    #[serde(default)]
    pub by: Option<String>,
    /// Whether no answer came in time, and this is the one that the question said.
    #[serde(default)]
    pub otherwise: bool,
}

fn yes() -> bool {
    true
}

impl Question {
    /// Creates a question without fields. Its name follows from the title, so that the same
    /// question in another attempt has the answer that was already given.
    #[must_use]
    pub fn new(title: &str) -> Self {
        let fields = Vec::new();
        let (name, title) = (format!("q-{:016x}", fingerprint(title)), title.to_owned());
        Self { name, title, fields, until: None, otherwise: None }
    }

    /// Creates a question that is answered with yes or no.
    #[must_use]
    pub fn confirm(title: &str) -> Self {
        Self::new(title).field(Field::confirm("yes"))
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// Sets the name, which otherwise follows from the title.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Sets how long the question waits for an answer, in whole seconds.
    #[must_use]
    pub fn until(self, time: Duration) -> Self {
        Self { until: Some(time.as_secs().max(1)), ..self }
    }

    /// Sets a value of the answer that counts if none came in time.
    #[must_use]
    pub fn otherwise(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.otherwise.get_or_insert_default().insert(field.to_owned(), value.into());
        self
    }

    /// Whether the other question asks the same.
    #[must_use]
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        self.title == other.title && self.fields == other.fields
    }
}

impl Field {
    fn new(name: &str, kind: FieldKind) -> Self {
        let name = name.to_owned();
        Self { name, kind, label: None, required: true, choices: Vec::new(), max: None }
    }

    /// Creates a field for yes or no.
    #[must_use]
    pub fn confirm(name: &str) -> Self {
        Self::new(name, FieldKind::Confirm)
    }

    /// Creates a field for one of several texts.
    #[must_use]
    pub fn choice(name: &str, choices: &[&str]) -> Self {
        let choices = choices.iter().map(|&it| it.to_owned()).collect();
        Self { choices, ..Self::new(name, FieldKind::Choice) }
    }

    /// Creates a field for any text.
    #[must_use]
    pub fn text(name: &str) -> Self {
        Self::new(name, FieldKind::Text)
    }

    /// Sets what people see instead of the name.
    #[must_use]
    pub fn label(self, label: &str) -> Self {
        Self { label: Some(label.to_owned()), ..self }
    }

    /// Makes the value optional.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { required: false, ..self }
    }

    /// Sets the longest text, in characters.
    #[must_use]
    pub fn max(self, characters: usize) -> Self {
        Self { max: Some(characters), ..self }
    }

    /// What people see.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }
}

impl Answer {
    /// Whether every field for yes or no has the value yes, and there is one.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        let mut flags = self.values.values().filter_map(Value::as_bool).peekable();
        flags.peek().is_some() && flags.all(|it| it)
    }

    /// Whether this field has the value yes.
    #[must_use]
    pub fn is_yes(&self, field: &str) -> bool {
        self.values.get(field).and_then(Value::as_bool) == Some(true)
    }

    /// Returns the text or the choice in a field.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        self.values.get(field)?.as_str()
    }
}

/// Returns a hash that is the same in every build (FNV-1a). It names questions and protects
/// nothing: the gateway compares the questions themselves.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_written_as_the_gateway_reads_it() {
        let question = Question::new("Deploy?")
            .named("deploy")
            .field(Field::confirm("go"))
            .field(Field::text("why").optional().max(500))
            .until(Duration::from_secs(60))
            .otherwise("go", false);
        let expected = serde_json::json!({
            "ask": "deploy", "title": "Deploy?", "until": 60, "otherwise": { "go": false },
            "fields": [
                { "name": "go", "type": "confirm", "required": true },
                { "name": "why", "type": "text", "required": false, "max": 500 },
            ],
        });
        assert_eq!(serde_json::to_value(&question).expect("JSON"), expected);
        // printf a | fnv1a64
        assert_eq!(Question::new("a").name, "q-af63dc4c8601ec8c");
    }

    #[test]
    fn only_a_yes_confirms() {
        let answer = |values: Value| Answer {
            values: values.as_object().cloned().unwrap_or_default(),
            by: None,
            otherwise: false,
        };
        assert!(answer(serde_json::json!({ "a": true, "why": "x" })).is_confirmed());
        assert!(!answer(serde_json::json!({ "a": true, "b": false })).is_confirmed());
        assert!(!answer(serde_json::json!({ "why": "yes" })).is_confirmed());
        assert!(answer(serde_json::json!({ "a": true })).is_yes("a"));
    }
}

//! The part of a job's page that asks people: the form of the open question, and the answers so
//! far.

use jiff::Timestamp;
use serde_json::{Map, Value};
use tidegate_core::jobs::{Asked, BadField, Field, FieldKind, Job, longest_text};

use super::words;

/// The most choices that are shown side by side. More become a list that opens.
const MOST_RADIOS: usize = 7;

/// The longest text for which a single line is enough, in characters.
const LINE: usize = 100;

/// An answer that was not taken, to be shown again.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    /// What was typed, by the names of the fields.
    pub(crate) typed: Vec<(String, String)>,
    /// What was wrong.
    pub(crate) bad: Vec<BadField>,
    /// Why no answer would have been taken.
    pub(crate) note: Option<&'static str>,
}

/// What the page asks and shows of answers.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    /// Changes with the question and with the number of answers.
    pub(super) key: String,
    pub(super) form: Option<Form<'a>>,
    pub(super) note: Option<String>,
    pub(super) answers: Vec<ShownAnswer<'a>>,
}

/// The form of the open question.
#[derive(Debug)]
pub(super) struct Form<'a> {
    pub(super) ask: &'a str,
    pub(super) title: &'a str,
    pub(super) fields: Vec<FormField<'a>>,
    pub(super) until: Timestamp,
    asked: &'a Asked,
    now: Timestamp,
}

/// One field of the form.
#[derive(Debug)]
pub(super) struct FormField<'a> {
    pub(super) field: &'a Field,
    pub(super) id: String,
    pub(super) shape: Shape,
    pub(super) value: String,
    pub(super) wrong: Option<String>,
}

/// How a field is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The only field, for yes or no: each button answers.
    Buttons,
    Confirm,
    Radios,
    Select,
    Line,
    Lines,
}

/// An answer in words.
#[derive(Debug)]
pub(super) struct ShownAnswer<'a> {
    pub(super) title: &'a str,
    /// Labels and values.
    pub(super) values: Vec<(&'a str, String)>,
    origin: String,
}

impl<'a> Asking<'a> {
    pub(super) fn of(job: &'a Job, attempt: &Attempt, now: Timestamp) -> Self {
        let answers: Vec<_> = job.questions().filter_map(|it| ShownAnswer::of(it, now)).collect();
        let open = job.open_question();
        // What could not be attached to a field is said above the form.
        let is_shown = |bad: &BadField| {
            open.is_some_and(|it| it.question.fields.iter().any(|field| field.name == bad.field))
        };
        let beside = attempt.bad.iter().find(|it| !is_shown(it));
        let beside = beside.map(|it| format!("{}: {}", it.field, it.detail));
        let note = attempt.note.map(str::to_owned).or(beside);
        let key = format!("{} {}", open.map_or("", |it| &it.question.name), answers.len());
        Self { key, note, form: open.map(|it| Form::of(it, attempt, now)), answers }
    }
}

impl<'a> Form<'a> {
    fn of(asked: &'a Asked, attempt: &Attempt, now: Timestamp) -> Self {
        let question = &asked.question;
        let is_alone = question.fields.len() == 1;
        let field = |(at, field): (usize, &'a Field)| {
            let typed = attempt.typed.iter().find(|(name, _)| *name == field.name);
            let wrong = attempt.bad.iter().find(|it| it.field == field.name);
            FormField {
                field,
                id: format!("field-{at}"),
                shape: Shape::of(field, is_alone),
                value: typed.map(|(_, value)| value.clone()).unwrap_or_default(),
                wrong: wrong.map(|it| it.detail.clone()),
            }
        };
        let fields = question.fields.iter().enumerate().map(field).collect();
        let (ask, title, until) = (&*question.name, &*question.title, asked.until);
        Self { ask, title, fields, until, asked, now }
    }

    /// The name of the field that the buttons answer.
    pub(super) fn buttons(&self) -> Option<&str> {
        let alone = self.fields.iter().find(|it| it.shape == Shape::Buttons);
        alone.map(|it| &*it.field.name)
    }

    pub(super) fn time_left(&self) -> String {
        words::duration(words::between(self.now, self.until))
    }

    /// What happens if there is no answer.
    pub(super) fn otherwise(&self) -> String {
        let question = &self.asked.question;
        match &question.otherwise {
            None => "Without an answer the job then fails.".to_owned(),
            Some(values) => {
                let values: Vec<String> = in_words(&question.fields, values)
                    .into_iter()
                    .map(|(label, value)| format!("{label}: {value}"))
                    .collect();
                format!("Without an answer this one then counts: {}.", values.join(", "))
            }
        }
    }
}

impl FormField<'_> {
    pub(super) fn wrong(&self) -> &str {
        self.wrong.as_deref().unwrap_or_default()
    }

    pub(super) fn max(&self) -> usize {
        longest_text(self.field)
    }
}

impl Shape {
    fn of(field: &Field, is_alone: bool) -> Self {
        match field.kind {
            FieldKind::Confirm if is_alone && field.required => Self::Buttons,
            FieldKind::Confirm => Self::Confirm,
            FieldKind::Choice if field.choices.len() <= MOST_RADIOS => Self::Radios,
            FieldKind::Choice => Self::Select,
            FieldKind::Text if longest_text(field) <= LINE => Self::Line,
            FieldKind::Text => Self::Lines,
        }
    }
}

impl<'a> ShownAnswer<'a> {
    fn of(asked: &'a Asked, now: Timestamp) -> Option<Self> {
        let answer = asked.answer.as_ref()?;
        let age = words::duration(words::between(answer.at, now));
        let origin = match &answer.by {
            _ if answer.otherwise => format!("no answer came in time, {age} ago"),
            Some(subject) => format!("by {subject}, {age} ago"),
            None => format!("{age} ago"),
        };
        let values = in_words(&asked.question.fields, &answer.values);
        Some(Self { title: &asked.question.title, values, origin })
    }

    /// Whether the labels say something: a single field repeats the title.
    pub(super) fn has_labels(&self) -> bool {
        1 < self.values.len()
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }
}

/// Returns labels and values in the order of the fields.
fn in_words<'a>(fields: &'a [Field], values: &Map<String, Value>) -> Vec<(&'a str, String)> {
    let word = |value: &Value| match value {
        Value::Bool(true) => "Yes".to_owned(),
        Value::Bool(false) => "No".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let shown = |field: &'a Field| Some((field.shown(), word(values.get(&field.name)?)));
    fields.iter().filter_map(shown).collect()
}

//! What a client asks for: `POST /client` as JSON.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tidegate_core::event::ClientKey;

use crate::{
    http::{client_key::parse_key, problem::Problem},
    settings::ClientSettings,
};

/// The most keys that one stream may carry.
const CARRIED: usize = 64;

/// The longest id of a request or of a call, in bytes.
const ID_BYTES: usize = 64;

/// The longest name of a call or of a callback, in bytes.
const NAME_BYTES: usize = 256;

/// A request of a client.
#[derive(Debug)]
pub(super) struct ClientRequest {
    pub(super) client: ClientKey,
    /// The number of an ordered request.
    pub(super) seq: Option<u64>,
    /// The id by which an unordered request is known if it is repeated.
    pub(super) id: Option<String>,
    /// The stream that the client hears, by the id of its hello.
    pub(super) stream: Option<String>,
    /// The actions. One that breaks a rule fails by itself.
    pub(super) actions: Vec<Result<Action, Problem>>,
}

/// What a client does.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Join { topic: String, data: Option<Value>, listens: bool, last: usize },
    Leave { topic: String },
    Send { topic: String, kind: Option<String>, data: String, echo: bool },
    Set { topic: String, patch: String, at: Option<u64> },
    Call(Call),
    Reply { call: String, outcome: Outcome },
    Callback { id: String },
    Cancel { id: String },
    Bye,
    Carry(Vec<ClientKey>),
    Drop(Vec<ClientKey>),
}

/// A call of a handler.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) data: Value,
    /// Seconds to wait for the answer.
    pub(super) wait: Option<u64>,
    /// By which the client may cancel it.
    pub(super) id: Option<String>,
    /// Whether it keeps its place among the client's actions.
    pub(super) is_ordered: bool,
}

/// How a call to a client ended.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Data(Value),
    Problem(Value),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    client: Option<&'a RawValue>,
    seq: Option<&'a RawValue>,
    id: Option<String>,
    stream: Option<String>,
    #[serde(rename = "do", borrow)]
    actions: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionFields<'a> {
    join: Option<String>,
    leave: Option<String>,
    send: Option<String>,
    set: Option<String>,
    call: Option<String>,
    emit: Option<String>,
    reply: Option<String>,
    callback: Option<String>,
    cancel: Option<String>,
    bye: Option<bool>,
    carry: Option<Vec<String>>,
    drop: Option<Vec<String>>,
    #[serde(rename = "as")]
    shown: Option<Value>,
    listen: Option<bool>,
    last: Option<u64>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    echo: Option<bool>,
    #[serde(borrow)]
    patch: Option<&'a RawValue>,
    #[serde(rename = "if")]
    at: Option<u64>,
    wait: Option<u64>,
    id: Option<String>,
    problem: Option<Value>,
}

/// The actions, and the fields that each may have besides.
const ACTIONS: [(&str, &[&str]); 12] = [
    ("join", &["as", "listen", "last"]),
    ("leave", &[]),
    ("send", &["type", "data", "echo"]),
    ("set", &["patch", "if"]),
    ("call", &["data", "wait", "id"]),
    ("emit", &["data"]),
    ("reply", &["data", "problem"]),
    ("callback", &["data"]),
    ("cancel", &[]),
    ("bye", &[]),
    ("carry", &[]),
    ("drop", &[]),
];

/// Reads a request.
///
/// # Errors
/// If it is not one, or has too many actions.
pub(super) fn parse(body: &[u8], settings: &ClientSettings) -> Result<ClientRequest, Problem> {
    let text =
        std::str::from_utf8(body).map_err(|_| Problem::malformed("the body is not UTF-8"))?;
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| {
        Problem::malformed(format!("the body is not a client's request: {error}"))
    })?;
    let key = fields.client.map(RawValue::get).unwrap_or_default();
    let key: String = serde_json::from_str(key)
        .map_err(|_| Problem::field("client", "`client` is missing, or is not the client's key"))?;
    let client = parse_key("client", &key)?;
    let seq = fields.seq.map(|seq| seq.get().parse::<u64>()).transpose();
    let seq = seq.ok().filter(|it| *it != Some(0));
    let detail = "`seq` is not a number from 1 to 18446744073709551615";
    let seq = seq.ok_or_else(|| Problem::field("seq", detail))?;
    if fields.id.as_ref().is_some_and(|it| ID_BYTES < it.len()) {
        return Err(Problem::field("id", "`id` is too long").with_limit(ID_BYTES));
    }
    let actions = fields.actions.ok_or_else(|| {
        Problem::field("do", "`do` is missing: a list of actions such as {\"join\":\"/rooms/7\"}")
    })?;
    if settings.actions < actions.len() {
        let detail = format!("`do` has more than {} actions (clients.actions)", settings.actions);
        return Err(Problem::too_large("do", settings.actions, detail));
    }
    let actions = actions.into_iter().map(|action| parse_action(action.get(), settings)).collect();
    Ok(ClientRequest { client, seq, id: fields.id, stream: fields.stream, actions })
}

fn parse_action(text: &str, settings: &ClientSettings) -> Result<Action, Problem> {
    let fields: ActionFields<'_> = serde_json::from_str(text)
        .map_err(|error| Problem::malformed(format!("this is not an action: {error}")))?;
    let given = fields.given();
    let mut verbs = ACTIONS.iter().filter(|(verb, _)| given.contains(verb));
    let names = || ACTIONS.map(|(verb, _)| format!("`{verb}`")).join(", ");
    let (Some((verb, others)), None) = (verbs.next(), verbs.next()) else {
        return Err(Problem::malformed(format!("an action has exactly one of {}", names())));
    };
    if let Some(field) = given.iter().find(|it| *it != verb && !others.contains(it)) {
        let detail = format!("`{field}` does not belong to `{verb}`");
        return Err(Problem::field(*field, detail));
    }
    let data = |field: Option<&RawValue>| field.map_or("null", RawValue::get).to_owned();
    let value = |field: Option<&RawValue>| parse_value(field, settings);
    Ok(match *verb {
        "join" => Action::Join {
            topic: fields.join.unwrap_or_default(),
            data: fields.shown.map(check_shown).transpose()?,
            listens: fields.listen.unwrap_or(true),
            last: fields.last.and_then(|it| it.try_into().ok()).unwrap_or(0),
        },
        "leave" => Action::Leave { topic: fields.leave.unwrap_or_default() },
        "send" => {
            let data = data(fields.data);
            if settings.message_bytes < data.len() {
                let limit = settings.message_bytes;
                let detail = format!("`data` has more than {limit} bytes (clients.message_bytes)");
                return Err(Problem::too_large("data", limit, detail));
            }
            let topic = fields.send.unwrap_or_default();
            let echo = fields.echo.unwrap_or(true);
            Action::Send { topic, kind: fields.kind, data, echo }
        }
        "set" => {
            let detail = "`patch` is missing: an object, a merge patch (RFC 7396)";
            let patch = fields.patch.ok_or_else(|| Problem::field("patch", detail))?;
            let (topic, patch) = (fields.set.unwrap_or_default(), patch.get().to_owned());
            Action::Set { topic, patch, at: fields.at }
        }
        "call" | "emit" => {
            let is_ordered = fields.emit.is_some();
            let name = fields.call.or(fields.emit).unwrap_or_default();
            let id = fields.id.map(|id| short("id", id, ID_BYTES)).transpose()?;
            Action::Call(Call {
                name: short("call", name, NAME_BYTES)?,
                data: value(fields.data)?,
                wait: fields.wait,
                id,
                is_ordered,
            })
        }
        "reply" => {
            let call = short("reply", fields.reply.unwrap_or_default(), ID_BYTES)?;
            let outcome = match fields.problem {
                Some(_) if fields.data.is_some() => {
                    return Err(Problem::field(
                        "problem",
                        "`data` and `problem` exclude each other",
                    ));
                }
                Some(problem) => Outcome::Problem(problem),
                None => Outcome::Data(value(fields.data)?),
            };
            Action::Reply { call, outcome }
        }
        "callback" => {
            let id = short("callback", fields.callback.unwrap_or_default(), NAME_BYTES)?;
            Action::Callback { id }
        }
        "cancel" => {
            Action::Cancel { id: short("cancel", fields.cancel.unwrap_or_default(), ID_BYTES)? }
        }
        "bye" => Action::Bye,
        "carry" => Action::Carry(keys("carry", &fields.carry.unwrap_or_default())?),
        _ => Action::Drop(keys("drop", &fields.drop.unwrap_or_default())?),
    })
}

impl ActionFields<'_> {
    /// The names of the fields that have a value.
    fn given(&self) -> Vec<&'static str> {
        let all = [
            ("join", self.join.is_some()),
            ("leave", self.leave.is_some()),
            ("send", self.send.is_some()),
            ("set", self.set.is_some()),
            ("call", self.call.is_some()),
            ("emit", self.emit.is_some()),
            ("reply", self.reply.is_some()),
            ("callback", self.callback.is_some()),
            ("cancel", self.cancel.is_some()),
            ("bye", self.bye.is_some()),
            ("carry", self.carry.is_some()),
            ("drop", self.drop.is_some()),
            ("as", self.shown.is_some()),
            ("listen", self.listen.is_some()),
            ("last", self.last.is_some()),
            ("type", self.kind.is_some()),
            ("data", self.data.is_some()),
            ("echo", self.echo.is_some()),
            ("patch", self.patch.is_some()),
            ("if", self.at.is_some()),
            ("wait", self.wait.is_some()),
            ("id", self.id.is_some()),
            ("problem", self.problem.is_some()),
        ];
        all.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
    }
}

/// Reads JSON that a handler will get.
fn parse_value(field: Option<&RawValue>, settings: &ClientSettings) -> Result<Value, Problem> {
    let text = field.map_or("null", RawValue::get);
    let limit = settings.message_bytes;
    if limit < text.len() {
        let detail = format!("`data` has more than {limit} bytes (clients.message_bytes)");
        return Err(Problem::too_large("data", limit, detail));
    }
    serde_json::from_str(text)
        .map_err(|error| Problem::field("data", format!("`data` cannot be read: {error}")))
}

/// Checks what a client shows of itself.
fn check_shown(shown: Value) -> Result<Value, Problem> {
    if !shown.is_object() {
        return Err(Problem::field("as", "`as` is not an object"));
    }
    Ok(shown)
}

fn short(field: &'static str, text: String, limit: usize) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(Problem::field(field, format!("`{field}` is empty")));
    }
    if limit < text.len() {
        let detail = format!("`{field}` has more than {limit} bytes");
        return Err(Problem::too_large(field, limit, detail));
    }
    Ok(text)
}

fn keys(field: &'static str, keys: &[String]) -> Result<Vec<ClientKey>, Problem> {
    if CARRIED < keys.len() {
        let detail = format!("`{field}` has more than {CARRIED} keys");
        return Err(Problem::too_large(field, CARRIED, detail));
    }
    keys.iter().map(|key| parse_key(field, key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(text: &str) -> Vec<Result<Action, Problem>> {
        let key = "k".repeat(22);
        let body = format!(r#"{{"client":"{key}","do":[{text}]}}"#);
        parse(body.as_bytes(), &ClientSettings::default()).expect("a request").actions
    }

    #[test]
    fn an_action_has_one_verb_and_only_its_own_fields() {
        for (text, expected) in [
            (r#"{"join":"/a","as":{"n":1},"last":2,"listen":false}"#, true),
            (r#"{"send":"/a","type":"t","data":[1.0,{"a":1,"a":2}],"echo":false}"#, true),
            (r#"{"set":"/a","patch":{"x":null},"if":0}"#, true),
            (r#"{"call":"f","data":1,"wait":3,"id":"c"}"#, true),
            (r#"{"reply":"c","problem":{"status":404}}"#, true),
            (r#"{"bye":true}"#, true),
            ("{}", false),
            ("7", false),
            (r#"{"join":"/a","leave":"/b"}"#, false),
            (r#"{"join":"/a","data":1}"#, false),
            (r#"{"join":"/a","as":[]}"#, false),
            (r#"{"set":"/a"}"#, false),
            (r#"{"reply":"c","data":1,"problem":{}}"#, false),
            (r#"{"fly":"/a"}"#, false),
            (r#"{"carry":["short"]}"#, false),
        ] {
            assert_eq!(actions(text)[0].is_ok(), expected, "{text}");
        }
        let Ok(Action::Send { data, .. }) =
            &actions(r#"{"send":"/a","data":[1.0,{"a":1,"a":2}]}"#)[0]
        else {
            panic!("a message")
        };
        assert_eq!(data, r#"[1.0,{"a":1,"a":2}]"#, "the data is passed on as it was sent");
    }

    #[test]
    fn keys_and_numbers_are_checked() {
        let settings = ClientSettings::default();
        let key = "k".repeat(22);
        for (body, field) in [
            (r#"{"do":[]}"#.to_owned(), Some("client")),
            (r#"{"client":"short","do":[]}"#.to_owned(), Some("client")),
            (format!(r#"{{"client":"{key}/","do":[]}}"#), Some("client")),
            (format!(r#"{{"client":"{key}"}}"#), Some("do")),
            (format!(r#"{{"client":"{key}","seq":0,"do":[]}}"#), Some("seq")),
            (format!(r#"{{"client":"{key}","seq":-1,"do":[]}}"#), Some("seq")),
            (format!(r#"{{"client":"{key}","seq":1.5,"do":[]}}"#), Some("seq")),
            (format!(r#"{{"client":"{key}","seq":18446744073709551616,"do":[]}}"#), Some("seq")),
            (format!(r#"{{"client":"{key}","seq":18446744073709551615,"do":[]}}"#), None),
        ] {
            let problem = parse(body.as_bytes(), &settings).err();
            let expected = field.map(|it| format!("`{it}`"));
            let detail = problem.map(|it| it.to_string());
            match (&detail, &expected) {
                (None, None) => {}
                (Some(detail), Some(field)) => assert!(detail.contains(field), "{body}: {detail}"),
                _ => panic!("{body}: {detail:?}"),
            }
        }
    }
}

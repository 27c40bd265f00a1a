//! The schemas of bodies and answers.

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};

use super::{
    schema_parts::{any, flag, number, object, optional, reference, text, texts},
    schemas_of_jobs::{job, question},
};

/// Returns all schemas by name.
pub(super) fn schemas() -> Vec<(&'static str, RefOr<Schema>)> {
    NAMES.iter().map(|name| (*name, parsed(schema(name)))).collect()
}

/// Whether there is a schema with this name.
pub(super) fn named(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Returns the schema of a parameter: `string`, `integer` or `boolean`.
pub(super) fn parameter_schema(kind: &str) -> RefOr<Schema> {
    parsed(json!({ "type": kind }))
}

fn parsed(schema: Value) -> RefOr<Schema> {
    serde_json::from_value(schema).expect("a constant that a test parses")
}

const NAMES: [&str; 34] = [
    "ClientRequest",
    "ClientReply",
    "ClientList",
    "ClientOrder",
    "ClientCall",
    "Gathered",
    "Ordered",
    "Update",
    "UpdateForm",
    "Updates",
    "Published",
    "Event",
    "PollReply",
    "State",
    "StatePatch",
    "StateChanged",
    "Problem",
    "NewJob",
    "Job",
    "JobList",
    "Claim",
    "Claimed",
    "Progress",
    "Report",
    "Reported",
    "Completion",
    "Failure",
    "Question",
    "Told",
    "Answer",
    "AnswerForm",
    "Ids",
    "Retried",
    "Place",
];

fn schema(name: &str) -> Value {
    match name {
        "Problem" => problem(),
        "Question" | "Told" | "Answer" | "AnswerForm" => question(name),
        "ClientRequest" | "ClientReply" => client(name),
        "ClientList" | "ClientOrder" | "ClientCall" | "Gathered" | "Ordered" => backend(name),
        "Update" | "UpdateForm" | "Updates" | "Published" | "Event" | "PollReply" => event(name),
        "State" | "StatePatch" | "StateChanged" => state(name),
        _ => job(name),
    }
}

fn state(name: &str) -> Value {
    match name {
        "State" => object(
            &["topic", "rev", "state", "cursor"],
            json!({
                "topic": text("The topic."),
                "rev": number("The revision; the entity tag begins with it."),
                "state": { "type": "object", "description": "The state." },
                "members": { "type": "object", "description": "By id of a client: `user` and \
                    `data`. Missing if they are too many (members.listed)." },
                "count": number("The number of members, if they are too many, or with a page."),
                "next": text("The value of `after` for the next page, if there is one."),
                "cursor": text("A stream from this cursor has every later change."),
            }),
        ),
        "StatePatch" => json!({
            "type": "object",
            "description": "Any JSON object. In a patch `null` removes a member, objects are \
                merged, and everything else replaces; arrays are replaced as a whole.",
        }),
        _ => object(&["rev"], json!({ "rev": number("The revision after the change.") })),
    }
}

fn client(name: &str) -> Value {
    let action = json!({
        "type": "object",
        "description": "One of `join`, `leave`, `send`, `set`, `call`, `emit`, `reply`, `callback`, `cancel`, `bye`, `carry`, `drop`, with its own fields.",
    });
    let result = json!({ "type": "object", "description": "The result, or `problem`." });
    match name {
        "ClientRequest" => json!({
            "type": "object",
            "required": ["client", "do"],
            "properties": {
                "client": text("The key that the client made up: 22 to 128 of A-Z a-z 0-9 - _."),
                "seq": number("The number of an ordered request: 1, 2, 3 and so on."),
                "id": text("By which a request without `seq` is known if it is repeated."),
                "stream": text("The stream that the client hears, from its hello."),
                "do": { "type": "array", "items": action },
            },
        }),
        _ => json!({
            "type": "object",
            "properties": {
                "seq": number("That of the request."),
                "did": { "type": "array", "items": result },
            },
        }),
    }
}

fn backend(name: &str) -> Value {
    let object = |description: &str| json!({ "type": "object", "description": description });
    match name {
        "ClientList" => json!({
            "type": "object",
            "properties": {
                "count": number("All that were asked for."),
                "clients": { "type": "array", "items": object("`id`, `user`, `transport`, `topics`.") },
                "next": optional("string", "The `after` of the next page."),
            },
        }),
        "ClientOrder" => json!({
            "type": "object",
            "properties": {
                "join": text("A topic to join."),
                "as": object("What the client shows of itself there."),
                "leave": text("A topic to leave."),
                "set": object("A merge patch for the state of the client's own topic."),
                "send": object("A message with `type` and `data`."),
                "end": flag("Whether the client ends."),
            },
        }),
        "ClientCall" => json!({
            "type": "object",
            "required": ["to", "call"],
            "properties": {
                "to": object("`client` with an id, or `topic`."),
                "call": text("The name of the handler in the page."),
                "data": any("What the handler gets."),
                "wait": number("Seconds to wait for the replies, at most 60; 20 by default."),
            },
        }),
        "Gathered" => json!({
            "type": "object",
            "properties": {
                "replies": object("By client: `data`, or `problem`."),
                "missing": texts("The clients that have not replied."),
            },
        }),
        _ => json!({
            "type": "object",
            "properties": { "id": text("Of the message."), "rev": number("Of the state.") },
        }),
    }
}

fn problem() -> Value {
    object(
        &["type", "title", "status", "detail"],
        json!({
            "type": text("`urn:tidegate:problem:` and the reason, which also counts in \
                `tidegate_requests_refused_total`."),
            "title": text("The kind of problem in a few words."),
            "status": number("The status of the response."),
            "detail": text("What was wrong and what would be right."),
            "field": text("The field, parameter or header."),
            "limit": number("The limit that was exceeded."),
            "errors": { "type": "array", "items": { "type": "object" }, "description": "What is \
                wrong with several fields: `field` and `detail`." },
            "instance": text("An id under which the gateway's log says more."),
        }),
    )
}

fn event(name: &str) -> Value {
    let shared = |topics: &str, topics_schema: Value| {
        let mut properties = json!({
            "data": text("The payload; empty if missing."),
            "id": text("The id of the event; a random `urn:uuid:` if missing."),
            "type": text("The SSE event type."),
            "private": flag("Whether only subscribers with a grant receive it."),
            "retry": number("The reconnection time for clients, in milliseconds."),
        });
        properties[topics] = topics_schema;
        properties
    };
    match name {
        "Update" => {
            let mut properties =
                shared("topics", texts("At least one; the first is the canonical one."));
            properties["data"] = any("Text, or any JSON, which subscribers receive byte for byte.");
            properties["except"] =
                texts("Keys (`client`) of subscribers that must not receive it.");
            object(&["topics"], properties)
        }
        "UpdateForm" => {
            let topics = texts("At least one; repeat the field for more.");
            let mut properties = shared("topic", topics);
            properties["private"] =
                text("Any value, such as `on`, makes the update private, as in Mercure.");
            properties["except"] = texts("Keys (`client`) of subscribers to leave out.");
            object(&["topic"], properties)
        }
        "Updates" => json!({ "oneOf": [
            reference("Update"), { "type": "array", "items": reference("Update") },
        ] }),
        "Published" => {
            object(&["ids"], json!({ "ids": texts("The ids of the events, in order.") }))
        }
        "Event" => object(
            &["id", "type", "data", "topics", "retry", "time"],
            json!({
                "id": text("The id of the event."),
                "type": optional("string", "The SSE event type."),
                "data": text("The payload. JSON that was published arrives as text."),
                "topics": texts("The topics that the subscriber may see."),
                "retry": optional("integer", "A reconnection time in milliseconds."),
                "time": text("When the gateway accepted it (RFC 3339). A `tidegate.gap` has none."),
                "private": flag("True for a private event; otherwise missing."),
                "from": text("The id of the client that sent it, if a client did."),
            }),
        ),
        _ => object(
            &["events", "cursor", "next", "more"],
            json!({
                "events": { "type": "array", "items": reference("Event") },
                "cursor": text("A cursor token for the position reached."),
                "next": text("The address of the next poll."),
                "more": flag("Whether there may be more events at once."),
            }),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_schema_is_lost() {
        for name in NAMES {
            let parsed = serde_json::to_value(parsed(schema(name))).expect("JSON");
            assert_eq!(parsed, schema(name), "{name}");
        }
    }
}

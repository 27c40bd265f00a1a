//! The schemas of bodies and answers.

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};

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

const NAMES: [&str; 27] = [
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
];

fn schema(name: &str) -> Value {
    match name {
        "Problem" => problem(),
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

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn texts(description: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": description })
}

fn number(description: &str) -> Value {
    json!({ "type": "integer", "description": description })
}

fn flag(description: &str) -> Value {
    json!({ "type": "boolean", "description": description })
}

/// Any JSON. The library reads no schema without a type.
fn any(description: &str) -> Value {
    let types = ["object", "array", "string", "number", "boolean", "null"];
    json!({ "type": types, "description": description })
}

fn optional(kind: &str, description: &str) -> Value {
    json!({ "type": [kind, "null"], "description": description })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn object(required: &[&str], properties: Value) -> Value {
    let mut schema = json!({ "type": "object" });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema["properties"] = properties;
    schema
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

fn job(name: &str) -> Value {
    match name {
        "NewJob" => object(
            &["type"],
            json!({
                "type": text("1 to 64 letters, digits, hyphens, underscores or dots."),
                "title": text("At most 256 bytes; the type if missing."),
                "payload": any("Any JSON for the worker (jobs.payload_bytes)."),
                "key": text("At most 256 bytes; one open job for each key of a type."),
            }),
        ),
        "Job" => object(
            &["id", "type", "title", "state", "version"],
            json!({
                "id": text("Unguessable: knowing it is the right to see the job."),
                "type": text("The type."),
                "title": text("The title."),
                "state": { "type": "string", "enum": [
                    "queued", "running", "cancelling", "succeeded", "failed", "cancelled", "lost",
                ] },
                "attempt": number("The current attempt, from 1 on; 0 before the first."),
                "max_attempts": number("After how many the job is lost or failed."),
                "created_at": text("RFC 3339, in UTC, with milliseconds, like all times."),
                "started_at": optional("string", "When the current attempt began."),
                "ended_at": optional("string", "When the job ended."),
                "now": text("The gateway's time."),
                "progress": reference("Progress"),
                "error": { "type": ["object", "null"], "description": "A problem document." },
                "result": optional("string", "The address of the result."),
                "log": object(&[], json!({
                    "href": text("The address of the log."),
                    "start": number("The first byte that is kept."),
                    "length": number("The end of the log in bytes."),
                })),
                "retryable": flag("Whether the job can be retried."),
                "version": number("Grows with each change; the entity tag."),
            }),
        ),
        "JobList" => object(
            &["jobs", "counts", "oldest_queued_seconds", "before"],
            json!({
                "jobs": { "type": "array", "items": reference("Job") },
                "counts": { "type": "object", "description": "Jobs by type and state." },
                "oldest_queued_seconds": { "type": "object", "description": "By type." },
                "before": optional("string", "`before` of the next page, if there may be one."),
            }),
        ),
        "Claim" => object(
            &["types"],
            json!({
                "types": texts("At most 100 types."),
                "wait": number("Seconds to wait for a job (jobs.max_wait)."),
            }),
        ),
        "Claimed" => object(
            &["job", "lease", "lease_seconds", "report_seconds"],
            json!({
                "job": object(&["id", "type"], json!({
                    "id": text("The id."),
                    "type": text("The type."),
                    "title": text("The title."),
                    "payload": any("What the creator sent."),
                    "attempt": number("This attempt, from 1 on."),
                    "max_attempts": number("The last attempt."),
                    "log_length": number("Where the next text of the log begins."),
                })),
                "lease": text("The value of `Tidegate-Lease` in every report."),
                "lease_seconds": { "type": "number" },
                "report_seconds": { "type": "number", "description": "How often to report." },
            }),
        ),
        "Progress" => object(
            &[],
            json!({
                "percent": optional("number", "0 to 100, if the total is known."),
                "done": { "type": "number" },
                "total": optional("number", "As the worker reported."),
                "stage": optional("string", "As the worker reported."),
                "message": optional("string", "As the worker reported."),
                "estimate_seconds": optional("number", "The estimated remaining time."),
            }),
        ),
        "Report" => object(
            &["seq"],
            json!({
                "seq": number("Grows with each report of an attempt."),
                "done": { "type": "number", "description": "0 or more, in any unit." },
                "total": optional("number", "Missing if unknown."),
                "stage": optional("string", "The current stage of the work."),
                "message": optional("string", "A message for people."),
            }),
        ),
        "Reported" => object(
            &["state", "cancel", "log_length", "report_seconds"],
            json!({
                "state": text("The state of the job."),
                "cancel": flag("Whether the worker should stop."),
                "log_length": number("Where the next text of the log begins."),
                "report_seconds": { "type": "number", "description": "How often to report." },
            }),
        ),
        "Completion" => object(
            &[],
            json!({
                "result": any("Any JSON (jobs.result_bytes)."),
                "link": text("A path of this server, or in `jobs.result_origins`, instead."),
            }),
        ),
        _ => object(
            &[],
            json!({
                "problem": { "type": "object", "description": "A problem document." },
                "retryable": flag("Whether another attempt may succeed."),
                "given_back": flag("The worker stops; the attempt does not count."),
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

//! The schemas of jobs and their questions.

use serde_json::{Value, json};

use super::schema_parts::{any, flag, number, object, optional, reference, text, texts};

pub(super) fn question(name: &str) -> Value {
    match name {
        "Question" => object(
            &["ask", "title", "fields"],
            json!({
                "ask": text("1 to 64 letters, digits, hyphens, underscores or dots."),
                "title": text("What people are asked."),
                "fields": { "type": "array", "items": object(&["name", "type"], json!({
                    "name": text("The name of the value."),
                    "type": { "type": "string", "enum": ["confirm", "choice", "text"] },
                    "label": text("What people see; the name if missing."),
                    "required": { "type": "boolean", "description": "True if missing." },
                    "choices": { "type": "array", "items": { "type": "string" } },
                    "max": number("The longest text in characters; 500 if missing."),
                })) },
                "until": number("Seconds to wait for an answer (jobs.ask_time)."),
                "otherwise": { "type": "object", "description": "The answer if none came." },
            }),
        ),
        "Told" => object(
            &["state", "cancel", "ask", "answer"],
            json!({
                "state": text("The state of the job."),
                "cancel": { "type": "boolean", "description": "Whether the worker should stop." },
                "log_length": number("Where the next text of the log begins."),
                "report_seconds": { "type": "number", "description": "How often to report." },
                "ask": text("The question."),
                "answer": optional("object", "`values`, `by`, `at` and `otherwise`."),
            }),
        ),
        "Answer" => json!({
            "type": "object",
            "description": "The values by the names of the fields.",
            "additionalProperties": { "type": ["boolean", "string", "null"] },
        }),
        _ => object(&[], json!({ "FIELD": any("`yes` or `no`, a choice, or text.") })),
    }
}

pub(super) fn job(name: &str) -> Value {
    match name {
        "Ids" => object(&["id"], json!({ "id": texts("The jobs.") })),
        "Retried" => object(
            &["retried", "refused"],
            json!({
                "retried": texts("The jobs that are queued again."),
                "refused": { "type": "array", "items": { "type": "object" }, "description":
                    "The others: `id` and `detail`." },
            }),
        ),
        "Place" => object(
            &[],
            json!({
                "ahead": number("Jobs of its type that are claimed before it."),
                "has_worker": flag("Whether a worker seems to be there."),
            }),
        ),
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
                    "queued", "running", "waiting", "cancelling", "succeeded", "failed", "cancelled", "lost",
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
                "link": optional("string", "Where the result leads, if it is elsewhere."),
                "log": object(&[], json!({
                    "href": text("The address of the log."),
                    "start": number("The first byte that is kept."),
                    "length": number("The end of the log in bytes."),
                })),
                "question": { "type": ["object", "null"], "description": "The open question: \
                    `ask`, `title`, `fields`, `asked_at`, `until`, `otherwise`." },
                "answers": { "type": "array", "items": { "type": "object" }, "description":
                    "The answers so far: `ask`, `title`, `values`, `by`, `at`, `otherwise`." },
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
                "oldest_question_seconds": { "type": "object", "description": "By type." },
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
                    "answers": { "type": "object", "description": "By question, so far." },
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

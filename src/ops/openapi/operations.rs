//! What the tables of operations are made of.

use utoipa::openapi::path::ParameterIn::{self, Header, Path, Query};

/// A method of a path.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// The path as `src/server/routes.rs` writes it.
    pub(super) pattern: &'static str,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    pub(super) parameters: &'static [&'static [Parameter]],
    /// Media types and the names of schemas.
    pub(super) bodies: &'static [(&'static str, &'static str)],
    pub(super) answers: &'static [Answer],
}

/// A parameter of an operation.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: ParameterIn,
    pub(super) kind: &'static str,
    pub(super) is_required: bool,
    pub(super) what: &'static str,
}

/// An answer of an operation.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) what: &'static str,
    /// Media types and the names of schemas.
    pub(super) contents: &'static [(&'static str, &'static str)],
    pub(super) is_problem: bool,
}

pub(super) const PROBLEM: &str = "application/problem+json";
pub(super) const JSON: &str = "application/json";
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const STREAM: &str = "text/event-stream";
pub(super) const SCRIPT: &str = "application/javascript; charset=utf-8";

/// Groups of operations.
pub(super) const TAGS: &[(&str, &str)] = &[
    ("publish", "Post updates."),
    ("subscribe", "Receive events over EventSource, a forever iframe or long poll."),
    ("state", "One JSON object for each topic, and who is present."),
    ("subscriptions", "Who is subscribed, with `mercure.subscriptions`."),
    ("clients", "What pages and programs do: join topics, send, set state, call."),
    ("jobs", "Long work: create, claim, report, watch."),
    ("operations", "Pages, health, metrics and descriptions."),
];

pub(super) const fn answer(
    status: u16,
    what: &'static str,
    contents: &'static [(&'static str, &'static str)],
) -> Answer {
    Answer { status, what, contents, is_problem: false }
}

pub(super) const fn refusal(status: u16, what: &'static str) -> Answer {
    Answer { status, what, contents: &[], is_problem: true }
}

pub(super) const fn parameter(
    name: &'static str,
    place: ParameterIn,
    kind: &'static str,
    what: &'static str,
) -> Parameter {
    Parameter { name, place, kind, is_required: false, what }
}

pub(super) const fn segment(name: &'static str, what: &'static str) -> Parameter {
    Parameter { name, place: Path, kind: "string", is_required: true, what }
}

/// The answers of every operation.
pub(super) const COMMON: &[Answer] = &[
    refusal(403, "The token does not grant this, or pages of this origin may not do it."),
    refusal(421, "The `Host` is not one of the gateway's (server.hosts)."),
    refusal(500, "A fault of the gateway; its log says more."),
    refusal(
        503,
        "Something is full, or the gateway is stopping. `Retry-After` says when to retry.",
    ),
];

pub(super) const BAD: Answer =
    refusal(400, "A parameter, field or header breaks a rule, or the token is unreadable.");
pub(super) const NO_TOKEN: Answer = refusal(401, "A token is missing or not valid.");
pub(super) const NOT_FOUND: Answer = refusal(404, "There is nothing at this address.");
pub(super) const NOT_ACCEPTABLE: Answer = refusal(406, "It cannot send what `Accept` names.");
pub(super) const SLOW: Answer =
    refusal(408, "The body did not arrive in time (server.body_timeout).");
pub(super) const LARGE: Answer = refusal(413, "The body or a field exceeds its limit.");
pub(super) const MEDIA_TYPE: Answer =
    refusal(415, "The `Content-Type` is none of those that the body may have.");
pub(super) const CROWDED: Answer =
    refusal(429, "Too much from this address (limits.subscribers_per_address and others).");
pub(super) const UNCHANGED: Answer = answer(304, "Nothing new for the `If-None-Match`.", &[]);
pub(super) const GONE: Answer = refusal(410, "The job is over and forgotten.");

pub(super) const MATCHERS: &[Parameter] = &[
    parameter("topic", Query, "string", "A topic, a URI template or `*`; may be repeated."),
    parameter(
        "match",
        Query,
        "string",
        "A topic exactly, or `*`; may be repeated. One of these is needed.",
    ),
    parameter("match_exact", Query, "string", "The same as `match`."),
    parameter("match_urlpattern", Query, "string", "A URL pattern."),
    parameter("match_uritemplate", Query, "string", "A URI template."),
];

pub(super) const START: &[Parameter] = &[
    parameter(
        "last_event_id",
        Query,
        "string",
        "Resume after this id or cursor token; `earliest` for all.",
    ),
    parameter("Last-Event-ID", Header, "string", "The same as a header, which wins."),
    parameter(
        "last",
        Query,
        "integer",
        "Without a cursor: begin with so many events (limits.backlog).",
    ),
    parameter(
        "since",
        Query,
        "string",
        "Without a cursor: begin with events since this time (RFC 3339).",
    ),
    parameter("client", Query, "string", "A key: updates with it in `except` are left out."),
    parameter("authorization", Query, "string", "A token, for old clients (mercure.compat)."),
];

pub(super) const HEARTBEAT: Parameter =
    parameter("heartbeat", Query, "string", "`event`: heartbeats are events `tidegate.heartbeat`.");

/// The parameters of streams for clients.
pub(super) const CLIENT: &[Parameter] = &[
    parameter(
        "client",
        Query,
        "string",
        "The key that a client made up. Updates that except it are left out.",
    ),
    parameter(
        "hello",
        Query,
        "string",
        "`event`: the stream of a client, which begins with `tidegate.hello`. No topic is needed.",
    ),
    parameter("Tidegate-Client", Header, "string", "The client's key, instead of `client`."),
    parameter("trial", Query, "string", "`1`: nothing but heartbeats until the client names it."),
];

pub(super) const FORMAT: Parameter =
    parameter("format", Query, "string", "`json`: each event is one JSON object.");
pub(super) const PADDING: Parameter =
    parameter("padding", Query, "string", "Bytes of a comment at the beginning, such as `2KiB`.");

pub(super) const WAIT: Parameter =
    parameter("Prefer", Header, "string", "`wait=10`: wait up to so many seconds.");
pub(super) const KNOWN: Parameter =
    parameter("If-None-Match", Header, "string", "The entity tag that the client has.");
pub(super) const KEY: Parameter = parameter(
    "Idempotency-Key",
    Header,
    "string",
    "A repetition with this key gets the first reply.",
);
pub(super) const LEASE: Parameter = Parameter {
    name: "Tidegate-Lease",
    place: Header,
    kind: "string",
    is_required: true,
    what: "The lease from the claim.",
};
pub(super) const JOB: Parameter = segment("id", "The id of the job.");

//! Publishing, subscribing, and the list of subscriptions.

use utoipa::openapi::path::ParameterIn::Query;

use super::operations::{
    Answer, BAD, CLIENT, CROWDED, FORM, FORMAT, HEARTBEAT, HTML, JSON, KEY, KNOWN, LARGE, MATCHERS,
    MEDIA_TYPE, NO_TOKEN, NOT_ACCEPTABLE, NOT_FOUND, Operation, PADDING, Parameter, SCRIPT, SLOW,
    START, STREAM, TEXT, UNCHANGED, WAIT, answer, parameter, refusal, segment,
};

const CALLBACK: Parameter = parameter(
    "callback",
    Query,
    "string",
    "The function of a parent page of the same origin. This or `origin` is needed.",
);
const ORIGIN: Parameter = parameter(
    "origin",
    Query,
    "string",
    "The origin of the parent page, which gets messages: the gateway's own or one of cors.origins.",
);
const WAITS: Parameter = parameter("wait", Query, "integer", "Seconds to wait (poll.max_wait).");
const SESSION: Parameter = parameter("session", Query, "string", "From `next`: the poll session.");
const SCRIPT_CALLBACK: Parameter =
    parameter("callback", Query, "string", "The function for JSONP (poll.jsonp).");
const TYPE: Parameter = parameter("type", Query, "string", "Only matchers of this type.");
const PREFIX: Parameter = parameter("prefix", Query, "string", "Only matchers with this prefix.");
const COUNT: Parameter = parameter("count", Query, "boolean", "Only the number.");
const LIMIT: Parameter = parameter("limit", Query, "integer", "1 to 10000, which is the default.");
const AFTER: Parameter = parameter("after", Query, "string", "From `next`: the last one shown.");
const MATCH_TYPE: Parameter = segment("match_type", "`exact`, `urlpattern` or `uritemplate`.");
const MATCH: Parameter = segment("match", "The matcher.");
const SUBSCRIBER: Parameter = segment("subscriber", "The public id of the subscriber.");

const STREAMED: &[Answer] = &[
    answer(
        200,
        "Events until the stream ends; then reconnect with the last id. `HEAD` and `QUERY` \
        (with the parameters as a form in the body) are understood as well.",
        &[(STREAM, "text")],
    ),
    BAD,
    NO_TOKEN,
    NOT_FOUND,
    NOT_ACCEPTABLE,
    SLOW,
    LARGE,
    MEDIA_TYPE,
    CROWDED,
];

const PUBLISHED: &[Answer] = &[
    answer(
        200,
        "The id of the event, as text; for JSON the ids.",
        &[(TEXT, "text"), (JSON, "Published")],
    ),
    BAD,
    NO_TOKEN,
    SLOW,
    refusal(409, "The first request with this `Idempotency-Key` is not answered yet."),
    LARGE,
    MEDIA_TYPE,
    refusal(422, "The `Idempotency-Key` belongs to another request."),
    CROWDED,
];

const SUBSCRIPTIONS: &[Answer] = &[
    answer(
        200,
        "A list, a number or one subscription; see docs/subscriptions.md.",
        &[(JSON, "text"), ("application/ld+json", "text")],
    ),
    UNCHANGED,
    BAD,
    NO_TOKEN,
    NOT_FOUND,
];

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: "/events",
        pattern: "/events",
        id: "subscribe",
        tag: "subscribe",
        summary: "Subscribe over EventSource",
        description: "An `Accept` of anything but text/event-stream is refused. JSON that was published arrives as text. A typed event needs `addEventListener` for its type. `tidegate.gap` says where events may be missing.",
        parameters: &[MATCHERS, START, CLIENT, &[HEARTBEAT, FORMAT, PADDING]],
        bodies: &[],
        answers: STREAMED,
    },
    Operation {
        method: "POST",
        path: "/events",
        pattern: "/events",
        id: "publish",
        tag: "publish",
        summary: "Publish updates",
        description: "All updates of a request are published or none.",
        parameters: &[&[KEY]],
        bodies: &[(FORM, "UpdateForm"), (JSON, "Updates")],
        answers: PUBLISHED,
    },
    Operation {
        method: "GET",
        path: "/.well-known/mercure",
        pattern: "/.well-known/mercure",
        id: "subscribeAtHub",
        tag: "subscribe",
        summary: "Subscribe over EventSource, as a Mercure hub",
        description: "The same as `/events`. See docs/mercure.md.",
        parameters: &[MATCHERS, START, CLIENT, &[HEARTBEAT, FORMAT, PADDING]],
        bodies: &[],
        answers: STREAMED,
    },
    Operation {
        method: "POST",
        path: "/.well-known/mercure",
        pattern: "/.well-known/mercure",
        id: "publishAtHub",
        tag: "publish",
        summary: "Publish an update, as a Mercure hub",
        description: "The same as `/events` for forms only.",
        parameters: &[&[KEY]],
        bodies: &[(FORM, "UpdateForm")],
        answers: PUBLISHED,
    },
    Operation {
        method: "GET",
        path: "/iframe",
        pattern: "/iframe",
        id: "openIframe",
        tag: "subscribe",
        summary: "Subscribe over a forever iframe",
        description: "An endless document whose script passes events on to the page around it.",
        parameters: &[MATCHERS, START, CLIENT, &[HEARTBEAT, CALLBACK, ORIGIN]],
        bodies: &[],
        answers: &[
            answer(200, "A document that never ends.", &[(HTML, "text")]),
            BAD,
            NO_TOKEN,
            NOT_FOUND,
            CROWDED,
        ],
    },
    Operation {
        method: "GET",
        path: "/poll",
        pattern: "/poll",
        id: "poll",
        tag: "subscribe",
        summary: "Subscribe over long poll",
        description: "Answers at once if there are events, else when there is one or the time is over. Resolve `next` against the address of the request.",
        parameters: &[MATCHERS, START, CLIENT, &[WAITS, SESSION, SCRIPT_CALLBACK, WAIT, KNOWN]],
        bodies: &[],
        answers: &[
            answer(
                200,
                "Events, and the address of the next poll.",
                &[(JSON, "PollReply"), (SCRIPT, "text")],
            ),
            answer(304, "No new event for the cursor in `If-None-Match`.", &[]),
            BAD,
            NO_TOKEN,
            NOT_FOUND,
            CROWDED,
        ],
    },
    Operation {
        method: "GET",
        path: "/.well-known/mercure/subscriptions",
        pattern: "/.well-known/mercure/subscriptions{rest:.*}",
        id: "listSubscriptions",
        tag: "subscriptions",
        summary: "List subscriptions",
        description: "Needs `mercure.subscriptions`, and a grant to subscribe to this path.",
        parameters: &[&[TYPE, PREFIX, COUNT, LIMIT, AFTER, KNOWN]],
        bodies: &[],
        answers: SUBSCRIPTIONS,
    },
    Operation {
        method: "GET",
        path: "/.well-known/mercure/subscriptions/{match_type}/{match}",
        pattern: "/.well-known/mercure/subscriptions{rest:.*}",
        id: "listSubscriptionsOfMatcher",
        tag: "subscriptions",
        summary: "List the subscriptions with a matcher",
        description: "Needs `mercure.subscriptions`, and a grant to subscribe to this path.",
        parameters: &[&[MATCH_TYPE, MATCH, COUNT, LIMIT, AFTER, KNOWN]],
        bodies: &[],
        answers: SUBSCRIPTIONS,
    },
    Operation {
        method: "GET",
        path: "/.well-known/mercure/subscriptions/{match_type}/{match}/{subscriber}",
        pattern: "/.well-known/mercure/subscriptions{rest:.*}",
        id: "showSubscription",
        tag: "subscriptions",
        summary: "Show a subscription",
        description: "Needs `mercure.subscriptions`, and a grant to subscribe to this path.",
        parameters: &[&[MATCH_TYPE, MATCH, SUBSCRIBER, KNOWN]],
        bodies: &[],
        answers: SUBSCRIPTIONS,
    },
];

//! The state of topics.

use utoipa::openapi::path::ParameterIn::{Header, Query};

use super::operations::{
    Answer, BAD, JSON, KEY, KNOWN, LARGE, MEDIA_TYPE, NO_TOKEN, Operation, Parameter, SLOW,
    UNCHANGED, answer, parameter, refusal,
};

const TOPIC: Parameter = Parameter {
    name: "topic",
    place: Query,
    kind: "string",
    is_required: true,
    what: "The topic, exactly.",
};
const MEMBERS: Parameter =
    parameter("members", Query, "string", "`page`: a page of the members, with their number.");
const AFTER: Parameter = parameter("after", Query, "string", "From `next`: the last one shown.");
const LIMIT: Parameter =
    parameter("limit", Query, "integer", "Members on a page: 1 to 1000, 100 if missing.");
const AT: Parameter = parameter(
    "If-Match",
    Header,
    "string",
    "The revision that the state must have, such as `\"12\"`, or the entity tag.",
);
const NEW: Parameter =
    parameter("If-None-Match", Header, "string", "`*`: there must be no state yet.");

const MERGE_PATCH: &str = "application/merge-patch+json";

const CHANGED: &[Answer] = &[
    answer(200, "The revision after the change.", &[(JSON, "StateChanged")]),
    BAD,
    NO_TOKEN,
    SLOW,
    refusal(409, "The first request with this `Idempotency-Key` is not answered yet."),
    refusal(412, "The state has another revision; `rev` and `state` are in the problem."),
    LARGE,
    MEDIA_TYPE,
    refusal(422, "The `Idempotency-Key` belongs to another request."),
    refusal(429, "Too much from this address (limits.bodies_bytes_per_address)."),
];

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: "/state",
        pattern: "/state",
        id: "showState",
        tag: "state",
        summary: "Show the state of a topic, and its members",
        description: "A topic without state has an empty one. Then listen for `tidegate.change` from `cursor` on, and apply a change if its `rev` is the next. See docs/state.md.",
        parameters: &[&[TOPIC, MEMBERS, AFTER, LIMIT, KNOWN]],
        bodies: &[],
        answers: &[
            answer(200, "The state and the members.", &[(JSON, "State")]),
            UNCHANGED,
            BAD,
            NO_TOKEN,
        ],
    },
    Operation {
        method: "PATCH",
        path: "/state",
        pattern: "/state",
        id: "patchState",
        tag: "state",
        summary: "Merge a patch into the state of a topic",
        description: "RFC 7396. Needs a grant to publish on the topic. A patch that changes nothing is not told.",
        parameters: &[&[TOPIC, AT, NEW, KEY]],
        bodies: &[(MERGE_PATCH, "StatePatch"), (JSON, "StatePatch")],
        answers: CHANGED,
    },
    Operation {
        method: "PUT",
        path: "/state",
        pattern: "/state",
        id: "putState",
        tag: "state",
        summary: "Put an object in the place of the state of a topic",
        description: "Needs a grant to publish on the topic. Members that are `null` are left out.",
        parameters: &[&[TOPIC, AT, NEW, KEY]],
        bodies: &[(JSON, "StatePatch")],
        answers: CHANGED,
    },
    Operation {
        method: "DELETE",
        path: "/state",
        pattern: "/state",
        id: "removeState",
        tag: "state",
        summary: "Remove the state of a topic",
        description: "Needs a grant to publish on the topic. The members of the topic stay.",
        parameters: &[&[TOPIC, AT, NEW, KEY]],
        bodies: &[],
        answers: CHANGED,
    },
];

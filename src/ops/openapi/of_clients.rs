//! Clients: what pages and programs do.

use utoipa::openapi::path::ParameterIn::Query;

use super::operations::{
    Answer, BAD, CROWDED, JSON, LARGE, MEDIA_TYPE, NO_TOKEN, NOT_FOUND, Operation, Parameter, SLOW,
    answer, parameter, refusal, segment,
};

const ACTED: &[Answer] = &[
    answer(
        200,
        "What became of each action, in order: its result, or a `problem`.",
        &[(JSON, "ClientReply")],
    ),
    BAD,
    NO_TOKEN,
    SLOW,
    refusal(409, "`seq` is not the number of the client's next request, which is `expected`."),
    LARGE,
    MEDIA_TYPE,
    CROWDED,
];

const CALLED: &[Answer] = &[
    answer(200, "`replies` by client, and the `missing` clients.", &[(JSON, "Gathered")]),
    BAD,
    NO_TOKEN,
    NOT_FOUND,
    SLOW,
    refusal(409, "The caller has ended its side of the connection."),
    LARGE,
    MEDIA_TYPE,
    CROWDED,
];

const ORDERED: &[Answer] = &[
    answer(200, "`id` of a message, `rev` of a state.", &[(JSON, "Ordered")]),
    BAD,
    NO_TOKEN,
    NOT_FOUND,
    SLOW,
    LARGE,
    MEDIA_TYPE,
    CROWDED,
];

const TOPIC: Parameter =
    parameter("topic", Query, "string", "Only clients that have joined this topic.");
const AFTER: Parameter = parameter("after", Query, "string", "From `next`: the last one shown.");
const LIMIT: Parameter = parameter("limit", Query, "integer", "1 to 1000, which is the default.");

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: "/clients",
        pattern: "/clients",
        id: "listClients",
        tag: "clients",
        summary: "Who is here",
        description: "Needs a publish grant on `urn:tidegate:clients` by this name.",
        parameters: &[&[TOPIC, AFTER, LIMIT]],
        bodies: &[],
        answers: &[answer(200, "Some clients.", &[(JSON, "ClientList")]), BAD, NO_TOKEN, NOT_FOUND],
    },
    Operation {
        method: "POST",
        path: "/clients/{id}",
        pattern: "/clients/{id}",
        id: "orderClient",
        tag: "clients",
        summary: "Act on one client",
        description: "Makes it join or leave a topic, sends it a message, changes the state of its \
            own topic, or ends it. Needs a publish grant on `urn:tidegate:clients` by this name.",
        parameters: &[&[segment("id", "The client's public id.")]],
        bodies: &[(JSON, "ClientOrder")],
        answers: ORDERED,
    },
    Operation {
        method: "POST",
        path: "/calls",
        pattern: "/calls",
        id: "callClients",
        tag: "clients",
        summary: "Call clients and gather their replies",
        description: "Needs a publish grant on `urn:tidegate:calls` by this name.",
        parameters: &[],
        bodies: &[(JSON, "ClientCall")],
        answers: CALLED,
    },
    Operation {
        method: "POST",
        path: "/client",
        pattern: "/client",
        id: "act",
        tag: "clients",
        summary: "Act as a client",
        description: "Actions are done one after the other, and each succeeds or fails by itself. An \
        ordered request (`seq`) that is repeated goes on where it stopped. See docs/realtime.md.",
        parameters: &[],
        bodies: &[(JSON, "ClientRequest")],
        answers: ACTED,
    },
];

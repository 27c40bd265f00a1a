//! Pages, health, metrics and descriptions.

use super::operations::{
    Answer, BAD, HTML, JSON, KNOWN, NO_TOKEN, NOT_FOUND, Operation, Parameter, UNCHANGED, answer,
    parameter, segment,
};

use utoipa::openapi::path::ParameterIn::Query;

const PATH: Parameter = segment("path", "The name of the file.");
const PUBLISH: Parameter = parameter(
    "publish",
    Query,
    "string",
    "Whether nothing but publishing counts; its value does not matter.",
);
const RESOURCE: Parameter = segment("resource", "The path of the hub.");

/// The gateway answers 503 to what is not healthy, as to every operation.
const HEALTHY: &[Answer] = &[answer(200, "Healthy.", &[(JSON, "text")])];

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: "/",
        pattern: "/",
        id: "startPage",
        tag: "operations",
        summary: "Open the start page",
        description: "A page to publish and to listen.",
        parameters: &[],
        bodies: &[],
        answers: &[answer(200, "A page.", &[(HTML, "text")])],
    },
    Operation {
        method: "GET",
        path: "/static/{path}",
        pattern: "/static/{path:.*}",
        id: "asset",
        tag: "operations",
        summary: "Get a file that pages need",
        description: "Scripts, styles and pictures.",
        parameters: &[&[PATH, KNOWN]],
        bodies: &[],
        answers: &[
            answer(200, "The file.", &[("application/octet-stream", "text")]),
            UNCHANGED,
            NOT_FOUND,
        ],
    },
    Operation {
        method: "GET",
        path: "/health/live",
        pattern: "/health/live",
        id: "live",
        tag: "operations",
        summary: "Whether the process runs",
        description: "Always, if it answers.",
        parameters: &[],
        bodies: &[],
        answers: HEALTHY,
    },
    Operation {
        method: "GET",
        path: "/health/ready",
        pattern: "/health/ready",
        id: "ready",
        tag: "operations",
        summary: "Whether the gateway takes requests",
        description: "503 while it stops, or while nothing can be published. Of several nodes with \
                      one log, one is ready during a short absence of Redis, unless `publish` is \
                      given.",
        parameters: &[&[PUBLISH]],
        bodies: &[],
        answers: HEALTHY,
    },
    Operation {
        method: "GET",
        path: "/healthz",
        pattern: "/healthz",
        id: "healthz",
        tag: "operations",
        summary: "The same as /health/ready",
        description: "For Mercure's container images.",
        parameters: &[&[PUBLISH]],
        bodies: &[],
        answers: HEALTHY,
    },
    Operation {
        method: "GET",
        path: "/cluster",
        pattern: "/cluster",
        id: "cluster",
        tag: "operations",
        summary: "List the nodes that share a log",
        description: "With history.store = \"redis\". Needs a grant on `urn:tidegate:cluster`.",
        parameters: &[],
        bodies: &[],
        answers: &[answer(200, "The nodes.", &[(JSON, "text")]), BAD, NO_TOKEN, NOT_FOUND],
    },
    Operation {
        method: "GET",
        path: "/metrics",
        pattern: "/metrics",
        id: "metrics",
        tag: "operations",
        summary: "Read the metrics",
        description: "On the listener for operators alone, if there is one (ops.listen).",
        parameters: &[],
        bodies: &[],
        answers: &[
            answer(
                200,
                "OpenMetrics.",
                &[("application/openmetrics-text; version=1.0.0; charset=utf-8", "text")],
            ),
            NOT_FOUND,
        ],
    },
    Operation {
        method: "GET",
        path: "/openapi.json",
        pattern: "/openapi.json",
        id: "describe",
        tag: "operations",
        summary: "Read this description",
        description: "OpenAPI, with an entity tag.",
        parameters: &[&[KNOWN]],
        bodies: &[],
        answers: &[answer(200, "OpenAPI.", &[(JSON, "text")]), UNCHANGED],
    },
    Operation {
        method: "GET",
        path: "/.well-known/oauth-protected-resource/{resource}",
        pattern: "/.well-known/oauth-protected-resource/{hub:.*}",
        id: "metadata",
        tag: "operations",
        summary: "Read which tokens are accepted",
        description: "RFC 9728, for the resource `.well-known/mercure`.",
        parameters: &[&[RESOURCE]],
        bodies: &[],
        answers: &[answer(200, "The metadata.", &[(JSON, "text")]), NOT_FOUND],
    },
];

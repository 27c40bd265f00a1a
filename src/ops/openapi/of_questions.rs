//! Questions of jobs and their answers.

use utoipa::openapi::path::ParameterIn::Query;

use super::operations::{
    BAD, CROWDED, FORM, GONE, HTML, JOB, JSON, LARGE, LEASE, MEDIA_TYPE, NO_TOKEN, NOT_FOUND,
    Operation, PROBLEM, Parameter, SLOW, WAIT, answer, parameter, refusal, segment,
};

const ASK: Parameter = segment("ask", "The name of the question.");
const SECONDS: Parameter =
    parameter("wait", Query, "integer", "Seconds to wait for the answer (jobs.max_wait).");

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "POST",
        path: "/jobs/{id}/ask",
        pattern: "/jobs/{id}/ask",
        id: "askQuestion",
        tag: "jobs",
        summary: "Ask a question on the page of a job",
        description: "The job waits, and its lease does not expire meanwhile. Repeated, it is the same question.",
        parameters: &[&[JOB, LEASE]],
        bodies: &[(JSON, "Question")],
        answers: &[
            answer(
                200,
                "What the worker should know, and the answer if there is one.",
                &[(JSON, "Told")],
            ),
            BAD,
            NO_TOKEN,
            NOT_FOUND,
            SLOW,
            refusal(409, "The lease is stale, another question is open, or there were too many."),
            GONE,
            LARGE,
            CROWDED,
        ],
    },
    Operation {
        method: "GET",
        path: "/jobs/{id}/answers/{ask}",
        pattern: "/jobs/{id}/answers/{ask}",
        id: "awaitAnswer",
        tag: "jobs",
        summary: "Wait for an answer, as a worker",
        description: "Extends the lease.",
        parameters: &[&[JOB, ASK, LEASE, SECONDS, WAIT]],
        bodies: &[],
        answers: &[
            answer(
                200,
                "What the worker should know, and the answer if there is one.",
                &[(JSON, "Told")],
            ),
            BAD,
            NO_TOKEN,
            NOT_FOUND,
            refusal(409, "The lease is not the current one, or the job has ended."),
            GONE,
        ],
    },
    Operation {
        method: "POST",
        path: "/jobs/{id}/answers/{ask}",
        pattern: "/jobs/{id}/answers/{ask}",
        id: "answerQuestion",
        tag: "jobs",
        summary: "Answer a question",
        description: "Knowing the id is the permission, unless the type has `answers = \"granted\"`. The first answer counts; the same again gets the same reply. A form without scripts is redirected to the page of the job, or gets it again with what was wrong.",
        parameters: &[&[JOB, ASK]],
        bodies: &[(JSON, "Answer"), (FORM, "AnswerForm")],
        answers: &[
            answer(200, "The job.", &[(JSON, "Job")]),
            answer(303, "For text/html: the page of the job.", &[]),
            answer(
                400,
                "Fields are wrong: `errors` has each. A form gets the page.",
                &[(PROBLEM, "Problem"), (HTML, "text")],
            ),
            NO_TOKEN,
            NOT_FOUND,
            SLOW,
            answer(
                409,
                "It has another answer, or is over. A form gets the page.",
                &[(PROBLEM, "Problem"), (HTML, "text")],
            ),
            GONE,
            LARGE,
            MEDIA_TYPE,
            CROWDED,
        ],
    },
];

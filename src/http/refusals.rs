//! Refused requests: each is counted and logged, up to a number of lines per second.

use std::time::Instant;

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};
use tidegate_core::jobs::redact_paths;
use tracing::{error, info};

use super::client_address;
use crate::{gateway::Gateway, http::problem::Problem, telemetry::Line};

/// Records the responses that refuse a request.
pub(crate) async fn note_refusals<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let response = next.call(request).await?;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        note(&response);
    }
    Ok(response)
}

fn note<B>(response: &ServiceResponse<B>) {
    let request = response.request();
    let gateway = Gateway::of(request);
    let problem = response.response().error().and_then(|error| error.as_error::<Problem>());
    let reason = problem.map_or("internal", Problem::reason);
    gateway.metrics().refused(reason);
    let Line::Write(n_left_out) = gateway.refusal_lines().ask(Instant::now()) else { return };
    if 0 < n_left_out {
        info!(n_left_out, "more requests were refused than are logged (log.refusals_per_second)");
    }
    // Only the path is logged, because queries may contain access tokens.
    let (method, status) = (request.method().as_str(), response.status().as_u16());
    let path = loggable(request.path());
    let client = client_address(request, gateway.settings()).map(|it| it.to_string());
    let detail = problem.map(ToString::to_string).unwrap_or_default();
    let detail = loggable(&detail);
    // A client sees only the instance of a refused access token. The log adds the cause.
    let (cause, instance) = problem.and_then(Problem::cause).unzip();
    let is_fault =
        response.status().is_server_error() && !problem.is_some_and(Problem::is_for_lack_of_room);
    if is_fault {
        error!(method, %path, status, reason, client, %detail, "request failed");
    } else {
        info!(method, %path, status, reason, client, %detail, cause, instance, "request refused");
    }
}

/// Returns a client's text for the log, shortened and without the ids of jobs.
fn loggable(text: &str) -> String {
    const LONGEST: usize = 256;
    let redacted = redact_paths(text);
    match redacted.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &redacted[..end]),
        None => redacted.into_owned(),
    }
}

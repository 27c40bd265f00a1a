//! One log line and one count for each refused request.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};
use tracing::{error, info};

use super::public::client_address;
use crate::{gateway::Gateway, problem::Problem};

/// Notes the responses that refuse a request.
pub(super) async fn note_refusals<B: MessageBody>(
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
    // The path alone: queries may hold tokens.
    let (method, path, status) =
        (request.method().as_str(), request.path(), response.status().as_u16());
    let client = client_address(request, gateway.settings()).map(|it| it.to_string());
    let detail = problem.map(ToString::to_string).unwrap_or_default();
    // Why a token is no good is for the log alone; the client knows the refusal by its instance.
    let (cause, instance) = problem.and_then(Problem::cause).unzip();
    let is_fault =
        response.status().is_server_error() && !problem.is_some_and(Problem::is_for_lack_of_room);
    if is_fault {
        error!(method, path, status, reason, client, detail, "request failed");
    } else {
        info!(method, path, status, reason, client, detail, cause, instance, "request refused");
    }
}

//! Health checks: `/health/live` reports whether the process runs, `/health/ready` whether it
//! should receive requests.

use actix_web::{HttpRequest, HttpResponse};

use super::ForOperators;
use crate::{gateway::Gateway, http::problem::Problem};

/// Always healthy: a reply proves that the process runs.
pub(crate) async fn live() -> HttpResponse {
    healthy()
}

/// Reports whether the gateway can publish. It is not ready once it begins to stop.
///
/// # Errors
/// If the gateway is not ready.
pub(crate) async fn ready(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    if gateway.hub().is_draining() {
        return Err(Problem::unavailable("stopping", "the gateway is stopping"));
    }
    if let Some(trouble) = gateway.hub().trouble() {
        // The reason may name files and addresses.
        let is_for_operators = request.app_data::<ForOperators>().is_some();
        let detail = match gateway.settings().ops.listen.is_empty() || is_for_operators {
            true => format!("nothing can be published: {trouble}"),
            false => "nothing can be published; the listener for operators (ops.listen) says why"
                .to_owned(),
        };
        return Err(Problem::unavailable("history", detail));
    }
    Ok(healthy())
}

fn healthy() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .json(serde_json::json!({ "status": "ok" }))
}

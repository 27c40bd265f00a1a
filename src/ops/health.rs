//! Health: `/health/live` asks whether the process should go on, `/health/ready` whether it should get requests.

use actix_web::{HttpRequest, HttpResponse};

use crate::{gateway::Gateway, problem::Problem};

/// The process answers, so it lives.
pub async fn live() -> HttpResponse {
    healthy()
}

/// Ready until it begins to stop.
///
/// # Errors
/// While the gateway is stopping.
pub async fn ready(request: HttpRequest) -> Result<HttpResponse, Problem> {
    if Gateway::of(&request).hub().is_draining() {
        return Err(Problem::unavailable("stopping", "the gateway is stopping"));
    }
    Ok(healthy())
}

fn healthy() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .json(serde_json::json!({ "status": "ok" }))
}

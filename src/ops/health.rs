//! Health checks: `/health/live` reports whether the process runs, `/health/ready` whether it
//! should receive requests.

use actix_web::{HttpRequest, HttpResponse};

use super::ForOperators;
use crate::{gateway::Gateway, http::problem::Problem};

/// Always healthy: a reply proves that the process runs.
pub(crate) async fn live() -> HttpResponse {
    healthy()
}

/// Reports whether the gateway should get requests, or, with the parameter `publish`, whether it
/// can publish. It is not ready once it begins to stop. On several nodes, a short trouble of the
/// log concerns all alike, and only publishing.
///
/// # Errors
/// If the gateway is not ready.
pub(crate) async fn ready(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    if gateway.hub().is_draining() {
        return Err(Problem::unavailable("stopping", "the gateway is stopping"));
    }
    let is_strict =
        request.query_string().split('&').any(|it| it == "publish" || it.starts_with("publish="));
    let trouble = if is_strict { gateway.hub().trouble() } else { gateway.hub().unready() };
    if let Some(trouble) = trouble {
        // The reason may name files and addresses.
        let is_for_operators = request.app_data::<ForOperators>().is_some();
        let detail = match gateway.settings().ops.listen.is_empty() || is_for_operators {
            true => format!("nothing can be published: {trouble}"),
            false => "nothing can be published; the listener for operators (ops.listen) says why"
                .to_owned(),
        };
        return Err(Problem::unavailable("history", detail));
    }
    match gateway.cluster() {
        None => Ok(healthy()),
        // So that a balancer in front of nodes with different logs can be noticed.
        Some(cluster) => {
            Ok(answer(&serde_json::json!({ "status": "ok", "log": cluster.status().log })))
        }
    }
}

fn healthy() -> HttpResponse {
    answer(&serde_json::json!({ "status": "ok" }))
}

fn answer(body: &serde_json::Value) -> HttpResponse {
    HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(body)
}

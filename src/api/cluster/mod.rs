//! `GET /cluster`: the nodes that share a log, as this one sees them.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, ServiceConfig},
};

use crate::{
    gateway::Gateway,
    http::{access, problem::Problem, resource},
};

/// The right to see the nodes.
const RIGHT: &str = "urn:tidegate:cluster";

/// Adds the route.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config.service(
        resource("/cluster", "GET, HEAD, OPTIONS")
            .route(web::get().to(show_cluster))
            .route(web::head().to(show_cluster)),
    );
}

async fn show_cluster(request: HttpRequest) -> Result<HttpResponse, Problem> {
    access::subscriber(&request).await?.check_operator(RIGHT)?;
    let gateway = Gateway::of(&request);
    let cluster = gateway.cluster().ok_or_else(|| {
        Problem::not_found("this gateway shares no log with others (history.store)")
    })?;
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(cluster.status()))
}

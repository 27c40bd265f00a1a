//! `GET /metrics`.

use actix_web::{HttpRequest, HttpResponse};
use tidegate_core::event::Topic;

use super::ForOperators;
use crate::{gateway::Gateway, http::access};

/// Handles `GET /metrics`. Job types are shown only to operators, and to clients that may see the
/// list of jobs.
pub(crate) async fn metrics(request: HttpRequest) -> HttpResponse {
    let gateway = Gateway::of(&request);
    let may_see_types = request.app_data::<ForOperators>().is_some()
        || access::subscriber(&request).await.is_ok_and(|it| it.check(&Topic::of_jobs()).is_ok());
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .insert_header(("cache-control", "no-store"))
        .body(gateway.metrics().write(may_see_types))
}

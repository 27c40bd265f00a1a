//! A resource with a fixed set of methods.

use actix_web::{
    HttpResponse, Resource,
    http::{Method, header::ALLOW},
    web,
};

use super::problem::Problem;

/// Creates a resource that supports only the methods in `allow`, and reports them.
pub(crate) fn resource(path: &str, allow: &'static str) -> Resource {
    web::resource(path)
        .route(web::method(Method::OPTIONS).to(move || async move {
            HttpResponse::NoContent().insert_header((ALLOW, allow)).finish()
        }))
        .default_service(web::to(move || async move {
            Err::<HttpResponse, _>(Problem::method_not_allowed(allow))
        }))
}

//! `/state`: the state of a topic and the clients that are present, for pages and for backends.
//!
//! Reading needs what subscribing to the topic needs, and writing a publish grant for the topic. A
//! change is an event on the topic; see `docs/state.md`.

mod read;
mod request;
mod write;

use actix_web::web::{self, ServiceConfig};

use self::{
    read::show_state,
    write::{patch_state, put_state, remove_state},
};
use crate::http::resource;

/// Registers the route.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config.service(
        resource("/state", "GET, HEAD, PATCH, PUT, DELETE, OPTIONS")
            .route(web::get().to(show_state))
            .route(web::head().to(show_state))
            .route(web::patch().to(patch_state))
            .route(web::put().to(put_state))
            .route(web::delete().to(remove_state)),
    );
}

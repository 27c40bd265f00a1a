//! All routes of the gateway.

use actix_cors::Cors;
use actix_web::{
    HttpRequest, HttpResponse, Resource, Route, Scope, guard,
    middleware::{Condition, from_fn},
    web::{self, ServiceConfig},
};
use actix_web_lab::middleware::CatchPanic;
use tidegate_core::delivery::Shard;

use crate::{
    api::{
        clients, cluster, jobs,
        publish::{publish_event, publish_form},
        state,
        subscribe::{
            open_iframe, open_sse, poll_events, probe_iframe, probe_poll, probe_sse, query_sse,
        },
        subscriptions,
    },
    gateway::Gateway,
    http::{
        guard::{QUERY, guard as keep_out},
        metadata::metadata,
        origin::note_refused_origins,
        problem::Problem,
        refusals::note_refusals,
        resource,
    },
    ops, pages,
    settings::origins,
};

impl Gateway {
    /// Adds the gateway's routes at the root, and answers every other path as well.
    pub(super) fn configure_all(&self, config: &mut ServiceConfig) {
        self.configure_scope(config, web::scope(""), true);
    }

    /// Adds the gateway's routes in a scope, which answers what none of them matches.
    pub(super) fn configure_scope(
        &self,
        config: &mut ServiceConfig,
        scope: Scope,
        has_operations: bool,
    ) {
        let settings = self.settings();
        let has_cors = settings.auth.is_development() || !settings.cors.origins.is_empty();
        // A shard's subscribers live on the thread that serves them.
        config.app_data(Shard::of_this_thread(self.hub()));
        config.app_data(self.clone());
        let scope = scope
            .configure(add_subscribe_and_publish)
            .service(readable("/.well-known/oauth-protected-resource/{hub:.*}", metadata))
            .service(readable("/", pages::start))
            .service(readable("/static/{path:.*}", pages::asset))
            .configure(|config| {
                if has_operations && settings.ops.listen.is_empty() {
                    config.service(readable("/metrics", ops::metrics));
                }
                if has_operations {
                    add_health(config);
                }
                config.service(readable("/openapi.json", ops::describe));
                if self.subscriptions().is_some() {
                    subscriptions::configure(config);
                }
            })
            .configure(|config| {
                if self.cluster().is_none() {
                    jobs::configure(config);
                    state::configure(config);
                    add_clients(config);
                }
            })
            .configure(cluster::configure)
            .default_service(web::to(not_found))
            .wrap(from_fn(keep_out))
            .wrap(from_fn(note_refusals))
            .wrap(Condition::new(cfg!(debug_assertions), from_fn(ops::assert_described)))
            .wrap(CatchPanic::default())
            // Outermost, so that pages can read refusals as well.
            .wrap(Condition::new(has_cors, shared(self)))
            .wrap(from_fn(note_refused_origins));
        config.service(scope);
    }

    /// Adds the routes of a listener for operators.
    pub(super) fn configure_operations(&self, config: &mut ServiceConfig) {
        let scope = web::scope("")
            .app_data(ops::ForOperators)
            .service(readable("/metrics", ops::metrics))
            .configure(add_health)
            .default_service(web::to(not_found))
            .wrap(from_fn(note_refusals))
            .wrap(CatchPanic::default());
        config.app_data(self.clone()).service(scope);
    }
}

fn add_subscribe_and_publish(config: &mut ServiceConfig) {
    config
        .service(
            resource("/.well-known/mercure", "GET, HEAD, QUERY, POST, OPTIONS")
                .route(web::get().to(open_sse))
                .route(query().to(query_sse))
                .route(web::head().to(probe_sse))
                .route(web::post().to(publish_form)),
        )
        .service(
            resource("/events", "GET, HEAD, QUERY, POST, OPTIONS")
                .route(web::get().to(open_sse))
                .route(query().to(query_sse))
                .route(web::head().to(probe_sse))
                .route(web::post().to(publish_event)),
        )
        .service(
            resource("/iframe", "GET, HEAD, OPTIONS")
                .route(web::get().to(open_iframe))
                .route(web::head().to(probe_iframe)),
        )
        .service(
            resource("/poll", "GET, HEAD, OPTIONS")
                .route(web::get().to(poll_events))
                .route(web::head().to(probe_poll)),
        );
}

fn add_clients(config: &mut ServiceConfig) {
    config
        .service(readable("/clients", clients::list_clients))
        .service(
            resource("/clients/{id}", "POST, OPTIONS").route(web::post().to(clients::order_client)),
        )
        .service(resource("/calls", "POST, OPTIONS").route(web::post().to(clients::call_clients)))
        .service(resource("/client", "POST, OPTIONS").route(web::post().to(clients::act)));
}

fn add_health(config: &mut ServiceConfig) {
    config
        .service(readable("/health/live", ops::live))
        .service(readable("/health/ready", ops::ready))
        .service(readable("/healthz", ops::ready));
}

/// Matches the method QUERY (RFC 10008), which is safe and has a body.
fn query() -> Route {
    web::route().guard(guard::fn_guard(|request| request.head().method.as_str() == QUERY))
}

/// Creates a resource that can only be read.
fn readable<F, Args>(path: &str, handler: F) -> Resource
where
    F: actix_web::Handler<Args> + Clone,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    resource(path, "GET, HEAD, OPTIONS")
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
}

/// Returns what pages of other origins may do.
fn shared(gateway: &Gateway) -> Cors {
    let settings = &gateway.settings().cors;
    let cors = Cors::default()
        .allowed_methods(["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT", "QUERY"])
        .allowed_headers([
            "authorization",
            "cache-control",
            "content-range",
            "content-type",
            "idempotency-key",
            "if-match",
            "if-none-match",
            "last-event-id",
            "prefer",
            "tidegate-client",
            "tidegate-lease",
            "x-requested-with",
        ])
        .expose_headers([
            "accept-query",
            "content-range",
            "etag",
            "last-event-id",
            "link",
            "location",
            "mercure-last-event-id",
            "preference-applied",
            "retry-after",
            "tidegate-log-length",
            "tidegate-log-offset",
        ])
        .max_age(3600);
    if settings.origins.iter().any(|it| it == origins::ANY) {
        // The settings refuse credentials together with `*`.
        return cors.send_wildcard().allow_any_origin();
    }
    let cors = if settings.credentials { cors.supports_credentials() } else { cors };
    let gateway = gateway.clone();
    cors.allowed_origin_fn(move |origin, _| {
        origin.to_str().is_ok_and(|it| gateway.settings().lets_read_by_name(it))
    })
}

async fn not_found(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let is_of_one_node = ["/jobs", "/state", "/client", "/calls"]
        .into_iter()
        .find(|it| request.path().starts_with(it));
    if let Some(path) = is_of_one_node
        && Gateway::of(&request).cluster().is_some()
    {
        let detail = format!("{path} does not span several nodes yet (history.store = \"redis\")");
        return Err(Problem::not_found(detail));
    }
    Err(Problem::not_found("there is nothing at this address; / has links to everything"))
}

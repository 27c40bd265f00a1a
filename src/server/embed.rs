//! The gateway in an application with its own actix server: which addresses the gateway answers,
//! and how its streams end with that server.

use actix_web::{
    HttpResponse,
    guard::fn_guard,
    http::header::LOCATION,
    web::{self, ServiceConfig},
};
use tracing::info;

use super::signal;
use crate::{gateway::Gateway, http::MountedAt};

/// The paths of the gateway's routes besides the start page. Others below them are the gateway's
/// as well.
const PATHS: [&str; 12] = [
    "/.well-known/mercure",
    "/.well-known/oauth-protected-resource",
    "/calls",
    "/client",
    "/clients",
    "/events",
    "/iframe",
    "/jobs",
    "/openapi.json",
    "/poll",
    "/state",
    "/static",
];

/// The same for operations.
const OPERATIONS: [&str; 3] = ["/health", "/healthz", "/metrics"];

/// The gateway's routes at a path of an application. See [`Gateway::mount`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Mount {
    gateway: Gateway,
    /// Without a trailing slash, so empty for the root.
    path: String,
    has_operations: bool,
}

impl Gateway {
    /// Adds the gateway's routes to an actix application. Call it after adding the application's
    /// own routes, which then come first. Paths that are not the gateway's stay the application's,
    /// as does its answer to unknown ones.
    ///
    /// The server has to end the gateway's streams when it stops, or it waits for them:
    ///
    /// ```no_run
    /// use actix_web::{App, HttpServer, web};
    /// use tidegate::{gateway::Gateway, settings::Settings};
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let gateway = Gateway::start(Settings::default())?;
    /// let stop = gateway.shutdown_signal();
    /// let app = move || {
    ///     let gateway = gateway.clone();
    ///     App::new()
    ///         .route("/about", web::get().to(async || "A feed"))
    ///         .configure(move |config| gateway.configure(config))
    /// };
    /// HttpServer::new(app).shutdown_signal(stop).bind("127.0.0.1:8080")?.run().await
    /// # }
    /// ```
    pub fn configure(&self, config: &mut ServiceConfig) {
        self.mount("").configure(config);
    }

    /// Returns the gateway's routes for a path of an application, such as `/push`. The gateway then
    /// answers every path below it, and links to addresses below it.
    ///
    /// Topics of the hub and audiences of tokens do not depend on requests. If they matter, set
    /// `server.public_url` to the address with this path.
    ///
    /// ```no_run
    /// # use actix_web::{App, HttpServer};
    /// # use tidegate::gateway::Gateway;
    /// # async fn run(gateway: Gateway) -> std::io::Result<()> {
    /// let routes = gateway.mount("/push").without_operations();
    /// let stop = gateway.shutdown_signal();
    /// let app = move || {
    ///     let routes = routes.clone();
    ///     App::new().configure(move |config| routes.configure(config))
    /// };
    /// HttpServer::new(app).shutdown_signal(stop).bind("127.0.0.1:8080")?.run().await
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the path has a variable such as `{name}`.
    pub fn mount(&self, path: &str) -> Mount {
        assert!(!path.contains(['{', '}']), "the path of a gateway has no variables: {path}");
        let path = path.trim_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        Mount { gateway: self.clone(), path, has_operations: true }
    }

    /// Waits for SIGTERM or SIGINT, and ends the gateway's streams and polls then. It is meant for
    /// `HttpServer::shutdown_signal`: without it the server waits for open streams until its
    /// timeout. An application that stops its server otherwise calls
    /// [`Hub::drain`](crate::hub::Hub::drain) before.
    pub fn shutdown_signal(&self) -> impl Future<Output = ()> + Send + use<> {
        let gateway = self.clone();
        async move {
            let signal = signal().await;
            info!(signal, "ending the streams of the gateway");
            gateway.hub().drain();
        }
    }
}

impl Mount {
    /// Leaves out `/metrics`, `/health/…` and `/healthz`, which concern operators only.
    pub fn without_operations(mut self) -> Self {
        self.has_operations = false;
        self
    }

    /// Adds the routes to an actix application, after the application's own.
    pub fn configure(&self, config: &mut ServiceConfig) {
        let Self { gateway, path, has_operations } = self;
        let has_operations = *has_operations;
        if path.is_empty() {
            let is_own = move |path: &str| {
                path == "/"
                    || PATHS.iter().any(|it| is_below(path, it))
                    || has_operations && OPERATIONS.iter().any(|it| is_below(path, it))
            };
            let guard = fn_guard(move |request| is_own(request.head().uri.path()));
            gateway.configure_scope(config, web::scope("").guard(guard), has_operations);
        } else {
            // The links of the start page are relative.
            let start = format!("{path}/");
            let redirect = web::to(move || {
                let start = start.clone();
                async {
                    HttpResponse::PermanentRedirect().insert_header((LOCATION, start)).finish()
                }
            });
            config.service(web::resource(path.as_str()).route(redirect));
            let scope = web::scope(path).app_data(MountedAt(path.clone()));
            gateway.configure_scope(config, scope, has_operations);
        }
    }
}

/// Whether a path is `root` or below it.
fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App,
        test::{TestRequest, call_service, init_service, read_body},
    };
    use serde_json::Value;

    use super::*;
    use crate::settings::{HistorySettings, MercureSettings, Secret, Settings};

    fn gateway(change: impl FnOnce(&mut Settings)) -> Gateway {
        let mercure = MercureSettings { subscriptions: true, ..MercureSettings::default() };
        let mut settings =
            Settings { history: HistorySettings::in_memory(), mercure, ..Settings::default() };
        change(&mut settings);
        Gateway::start(settings).expect("it starts")
    }

    /// Returns the status and the body of a reply.
    async fn get(mount: &Mount, path: &str) -> (u16, String) {
        let mount = mount.clone();
        let app = App::new()
            .configure(move |config| mount.configure(config))
            .default_service(web::to(async || HttpResponse::NotFound().body("the application's")));
        let app = init_service(app).await;
        let reply = call_service(&app, TestRequest::with_uri(path).to_request()).await;
        let status = reply.status().as_u16();
        (status, String::from_utf8_lossy(&read_body(reply).await).into_owned())
    }

    #[actix_web::test]
    async fn at_the_root_other_paths_stay_the_applications() {
        let gateway = gateway(|_| {});
        let (all, few) = (gateway.mount("/"), gateway.mount("").without_operations());
        for path in [
            "/",
            "/poll?topic=t&wait=0",
            "/iframe",
            "/jobs",
            "/static/icon.svg",
            "/static/none",
            "/.well-known/mercure/subscriptions",
            "/.well-known/oauth-protected-resource/x",
        ] {
            for mount in [&all, &few] {
                let (status, body) = get(mount, path).await;
                assert_ne!(body, "the application's", "{path}: {status}");
            }
        }
        for path in ["/metrics", "/health/live", "/health/ready", "/healthz"] {
            assert_eq!(get(&all, path).await.0, 200, "{path}");
            assert_eq!(get(&few, path).await, (404, "the application's".into()), "{path}");
        }
        for path in ["/nowhere", "/eventsource", "/healthy", "/.well-known/acme", "/a/jobs"] {
            assert_eq!(get(&all, path).await, (404, "the application's".into()), "{path}");
        }
    }

    #[actix_web::test]
    async fn under_a_path_addresses_have_that_path() {
        let open = gateway(|_| {});
        let list = get(&open.mount("push/"), "/push/.well-known/mercure/subscriptions").await;
        assert_eq!(list.0, 200, "{list:?}");
        let guarded = gateway(|it| it.auth.publisher_key = Secret::from("k"));
        let metadata = "/a/b/.well-known/oauth-protected-resource/a/b/.well-known/mercure";
        let (status, body) = get(&guarded.mount("/a/b"), metadata).await;
        let document: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(status, 200, "{body}");
        let resource = document["resource"].as_str().expect("text");
        assert!(resource.ends_with("/a/b/.well-known/mercure"), "{resource}");
    }
}

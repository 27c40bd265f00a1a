use reqwest::{Method, Response, header::HeaderMap};

use crate::support::{
    Gateway,
    tokens::{guarded, modern_subscriber},
};

const APP: &str = "https://app.example";

async fn from_page(gateway: &Gateway, method: Method, path: &str, origin: &str) -> Response {
    let request = gateway.client.request(method, gateway.url(path)).header("origin", origin);
    request.send().await.expect("a reply")
}

async fn preflight(gateway: &Gateway, path: &str, method: &str, headers: &str) -> Response {
    let request = gateway.client.request(Method::OPTIONS, gateway.url(path));
    let request = request.header("origin", APP).header("access-control-request-method", method);
    request.header("access-control-request-headers", headers).send().await.expect("a reply")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |it| it.to_str().expect("text"))
}

#[tokio::test]
async fn pages_can_read_every_answer_refusals_too() {
    let gateway = guarded(&[("CORS__ORIGINS", APP)]);
    let token = modern_subscriber(&[("exact", "*")]);
    for (method, path, status) in [
        (Method::GET, "/.well-known/mercure?match=t", 401),
        (Method::POST, "/.well-known/mercure", 401),
        (Method::PUT, "/.well-known/mercure", 405),
        (Method::GET, "/poll?match=t", 401),
        (Method::GET, "/nowhere", 404),
        (Method::GET, "/.well-known/oauth-protected-resource/.well-known/mercure", 200),
        (Method::GET, "/health/live", 200),
    ] {
        let reply = from_page(&gateway, method, path, APP).await;
        assert_eq!(reply.status(), status, "{path}");
        assert_eq!(text(reply.headers(), "access-control-allow-origin"), APP, "{path}");
        assert!(text(reply.headers(), "vary").to_lowercase().contains("origin"), "{path}");
        assert!(!reply.headers().contains_key("access-control-allow-credentials"), "{path}");
    }
    for (path, status) in [("/poll?match=a%00b", 400), ("/events?match=t&last_event_id=x", 200)] {
        let request = gateway.client.get(gateway.url(path)).bearer_auth(&token);
        let reply = request.header("origin", APP).send().await.expect("a reply");
        assert_eq!(reply.status(), status);
        assert_eq!(text(reply.headers(), "access-control-allow-origin"), APP);
        let exposed = text(reply.headers(), "access-control-expose-headers").to_lowercase();
        for name in ["link", "mercure-last-event-id", "last-event-id", "accept-query"] {
            assert!(exposed.contains(name), "{name} in {exposed}");
        }
    }
    for origin in ["https://evil.example", "null", "https://app.example.evil.example"] {
        let reply = from_page(&gateway, Method::GET, "/nowhere", origin).await;
        assert!(!reply.headers().contains_key("access-control-allow-origin"), "{origin}");
    }
}

#[tokio::test]
async fn preflights_allow_what_clients_send() {
    let gateway = guarded(&[("CORS__ORIGINS", APP)]);
    let headers = "authorization,cache-control,content-type,last-event-id,x-requested-with";
    for method in ["GET", "POST", "QUERY"] {
        let reply = preflight(&gateway, "/.well-known/mercure", method, headers).await;
        assert!(reply.status().is_success(), "{method}");
        assert_eq!(text(reply.headers(), "access-control-allow-origin"), APP);
        assert!(text(reply.headers(), "access-control-allow-methods").contains(method));
        let allowed = text(reply.headers(), "access-control-allow-headers").to_lowercase();
        assert!(headers.split(',').all(|it| allowed.contains(it)), "{allowed}");
    }
    let reply = preflight(&gateway, "/.well-known/mercure", "DELETE", "").await;
    assert!(!text(reply.headers(), "access-control-allow-methods").contains("DELETE"));
}

#[tokio::test]
async fn credentials_are_for_named_origins() {
    let origins = "https://app.example,https://*.apps.example";
    let gateway = guarded(&[("CORS__ORIGINS", origins), ("CORS__CREDENTIALS", "true")]);
    for origin in [APP, "https://x.apps.example"] {
        let reply = from_page(&gateway, Method::GET, "/poll?match=t", origin).await;
        assert_eq!(text(reply.headers(), "access-control-allow-origin"), origin);
        assert_eq!(text(reply.headers(), "access-control-allow-credentials"), "true");
        assert!(text(reply.headers(), "vary").to_lowercase().contains("origin"));
    }
    for origin in ["https://evil.example", "null"] {
        let reply = from_page(&gateway, Method::GET, "/poll?match=t", origin).await;
        assert!(!reply.headers().contains_key("access-control-allow-origin"), "{origin}");
    }
}

#[tokio::test]
async fn a_wildcard_lets_every_page_read_without_credentials() {
    let gateway = guarded(&[("CORS__ORIGINS", "*"), ("AUTH__ANONYMOUS", "true")]);
    for origin in ["https://anything.example", "null"] {
        let reply = from_page(&gateway, Method::GET, "/poll?match=t&wait=0", origin).await;
        assert_eq!(reply.status(), 200);
        assert_eq!(text(reply.headers(), "access-control-allow-origin"), "*");
        assert!(!reply.headers().contains_key("access-control-allow-credentials"));
    }
    // Framing by every origin is a separate matter.
    for origin in ["*", "https://anything.example"] {
        let path = format!("/iframe?match=t&origin={origin}");
        assert_eq!(gateway.get(&path).await.status(), 400, "{origin}");
    }
}

#[tokio::test]
async fn in_development_a_wildcard_is_no_leave_to_write() {
    let gateway = Gateway::with(&[("CORS__ORIGINS", "*")]);
    let reply = from_page(&gateway, Method::POST, "/events", "https://evil.example").await;
    assert_eq!(reply.status(), 403);
    let reply = from_page(&gateway, Method::GET, "/poll?match=t&wait=0", APP).await;
    assert_eq!(text(reply.headers(), "access-control-allow-origin"), "*");
}

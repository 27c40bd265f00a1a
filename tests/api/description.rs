use reqwest::Method;
use serde_json::Value;

use crate::support::{Gateway, tokens::guarded};

#[tokio::test]
async fn the_description_is_open_and_can_be_revalidated() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "false")]);
    let reply = gateway.get("/openapi.json").await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "application/json");
    assert_eq!(reply.headers()["cache-control"], "public, max-age=0, must-revalidate");
    let tag = reply.headers()["etag"].clone();
    let document: Value = reply.json().await.expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|it| it.starts_with("3.")), "{document}");
    let again = gateway.client.get(gateway.url("/openapi.json")).header("if-none-match", tag);
    assert_eq!(again.send().await.expect("a reply").status(), 304);
}

#[tokio::test]
async fn what_is_described_is_there_and_what_is_not_described_is_not() {
    let gateway = Gateway::with(&[("MERCURE__SUBSCRIPTIONS", "true")]);
    let document: Value = gateway.get("/openapi.json").await.json().await.expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    assert!(15 < paths.len(), "{}", paths.len());
    for (path, methods) in paths {
        let address = gateway.url(&path.replace(['{', '}'], ""));
        let options = gateway.client.request(Method::OPTIONS, &address).send().await;
        let options = options.expect("a reply");
        assert_eq!(options.status(), 204, "{path}");
        let allowed = options.headers()["allow"].to_str().expect("text").to_owned();
        for (method, name) in [("GET", "get"), ("POST", "post"), ("PUT", "put")] {
            let is_allowed = allowed.split(", ").any(|it| it == method);
            assert_eq!(methods.get(name).is_some(), is_allowed, "{method} {path}: {allowed}");
        }
    }
}

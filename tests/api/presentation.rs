use crate::support::{
    problem,
    raw::Raw,
    tokens::{guarded, modern_publisher, modern_subscriber, old_subscriber},
};

fn challenge(reply: &reqwest::Response) -> String {
    let header = reply.headers().get("www-authenticate").expect("a challenge");
    header.to_str().expect("text").to_owned()
}

#[tokio::test]
async fn the_header_is_one_bearer_token() {
    let gateway = guarded(&[("AUTH__ANONYMOUS", "true")]);
    let token = modern_subscriber(&[("exact", "*")]);
    let send = |headers: Vec<String>| {
        let address = gateway.address;
        async move {
            let mut raw = Raw::connect(address).await;
            let headers: String =
                headers.iter().map(|it| format!("Authorization: {it}\r\n")).collect();
            raw.send(&format!("GET /poll?topic=t&wait=0 HTTP/1.1\r\nHost: hub.example\r\n{headers}Connection: close\r\n\r\n")).await;
            raw.until_end().await
        }
    };
    for good in [format!("Bearer {token}"), format!("bearer {token}"), format!("BEARER {token}")] {
        assert!(send(vec![good]).await.starts_with("HTTP/1.1 200"));
    }
    for bad in [
        vec![format!("Bearer {token}"), format!("Bearer {token}")],
        vec!["Bearer".to_owned()],
        vec!["Bearer ".to_owned()],
        vec![String::new()],
        vec!["Basic dXNlcjpwYXNz".to_owned()],
        vec![token.clone()],
        vec![format!("Bearer {token} {token}")],
    ] {
        let reply = send(bad.clone()).await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{bad:?}: {reply}");
        assert!(reply.contains("error=\"invalid_request\""), "{reply}");
        assert!(!reply.contains(&token), "{reply}");
    }
    // An invalid access token never falls back to anonymous access.
    assert!(send(vec!["Bearer bad".to_owned()]).await.starts_with("HTTP/1.1 401"));
    assert!(send(vec![]).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn cookies_count_below_the_header_and_the_new_name_above_the_old() {
    let gateway = guarded(&[]);
    let good = old_subscriber(&["*"]);
    let status = |cookies: String, token: Option<&str>| {
        let mut request = gateway.client.get(gateway.url("/poll?match=t&wait=0"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let sent = request.header("cookie", cookies).send();
        async move { sent.await.expect("a reply").status().as_u16() }
    };
    let new = "__Secure-mercure_access_token";
    assert_eq!(status(format!("{new}={good}"), None).await, 200);
    assert_eq!(status(format!("a=b; {new}=\"{good}\"; c"), None).await, 200);
    assert_eq!(status(format!("mercureAuthorization={good}"), None).await, 200);
    assert_eq!(status(format!("mercureAuthorization=bad; {new}={good}"), None).await, 200);
    assert_eq!(status(format!("mercureAuthorization={good}; {new}=bad"), None).await, 401);
    assert_eq!(status(format!("mercureAuthorization={good}; {new}="), None).await, 200);
    assert_eq!(status(format!("{new}={good}"), Some("bad")).await, 401);
    assert_eq!(status(format!("{new}=bad"), Some(&good)).await, 200);
    assert_eq!(status(format!("other={good}"), None).await, 401);

    let named = guarded(&[("AUTH__COOKIE", "hub_token"), ("MERCURE__COMPAT", "modern-only")]);
    let token = modern_subscriber(&[("exact", "*")]);
    for (cookie, expected) in [("hub_token", 200), (new, 401), ("mercureAuthorization", 401)] {
        let request = named.client.get(named.url("/poll?match=t&wait=0"));
        let reply = request.header("cookie", format!("{cookie}={token}")).send().await;
        assert_eq!(reply.expect("a reply").status(), expected, "{cookie}");
    }
}

#[tokio::test]
async fn writes_with_a_cookie_need_an_origin_that_is_allowed() {
    let gateway =
        guarded(&[("AUTH__PUBLISH_ORIGINS", "https://app.example,https://*.apps.example")]);
    let token = modern_publisher(&[("exact", "*")]);
    for (header, value, expected) in [
        (None, "", 400),
        (Some("origin"), "https://hub.example", 200),
        (Some("origin"), "https://app.example", 200),
        (Some("origin"), "https://x.apps.example", 200),
        (Some("referer"), "https://app.example/page?x=y", 200),
        (Some("referer"), "https://hub.example/", 200),
        (Some("origin"), "null", 400),
        (Some("origin"), "https://evil.example", 400),
        (Some("origin"), "http://app.example", 400),
        (Some("origin"), "https://app.example:444", 400),
        (Some("origin"), "https://app.example.evil.example", 400),
        (Some("origin"), "https://evilapps.example", 400),
        (Some("referer"), "https://evil.example/https://app.example", 400),
        (Some("referer"), "https://app.example@evil.example/", 400),
        (Some("referer"), "about:blank", 400),
    ] {
        let mut request = gateway.client.post(gateway.url("/.well-known/mercure"));
        if let Some(header) = header {
            request = request.header(header, value);
        }
        let request = request.header("cookie", format!("__Secure-mercure_access_token={token}"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let reply = request.body("topic=t").send().await.expect("a reply");
        assert_eq!(reply.status(), expected, "{header:?} {value}");
        if expected == 400 {
            assert!(challenge(&reply).contains("error=\"invalid_request\""));
        }
    }
    // An access token in the header is accepted with any origin.
    let request = gateway.client.post(gateway.url("/.well-known/mercure"));
    let request = request.header("origin", "https://evil.example").bearer_auth(&token);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(request.body("topic=t").send().await.expect("a reply").status(), 200);
}

#[tokio::test]
async fn tokens_in_the_address_are_for_old_clients_only() {
    let gateway = guarded(&[]);
    let token = old_subscriber(&["*"]);
    let path = |name: &str| format!("/poll?match=t&wait=0&{name}={token}");
    assert_eq!(gateway.get(&path("authorization")).await.status(), 200);
    problem(gateway.get(&path("access_token")).await, 401).await;
    assert_eq!(gateway.get_as("bad", &path("authorization")).await.status(), 401);
    // The query precedes the cookie.
    let request = gateway.client.get(gateway.url("/poll?match=t&wait=0&authorization=bad"));
    let request = request.header("cookie", format!("mercureAuthorization={token}"));
    assert_eq!(request.send().await.expect("a reply").status(), 401);
    let modern = guarded(&[("MERCURE__COMPAT", "modern-only")]);
    problem(modern.get(&path("authorization")).await, 401).await;
}

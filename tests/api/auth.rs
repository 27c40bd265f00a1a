use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{
    DEADLINE, Gateway, problem,
    tokens::{
        DETAIL, HUB, ISSUER, KEYS, PUBLISHER_KEY, SUBSCRIBER_KEY, from_now, guarded, modern_claims,
        modern_publisher, modern_subscriber, old_publisher, old_subscriber, settings_file, sign,
        sign_with, trusting,
    },
};

const METADATA: &str = "resource_metadata=\"https://hub.example/.well-known/oauth-protected-resource/.well-known/mercure\"";

fn challenge(reply: &reqwest::Response) -> String {
    let header = reply.headers().get("www-authenticate").expect("a challenge");
    header.to_str().expect("text").to_owned()
}

/// Checks that a reply is 401 for an invalid access token, and that it does not say why.
async fn assert_invalid(reply: reqwest::Response) {
    assert_eq!(challenge(&reply), format!("Bearer error=\"invalid_token\", {METADATA}"));
    let document = problem(reply, 401).await;
    assert_eq!(document["type"], "urn:tidegate:problem:token-invalid");
    assert!(document["instance"].as_str().is_some_and(|it| it.starts_with("urn:uuid:")));
    let detail = document["detail"].as_str().expect("text");
    assert_eq!(
        detail,
        "the token is not valid; the log of the gateway says why, under this `instance`"
    );
}

#[tokio::test]
async fn without_a_token_nothing_is_open() {
    let gateway = guarded(&[]);
    let publish = gateway.post(&[("topic", "t")]).await;
    assert_eq!(challenge(&publish), format!("Bearer {METADATA}"));
    problem(publish, 401).await;
    for path in [
        "/.well-known/mercure?match=t",
        "/.well-known/mercure",
        "/.well-known/mercure?match_x=t",
        "/events?topic=t",
        "/poll?topic=t&wait=0",
        "/iframe?topic=t&callback=f",
        "/jobs",
    ] {
        let reply = gateway.get(path).await;
        assert_eq!(challenge(&reply), format!("Bearer {METADATA}"), "{path}");
        problem(reply, 401).await;
    }
    for path in ["/", "/static/icon.svg", "/health/ready", "/metrics"] {
        assert_eq!(gateway.get(path).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn good_tokens_of_both_dialects_publish_and_subscribe() {
    let gateway = guarded(&[]);
    let topic = "https://example.com/books/1";
    for token in [
        modern_publisher(&[("exact", topic)]),
        modern_publisher(&[("urlpattern", "https://example.com/books/:id")]),
        modern_publisher(&[("exact", "*")]),
        old_publisher(&[topic]),
        old_publisher(&["https://example.com/books/{id}"]),
        old_publisher(&["*"]),
        sign(Some("AT+JWT"), &modern_claims("publish", &[("exact", "*")]), PUBLISHER_KEY),
        sign(
            Some("application/at+jwt"),
            &modern_claims("publish", &[("exact", "*")]),
            PUBLISHER_KEY,
        ),
        sign(None, &json!({ "mercure": { "publish": ["*"] } }), PUBLISHER_KEY),
        sign(
            Some("JWT"),
            &json!({ "https://mercure.rocks/": { "publish": ["*"] } }),
            PUBLISHER_KEY,
        ),
        sign(
            Some("JWT"),
            &json!({ "mercure": { "publish": ["*"] }, "exp": from_now(60) as f64 + 0.123456,
                     "nbf": from_now(0) as f64 + 0.5, "iat": 1.5, "iss": 7, "aud": "elsewhere" }),
            PUBLISHER_KEY,
        ),
    ] {
        let reply = gateway.post_as(&token, &[("topic", topic), ("id", "urn:x:1")]).await;
        assert_eq!(reply.status(), 200, "{token}");
        assert_eq!(reply.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(reply.text().await.expect("text"), "urn:x:1");
    }
    for token in [modern_subscriber(&[("exact", topic)]), old_subscriber(&[topic])] {
        gateway.open_as(&token, &format!("/.well-known/mercure?match={topic}")).await;
    }
}

#[tokio::test]
async fn bad_tokens_are_refused_with_one_and_the_same_answer() {
    let gateway = guarded(&[]);
    let good = modern_claims("publish", &[("exact", "*")]);
    let with = |key: &str, value: Value| {
        let mut claims = good.clone();
        claims[key] = value;
        sign(Some("at+jwt"), &claims, PUBLISHER_KEY)
    };
    let without = |key: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().expect("an object").remove(key);
        sign(Some("at+jwt"), &claims, PUBLISHER_KEY)
    };
    let other_algorithm = |algorithm| {
        let mut header = Header::new(algorithm);
        header.typ = Some("at+jwt".to_owned());
        sign_with(&header, &good, &EncodingKey::from_secret(PUBLISHER_KEY.as_bytes()))
    };
    let mut critical = Header::new(Algorithm::HS256);
    critical.typ = Some("at+jwt".to_owned());
    critical.crit = Some(vec!["exp".to_owned()]);
    let key = EncodingKey::from_secret(PUBLISHER_KEY.as_bytes());
    let signed = sign(Some("at+jwt"), &good, PUBLISHER_KEY);
    let (head, _) = signed.rsplit_once('.').expect("a token");
    let unsigned = {
        let encode = |text: &str| {
            use base64::Engine as _;
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
        };
        let claims = encode(&good.to_string());
        format!("{}.{claims}.", encode(r#"{"alg":"none","typ":"at+jwt"}"#))
    };
    let old = |claims: Value| sign(Some("JWT"), &claims, PUBLISHER_KEY);
    let detail = |detail: Value| with("authorization_details", json!([detail]));
    let topics =
        |topic: Value| detail(json!({ "type": DETAIL, "actions": ["publish"], "topics": [topic] }));
    for (name, token) in [
        ("garbage", "garbage".to_owned()),
        ("two parts", "a.b".to_owned()),
        ("wrong key", sign(Some("at+jwt"), &good, SUBSCRIBER_KEY)),
        ("no signature", format!("{head}.")),
        ("alg none", unsigned),
        ("another algorithm", other_algorithm(Algorithm::HS384)),
        ("crit", sign_with(&critical, &good, &key)),
        ("another issuer", with("iss", json!("https://other.example"))),
        ("issuer with a slash", with("iss", json!(format!("{ISSUER}/")))),
        ("no issuer", without("iss")),
        ("another audience", with("aud", json!("https://other.example/.well-known/mercure"))),
        ("no audience", without("aud")),
        ("null audience", with("aud", json!(null))),
        ("no exp", without("exp")),
        ("null exp", with("exp", json!(null))),
        ("exp as text", with("exp", json!("4000000000"))),
        ("not yet", with("nbf", json!(from_now(60)))),
        ("id token in modern clothes", sign(Some("JWT"), &good, SUBSCRIBER_KEY)),
        ("no actions", detail(json!({ "type": DETAIL, "topics": [{ "match": "*" }] }))),
        ("no topics", detail(json!({ "type": DETAIL, "actions": ["publish"] }))),
        ("bare string", topics(json!("*"))),
        ("empty match", topics(json!({ "match": "" }))),
        ("unknown type", topics(json!({ "match": "*", "match_type": "regexp" }))),
        ("type in capitals", topics(json!({ "match": "*", "match_type": "Exact" }))),
        ("control character", topics(json!({ "match": "a\u{1}b" }))),
        ("format character", topics(json!({ "match": "a\u{200d}b" }))),
        ("bad pattern", topics(json!({ "match": "https://[", "match_type": "urlpattern" }))),
        (
            "one bad of two",
            with(
                "authorization_details",
                json!([
                    { "type": DETAIL, "actions": ["publish"], "topics": [{ "match": "*" }] },
                    { "type": DETAIL, "actions": [], "topics": [{ "match": "*" }] },
                ]),
            ),
        ),
        ("old: wrong key", old_subscriber(&["*"])),
        ("expired and of another audience", {
            let mut claims = good.clone();
            claims["exp"] = json!(1);
            claims["aud"] = json!("https://other.example");
            sign(Some("at+jwt"), &claims, PUBLISHER_KEY)
        }),
        ("old: not yet", old(json!({ "mercure": { "publish": ["*"] }, "nbf": from_now(60) }))),
        ("old: claim of another kind", old(json!({ "mercure": "*" }))),
        ("old: list of another kind", old(json!({ "mercure": { "publish": "*" } }))),
        ("old: objects", old(json!({ "mercure": { "publish": [{ "match": "*" }] } }))),
    ] {
        let reply = gateway.post_as(&token, &[("topic", "t")]).await;
        assert_eq!(reply.status(), 401, "{name}");
        assert_invalid(reply).await;
    }
    assert_eq!(gateway.metric("tidegate_updates_total").await, 0.0);
}

#[tokio::test]
async fn details_that_are_not_mercures_are_ignored() {
    let gateway = guarded(&[]);
    let mut claims = modern_claims("publish", &[("exact", "t")]);
    claims["authorization_details"].as_array_mut().expect("an array").extend([
        json!({ "type": "https://other.example/detail", "actions": 7, "topics": "x" }),
        json!(7),
        json!({ "type": DETAIL, "actions": ["publish", "future"], "topics": [{ "match": "u" }] }),
    ]);
    let token = sign(Some("at+jwt"), &claims, PUBLISHER_KEY);
    assert_eq!(gateway.post_as(&token, &[("topic", "t"), ("topic", "u")]).await.status(), 200);
    claims["authorization_details"] = json!([]);
    claims["mercure"] = json!({ "publish": ["*"] });
    let token = sign(Some("at+jwt"), &claims, PUBLISHER_KEY);
    let reply = gateway.post_as(&token, &[("topic", "t")]).await;
    assert_eq!(challenge(&reply), format!("Bearer error=\"insufficient_scope\", {METADATA}"));
    problem(reply, 403).await;
}

#[tokio::test]
async fn huge_tokens_are_refused_at_once() {
    let gateway = guarded(&[("AUTH__TOKEN_BYTES", "4KiB")]);
    let mut claims = modern_claims("publish", &[("exact", "*")]);
    let audiences: Vec<String> = (0..10_000).map(|it| format!("https://{it}.example")).collect();
    claims["aud"] = json!(audiences);
    let many_audiences = sign(Some("at+jwt"), &claims, PUBLISHER_KEY);
    for token in ["x".repeat(100_000), many_audiences.chars().take(100_000).collect()] {
        let begun = Instant::now();
        let reply = gateway.post_as(&token, &[("topic", "t")]).await;
        assert_eq!(reply.status(), 401);
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    let roomy = guarded(&[("AUTH__TOKEN_BYTES", "1MiB")]);
    let mut claims = modern_claims("publish", &[("exact", "*")]);
    claims["aud"] = json!((0..10_000).map(|it| it.to_string()).collect::<Vec<_>>());
    let token = sign(Some("at+jwt"), &claims, PUBLISHER_KEY);
    assert!(60_000 < token.len() && token.len() < 120_000, "{}", token.len());
    let begun = Instant::now();
    assert_eq!(roomy.post_as(&token, &[("topic", "t")]).await.status(), 401);
    assert!(begun.elapsed() < Duration::from_secs(2));
    let selectors: Vec<&str> = vec!["a"; 1001];
    assert_eq!(roomy.post_as(&old_publisher(&selectors), &[("topic", "a")]).await.status(), 401);
    assert_eq!(
        roomy.post_as(&old_publisher(&selectors[1..]), &[("topic", "a")]).await.status(),
        200
    );
}

#[tokio::test]
async fn modern_only_refuses_the_old_dialect() {
    let gateway = guarded(&[("MERCURE__COMPAT", "modern-only")]);
    assert_invalid(gateway.post_as(&old_publisher(&["*"]), &[("topic", "t")]).await).await;
    let token = modern_subscriber(&[("exact", "*")]);
    let document = problem(gateway.get_as(&token, "/.well-known/mercure?topic=t").await, 400);
    let document = document.await;
    assert_eq!(document["field"], "topic");
    let stream = gateway.open_as(&token, "/.well-known/mercure?match=t&lastEventID=x").await;
    assert!(!stream.headers().contains_key("mercure-last-event-id"));
    gateway.post_as(&modern_publisher(&[("exact", "*")]), &[("topic", "t")]).await;
}

#[tokio::test]
async fn old_features_are_counted() {
    let gateway = guarded(&[]);
    let token = old_subscriber(&["*"]);
    let path = format!("/.well-known/mercure?topic=t&lastEventID=x&authorization={token}");
    gateway.open(&path).await;
    gateway.get_as(&modern_subscriber(&[("exact", "*")]), "/poll?match=t&wait=0").await;
    for feature in ["selector", "cursor", "token_in_address", "token"] {
        let name = format!("tidegate_old_dialect_total{{feature=\"{feature}\"}}");
        assert_eq!(gateway.metric(&name).await, 1.0, "{feature}");
    }
}

#[tokio::test]
async fn more_may_be_asked_of_old_tokens() {
    let gateway = guarded(&[("MERCURE__OLD_TOKEN_CLAIMS", "exp,aud,iss")]);
    let good = json!({
        "mercure": { "publish": ["*"] }, "exp": from_now(60), "aud": [HUB], "iss": ISSUER,
    });
    let status = |claims: &Value| {
        let token = sign(Some("JWT"), claims, PUBLISHER_KEY);
        let gateway = &gateway;
        async move { gateway.post_as(&token, &[("topic", "t")]).await.status().as_u16() }
    };
    assert_eq!(status(&good).await, 200);
    for claim in ["exp", "aud", "iss"] {
        for value in [json!(null), json!("other")] {
            let mut bad = good.clone();
            bad[claim] = value;
            assert_eq!(status(&bad).await, 401, "{bad}");
        }
    }
}

#[tokio::test]
async fn streams_end_when_the_token_does() {
    let gateway = guarded(&[]);
    let begun = jiff::Timestamp::now();
    let mut claims = modern_claims("subscribe", &[("exact", "*")]);
    claims["exp"] = json!(begun.as_second() + 3);
    let token = sign(Some("at+jwt"), &claims, SUBSCRIBER_KEY);
    let mut stream = gateway.open_as(&token, "/.well-known/mercure?match=t").await;
    let iframe = gateway.get_as(&token, "/iframe?match=t&callback=f").await;
    let poll = gateway.get_as(&token, "/poll?match=t&wait=50").await;
    assert_eq!(poll.status(), 200);
    assert_eq!(stream.next_or_end().await, None);
    let document = iframe.text().await.expect("a document");
    assert!(document.contains("\"end\":\"lifetime\""), "{document}");
    let lasted = jiff::Timestamp::now().duration_since(begun).as_secs_f64();
    assert!(1.5 < lasted && lasted < 4.0, "{lasted}");
    let deadline = Instant::now() + DEADLINE;
    while gateway.get_as(&token, "/poll?match=t&wait=0").await.status() == 200 {
        assert!(Instant::now() < deadline);
    }
    let refused = gateway.get_as(&token, "/.well-known/mercure?match=t").await;
    assert_eq!(problem(refused, 401).await["detail"], "the token has expired; send a new one");
}

#[tokio::test]
async fn an_issuer_has_its_own_keys_and_no_others() {
    let file = settings_file(
        "[[auth.issuers]]\nname = 'a'\npublisher = { key = 'key-of-a' }\n\
         [[auth.issuers]]\nname = 'b'\npublisher = { key = 'key-of-b' }\nsubscriber = { key = 'subscribers-of-b' }\n",
    );
    let path = file.path().to_str().expect("text");
    let gateway = Gateway::with(&[KEYS[0], KEYS[1], KEYS[2], ("CONFIG", path)]);
    let token = |issuer: &str, key: &str| {
        let mut claims = modern_claims("publish", &[("exact", "*")]);
        claims["iss"] = json!(issuer);
        sign(Some("at+jwt"), &claims, key)
    };
    for (issuer, key, expected) in [
        ("a", "key-of-a", 200),
        ("b", "key-of-b", 200),
        ("a", "key-of-b", 401),
        ("b", "key-of-a", 401),
        ("a", PUBLISHER_KEY, 401),
        ("A", "key-of-a", 401),
        ("c", "key-of-a", 401),
    ] {
        let reply = gateway.post_as(&token(issuer, key), &[("topic", "t")]).await;
        assert_eq!(reply.status(), expected, "{issuer} {key}");
    }
    // An issuer's key does not verify access tokens of the old dialect, nor those of the other
    // role.
    let old = sign(Some("JWT"), &json!({ "mercure": { "publish": ["*"] } }), "key-of-a");
    assert_eq!(gateway.post_as(&old, &[("topic", "t")]).await.status(), 401);
    let subscribe = |issuer: &str, key: &str| {
        let mut claims = modern_claims("subscribe", &[("exact", "*")]);
        claims["iss"] = json!(issuer);
        sign(Some("at+jwt"), &claims, key)
    };
    let path = "/poll?match=t&wait=0";
    assert_eq!(gateway.get_as(&subscribe("a", "key-of-a"), path).await.status(), 401);
    assert_eq!(gateway.get_as(&subscribe("b", "subscribers-of-b"), path).await.status(), 200);
    assert_eq!(gateway.get_as(&subscribe("b", "key-of-b"), path).await.status(), 401);
}

#[tokio::test]
async fn the_audience_is_pinned_whatever_the_host_says() {
    let gateway = guarded(&[("AUTH__AUDIENCES", "urn:hub,https://internal/.well-known/mercure")]);
    let token = |audience: Value| {
        let mut claims = modern_claims("subscribe", &[("exact", "*")]);
        claims["aud"] = audience;
        sign(Some("at+jwt"), &claims, SUBSCRIBER_KEY)
    };
    let get = |audience: Value, host: &str| {
        let request = gateway.client.get(gateway.url("/poll?match=t&wait=0"));
        let sent = request.header("host", host).bearer_auth(token(audience)).send();
        async move { sent.await.expect("a reply").status().as_u16() }
    };
    assert_eq!(get(json!(HUB), "anything").await, 200);
    assert_eq!(get(json!(["x", "urn:hub"]), "anything").await, 200);
    assert_eq!(get(json!("https://internal/.well-known/mercure"), "internal").await, 200);
    let other = json!("http://other.example/.well-known/mercure");
    assert_eq!(get(other, "other.example").await, 401);
}

#[tokio::test]
async fn no_header_says_who_the_audience_is() {
    let file = trusting(ISSUER);
    let path = file.path().to_str().expect("text");
    let gateway = Gateway::with(&[
        KEYS[0],
        KEYS[1],
        ("SERVER__TRUSTED_PROXIES", "127.0.0.0/8"),
        ("AUTH__AUDIENCES", "https://other.example/.well-known/mercure"),
        ("CONFIG", path),
    ]);
    let token = modern_subscriber(&[("exact", "*")]);
    for (name, value) in [
        ("x-forwarded-host", "hub.example"),
        ("host", "hub.example"),
        ("forwarded", "host=hub.example;proto=https"),
    ] {
        let request = gateway.client.get(gateway.url("/poll?match=t&wait=0")).bearer_auth(&token);
        let request = request.header("x-forwarded-proto", "https");
        let reply = request.header(name, value).send().await.expect("a reply");
        assert_eq!(reply.status(), 401, "{name}");
    }
    let mut claims = modern_claims("subscribe", &[("exact", "*")]);
    claims["aud"] = json!("https://other.example/.well-known/mercure");
    let token = sign(Some("at+jwt"), &claims, SUBSCRIBER_KEY);
    assert_eq!(gateway.get_as(&token, "/poll?match=t&wait=0").await.status(), 200);
    let path = "/.well-known/oauth-protected-resource/.well-known/mercure";
    let metadata = gateway.get(path).await;
    assert_eq!(metadata.headers()["cache-control"], "private, max-age=300");
}

#[tokio::test]
async fn only_the_log_tells_why_and_no_token_is_in_it() {
    let file = trusting(ISSUER);
    let path = file.path().to_str().expect("text");
    let gateway =
        Gateway::with(&[KEYS[0], KEYS[1], KEYS[2], ("CONFIG", path), ("LOG__FORMAT", "json")]);
    let mut claims = modern_claims("publish", &[("exact", "*")]);
    claims["aud"] = json!("https://other.example");
    let token = sign(Some("at+jwt"), &claims, PUBLISHER_KEY);
    let document = problem(gateway.post_as(&token, &[("topic", "t")]).await, 401).await;
    assert!(!document.to_string().contains("audience"));
    let instance = document["instance"].as_str().expect("text").to_owned();
    let path = format!("/poll?match=t&authorization={}", old_publisher(&["*"]));
    problem(gateway.get(&path).await, 401).await;
    problem(gateway.get_as(&token, "/nowhere").await, 404).await;
    let written = || gateway.log();
    let deadline = Instant::now() + DEADLINE;
    while !written().contains("/nowhere") {
        assert!(Instant::now() < deadline, "{}", written());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let written = written();
    let line = written.lines().find(|line| line.contains(&instance)).expect("a line");
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["cause"], format!("its audience is none of {HUB}"));
    assert_eq!((&line["status"], &line["path"]), (&json!(401), &json!("/.well-known/mercure")));
    let signature = token.rsplit('.').next().expect("a signature");
    assert!(!written.contains(signature) && !written.contains("authorization="), "{written}");
    assert_eq!(written.matches("the old dialect of Mercure is in use").count(), 1, "{written}");
}

use serde_json::Value;

use crate::support::{Gateway, problem, raw::Raw, tokens::guarded};

/// The arguments of the calls in a piece of the stream, which must contain nothing but calls.
pub fn calls(stream: &str) -> Vec<Value> {
    let chunks = stream.split("\r\n").filter(|it| it.starts_with('<'));
    let text: String = chunks.collect();
    text.lines()
        .map(|line| {
            let call = line.strip_prefix("<script nonce=\"").expect("a script element");
            let (nonce, call) = call.split_once("\">tidegate(").expect("a call");
            assert!(
                nonce.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it)),
                "{nonce}"
            );
            let argument = call.strip_suffix(")</script>").expect("one call an element");
            assert!(!argument.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{argument}");
            serde_json::from_str(argument).expect("one JSON argument")
        })
        .collect()
}

async fn open(gateway: &Gateway, query: &str) -> (String, String, Raw) {
    let mut raw = Raw::get(gateway.address, &format!("/iframe?{query}")).await;
    let headers = raw.until("\r\n\r\n").await;
    let head = raw.until("<body>").await;
    (headers, head, raw)
}

#[tokio::test]
async fn the_exact_bytes_of_a_document() {
    let gateway = Gateway::start();
    let (headers, head, mut raw) = open(&gateway, "topic=t&callback=app.onEvent").await;
    // A truncated document counts as complete only if its connection delimits it.
    assert!(!headers.contains("transfer-encoding"), "{headers}");
    assert!(headers.contains("connection: close\r\n"), "{headers}");
    assert!(headers.contains("content-type: text/html; charset=utf-8\r\n"), "{headers}");
    let policy =
        headers.lines().find(|it| it.starts_with("content-security-policy: ")).expect("a policy");
    let nonce =
        policy.split("'nonce-").nth(1).and_then(|it| it.split('\'').next()).expect("a nonce");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'self'"),
        "{policy}"
    );
    for header in
        ["x-content-type-options: nosniff", "x-accel-buffering: no", "referrer-policy: no-referrer"]
    {
        assert!(headers.contains(header), "{header} in {headers}");
    }
    assert!(headers.contains("no-store"), "{headers}");
    assert!(2048 <= head.len() && head.contains("<!doctype html>"), "{}", head.len());
    assert!(head.contains(&format!("<script nonce=\"{nonce}\">")));
    assert!(head.contains("\"callback\":\"app.onEvent\""));
    gateway.post(&[("topic", "t"), ("data", "x"), ("id", "i")]).await;
    let bytes = raw.until("</script>\n").await;
    let argument = calls(&bytes).remove(0);
    let token = argument["cursor"].as_str().expect("a token");
    let time = argument["event"]["time"].as_str().expect("a time");
    let event = format!(
        "<script nonce=\"{nonce}\">tidegate({{\"event\":{{\"id\":\"i\",\"type\":null,\"data\":\"x\",\
         \"topics\":[\"t\"],\"retry\":null,\"time\":\"{time}\"}},\"cursor\":\"{token}\"}})</script>\n"
    );
    assert_eq!(bytes, event);
}

#[tokio::test]
async fn nothing_that_is_published_leaves_its_string() {
    let gateway = Gateway::start();
    let (_, _, mut raw) = open(&gateway, "topic=*&callback=f").await;
    let nasty = "</script><script>alert(1)</script><!-- <script ]]> & \u{2028}\u{2029} ' \" \\ \0 \r\n é 😀";
    let form = [("topic", "</script>"), ("data", nasty), ("id", "</script>\"'"), ("type", "<!--")];
    assert_eq!(gateway.post(&form).await.status(), 200);
    let argument = calls(&raw.until("</script>\n").await).remove(0);
    assert_eq!(argument["event"]["data"], nasty);
    assert_eq!(argument["event"]["id"], "</script>\"'");
    assert_eq!(argument["event"]["type"], "<!--");
    assert_eq!(argument["event"]["topics"][0], "</script>");
}

#[tokio::test]
async fn heartbeats_and_heads_carry_a_point_to_resume_from() {
    let gateway = Gateway::with(&[("DELIVERY__HEARTBEAT", "100ms")]);
    let (_, head, mut raw) = open(&gateway, "topic=t&callback=f").await;
    let token =
        head.split("\"cursor\":\"").nth(1).and_then(|it| it.split('"').next()).expect("a token");
    let beat = calls(&raw.until("</script>\n").await).remove(0);
    assert_eq!(beat["heartbeat"], true);
    gateway.publish("t", "1").await;
    for token in [token, beat["cursor"].as_str().expect("a token")] {
        let encoded: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
        let polled = gateway.poll(&format!("/poll?topic=t&last_event_id={encoded}")).await;
        assert_eq!(polled["events"][0]["data"], "1");
    }
}

#[tokio::test]
async fn a_document_is_recycled_before_it_is_too_large() {
    let gateway = Gateway::with(&[("IFRAME__RECYCLE_AFTER", "20KiB")]);
    let data = "x".repeat(5000);
    for _ in 0..10 {
        gateway.publish("t", &data).await;
    }
    let query = "topic=t&callback=f&last_event_id=earliest";
    let (_, _, mut raw) = open(&gateway, query).await;
    let stream = raw.until_end().await;
    let body = stream.replace("</body></html>\n", "");
    let calls = calls(&body);
    let (end, events) = calls.split_last().expect("an end");
    assert_eq!(end["end"], "recycled");
    assert!((2..10).contains(&events.len()), "{}", events.len());
    for cursor in [&end["cursor"], &events.last().expect("an event")["cursor"]] {
        let cursor = cursor.as_str().expect("a token");
        let encoded: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
        let path = format!("/poll?topic=t&wait=0&last_event_id={encoded}");
        let rest = gateway.poll(&path).await["events"].as_array().expect("events").len();
        assert_eq!(rest, 10 - events.len(), "it leads behind what the document had");
    }
    assert!(stream.contains("</body></html>"));
}

#[tokio::test]
async fn an_end_says_why() {
    let gateway = Gateway::with(&[("DELIVERY__LIFETIME", "300ms")]);
    let (_, _, mut raw) = open(&gateway, "topic=t&callback=f").await;
    let end = calls(&raw.until("</script>\n").await).remove(0);
    assert_eq!(end["end"], "lifetime");
    assert!(end["retry"].is_number() && end["cursor"].is_string(), "{end}");
}

#[tokio::test]
async fn bad_callbacks_and_origins_are_refused() {
    let gateway = Gateway::with(&[("CORS__ORIGINS", "https://good.example")]);
    let own = gateway.url("");
    let long = format!("callback={}", "a".repeat(65));
    for (query, field) in [
        ("", "callback"),
        ("callback=", "callback"),
        ("callback=alert(1)//", "callback"),
        ("callback=a%0Ab", "callback"),
        ("callback=a.b.c.d.e.f", "callback"),
        ("callback=__proto__.x", "callback"),
        ("callback=%3Cscript%3E", "callback"),
        (&long, "callback"),
        ("origin=*", "origin"),
        ("origin=https://good.example%3Bscript-src%20*", "origin"),
        ("origin=null", "origin"),
        ("origin=https://evil.example", "origin"),
        ("origin=https://good.example/", "origin"),
        ("origin=https://good.example.evil.example", "origin"),
        ("origin=https://good.example&callback=f", "origin"),
    ] {
        let document = problem(gateway.get(&format!("/iframe?topic=t&{query}")).await, 400).await;
        assert_eq!(document["field"], field, "{query}");
        assert!(!document["detail"].as_str().expect("text").contains("script>"), "{document}");
    }
    for (origin, ancestor) in [("https://good.example", "https://good.example"), (&own, "'self'")] {
        let (headers, head, _) = open(&gateway, &format!("topic=t&origin={origin}")).await;
        assert!(headers.contains(&format!("frame-ancestors {ancestor}\r\n")), "{headers}");
        assert!(head.contains(&format!("\"origin\":\"{origin}\"")));
    }
}

/// What frames of browsers accept.
const OF_A_FRAME: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// The response to a frame.
async fn framed(gateway: &Gateway, token: Option<&str>, query: &str) -> reqwest::Response {
    let request = gateway.client.get(gateway.url(&format!("/iframe?{query}")));
    let request = request.header("accept", OF_A_FRAME);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    request.send().await.expect("a reply")
}

#[tokio::test]
async fn a_frame_is_told_of_every_refusal_and_does_not_retry() {
    let open = Gateway::with(&[("CORS__ORIGINS", "https://good.example")]);
    let closed = guarded(&[("CORS__ORIGINS", "https://good.example")]);
    let (good, evil) = ("origin=https://good.example", "origin=https://evil.example:8443");
    for (gateway, token, query, status, detail) in [
        (&open, None, good.to_owned(), 400, "`topic` is missing"),
        (&open, None, format!("{good}&topics=t"), 400, "`topic` is meant"),
        (&open, None, format!("{good}&topic=t&last=x"), 400, "`last`"),
        (&open, None, "callback=f&topic=t&since=x".to_owned(), 400, "`since`"),
        (&open, None, format!("{evil}&topic=t"), 400, "`cors.origins`"),
        (&closed, None, format!("{good}&topic=t"), 401, "needs a token"),
        (&closed, Some("x"), format!("{good}&topic=t"), 401, "not valid"),
        (&closed, None, format!("{good}&topic=/jobs/x"), 404, "jobs"),
        (&closed, Some("x"), format!("{evil}&topic=t"), 400, "`cors.origins`"),
    ] {
        let response = framed(gateway, token, &query).await;
        assert_eq!(response.status(), status, "{query}");
        let policy = response.headers()["content-security-policy"].to_str().expect("text");
        let ancestor = match query.split(['=', '&']).nth(1) {
            Some(origin) if query.starts_with("origin=") => origin,
            _ => "'self'",
        };
        assert!(policy.ends_with(&format!("frame-ancestors {ancestor}")), "{policy}");
        assert!(response.headers()["content-type"].to_str().expect("text").contains("html"));
        let document = response.text().await.expect("text");
        let (_, call) = document.split_once("<body>").expect("a body");
        let call = call.strip_suffix("</body></html>\n").expect("an end");
        let calls = calls(call);
        assert_eq!(calls.len(), 1, "{query}");
        assert_eq!(calls[0]["refused"]["status"], status, "{query}");
        let told = calls[0]["refused"]["detail"].as_str().expect("text");
        assert!(told.contains(detail), "{query}: {told}");
        // Other programs get the problem document.
        let plain = gateway.client.get(gateway.url(&format!("/iframe?{query}")));
        let plain = match token {
            Some(token) => plain.bearer_auth(token),
            None => plain,
        };
        problem(plain.send().await.expect("a reply"), status).await;
    }
}

#[tokio::test]
async fn parameters_cannot_leave_the_head_script() {
    let gateway = Gateway::start();
    let (_, head, _) =
        open(&gateway, "topic=%3C/script%3E%3Cscript%3Ealert(1)&callback=f&%3C!--=%3C").await;
    assert_eq!(head.matches("<script").count(), 1, "{head}");
    assert_eq!(head.matches("</script").count(), 1, "{head}");
}

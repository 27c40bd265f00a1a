//! Development mode and the pages of other local servers: they read without configuration, write
//! only if told, and a refusal is logged with its cure.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
};

use reqwest::{Method, Response};
use tidegate_testkit::deadline::eventually;

use crate::support::{Gateway, command, directory, problem, tokens::guarded};

/// Origins of development servers.
const LOCAL: [&str; 5] = [
    "http://localhost:5173",
    "http://127.0.0.1:8000",
    "http://0.0.0.0:8000",
    "http://[::1]:8000",
    "https://app.localhost",
];

/// Origins that others can have, though they look local.
const FOREIGN: [&str; 9] = [
    "null",
    "http://localhost.evil.test",
    "http://127.0.0.1.evil.test:5173",
    "http://localhost@evil.test",
    "http://evil.test#localhost",
    "http://127.0.0.1:80:evil.test",
    "http://[::1].evil.test",
    "http://192.168.0.7:5173",
    "http://localhost:5173, http://evil.test",
];

async fn from_page(gateway: &Gateway, method: Method, path: &str, origin: &str) -> Response {
    let request = gateway.client.request(method, gateway.url(path)).header("origin", origin);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body("topic=t").send().await.expect("a reply")
}

fn allowed_origin(reply: &Response) -> Option<&str> {
    reply.headers().get("access-control-allow-origin").map(|it| it.to_str().expect("text"))
}

#[tokio::test]
async fn pages_of_this_machine_read_without_configuration_and_do_not_write() {
    let gateway = Gateway::start();
    for origin in LOCAL {
        for path in ["/poll?topic=t&wait=0", "/events?topic=t", "/poll", "/nowhere"] {
            let reply = from_page(&gateway, Method::GET, path, origin).await;
            assert_eq!(allowed_origin(&reply), Some(origin), "{path}");
            let headers = reply.headers();
            assert!(!headers.contains_key("access-control-allow-credentials"), "{path}");
            assert!(headers["vary"].to_str().expect("text").to_lowercase().contains("origin"));
        }
        for path in ["/events", "/.well-known/mercure", "/jobs", "/jobs/claim"] {
            let reply = from_page(&gateway, Method::POST, path, origin).await;
            // The page can read what it has to change.
            assert_eq!(allowed_origin(&reply), Some(origin), "{path}");
            let problem = problem(reply, 403).await;
            assert_eq!(problem["type"], "urn:tidegate:problem:foreign-origin");
            let detail = problem["detail"].as_str().expect("text");
            assert!(detail.contains("cors.loopback_writes"), "{detail}");
            assert!(detail.contains("--loopback-writes"), "{detail}");
        }
        let frame = format!("/iframe?topic=t&origin={origin}");
        assert_eq!(gateway.get(&frame).await.status(), 200, "{origin}");
    }
    assert_eq!(gateway.metric("tidegate_updates_total").await, 0.0);
}

#[tokio::test]
async fn they_write_where_a_setting_says_so() {
    let gateway = Gateway::with(&[("CORS__LOOPBACK_WRITES", "true")]);
    for origin in LOCAL {
        let reply = from_page(&gateway, Method::POST, "/events", origin).await;
        assert_eq!(allowed_origin(&reply), Some(origin));
        assert_eq!(reply.status(), 200, "{origin}");
        let preflight = gateway.client.request(Method::OPTIONS, gateway.url("/events"));
        let preflight = preflight
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        let reply = preflight.send().await.expect("a reply");
        assert!(reply.status().is_success(), "{origin}");
        assert_eq!(allowed_origin(&reply), Some(origin));
    }
    assert_eq!(gateway.metric("tidegate_updates_total").await, LOCAL.len() as f64);
    for origin in FOREIGN {
        problem(from_page(&gateway, Method::POST, "/events", origin).await, 403).await;
    }
    assert_eq!(gateway.metric("tidegate_updates_total").await, LOCAL.len() as f64);
}

#[tokio::test]
async fn origins_that_only_look_local_get_nothing() {
    let gateway = Gateway::start();
    for origin in FOREIGN {
        let reply = from_page(&gateway, Method::GET, "/poll?topic=t&wait=0", origin).await;
        assert_eq!(allowed_origin(&reply), None, "{origin}");
        let reply = from_page(&gateway, Method::POST, "/events", origin).await;
        assert_eq!(allowed_origin(&reply), None, "{origin}");
        problem(reply, 403).await;
        let frame = format!("/iframe?topic=t&origin={}", origin.replace('#', "%23"));
        assert_eq!(gateway.get(&frame).await.status(), 400, "{origin}");
    }
}

#[tokio::test]
async fn a_rebound_name_is_refused_whatever_its_origin() {
    let gateway = Gateway::with(&[("CORS__LOOPBACK_WRITES", "true")]);
    for origin in ["http://localhost:5173", "http://evil.test:3000"] {
        for method in [Method::GET, Method::POST] {
            let request = gateway.client.request(method, gateway.url("/events"));
            let request = request.header("host", "evil.test:3000").header("origin", origin);
            let reply = request.header("sec-fetch-site", "same-origin").send().await;
            problem(reply.expect("a reply"), 421).await;
        }
    }
}

#[tokio::test]
async fn with_keys_nothing_is_allowed_that_is_not_named() {
    let gateway = guarded(&[("CORS__LOOPBACK_WRITES", "true"), ("AUTH__ANONYMOUS", "true")]);
    for origin in LOCAL {
        let reply = from_page(&gateway, Method::GET, "/poll?topic=t&wait=0", origin).await;
        assert_eq!((reply.status().as_u16(), allowed_origin(&reply)), (200, None), "{origin}");
        let frame = format!("/iframe?topic=t&origin={origin}");
        assert_eq!(gateway.get(&frame).await.status(), 400, "{origin}");
    }
}

#[tokio::test]
async fn cookies_are_for_pages_of_this_machine_only_if_the_operator_says_so() {
    for (setting, expected) in [("false", None), ("true", Some("true"))] {
        let gateway = Gateway::with(&[("CORS__CREDENTIALS", setting)]);
        let reply = from_page(&gateway, Method::GET, "/poll?topic=t&wait=0", LOCAL[0]).await;
        assert_eq!(allowed_origin(&reply), Some(LOCAL[0]));
        let credentials = reply.headers().get("access-control-allow-credentials");
        assert_eq!(credentials.map(|it| it.to_str().expect("text")), expected);
        // Without an allowed origin a browser ignores what is said of credentials.
        for origin in FOREIGN {
            let reply = from_page(&gateway, Method::GET, "/poll?topic=t&wait=0", origin).await;
            assert_eq!(allowed_origin(&reply), None, "{origin}");
        }
    }
}

/// The lines of the log about refused origins.
fn lines(gateway: &Gateway) -> Vec<String> {
    let log = gateway.log();
    log.lines().filter(|it| it.contains("origin")).map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn a_refused_origin_is_logged_once_with_its_cure() {
    let gateway = Gateway::with(&[("LOG__REFUSALS_PER_SECOND", "0")]);
    for _ in 0..3 {
        for (method, origin) in [
            (Method::GET, "https://app.test"),
            (Method::GET, "null"),
            (Method::GET, "http://localhost:5173"),
            (Method::POST, "http://localhost:8000"),
            (Method::POST, &gateway.url("")),
        ] {
            from_page(&gateway, method, "/events?topic=t", origin).await;
        }
    }
    let own_behind_a_proxy = gateway.client.get(gateway.url("/poll?topic=t&wait=0"));
    let own_behind_a_proxy = own_behind_a_proxy.header("origin", "https://public.test");
    let reply = own_behind_a_proxy.header("sec-fetch-site", "same-origin").send().await;
    assert_eq!(reply.expect("a reply").status(), 200);
    for (origin, cure) in [
        ("\"https://app.test\"", "cors.origins"),
        ("\"null\"", "serve the page over HTTP"),
        ("\"http://localhost:8000\"", "cors.loopback_writes"),
    ] {
        eventually(origin, async || lines(&gateway).iter().any(|it| it.contains(origin))).await;
        let lines = lines(&gateway);
        let about: Vec<_> = lines.iter().filter(|it| it.contains(origin)).collect();
        assert_eq!(about.len(), 1, "{lines:?}");
        assert!(about[0].contains(cure) && about[0].contains("WARN"), "{}", about[0]);
    }
    assert_eq!(lines(&gateway).len(), 3, "{:?}", lines(&gateway));
}

#[tokio::test]
async fn a_page_that_may_read_is_not_logged_as_refused() {
    let gateway = Gateway::with(&[("CORS__ORIGINS", "*")]);
    for origin in ["null", "https://app.test", LOCAL[0]] {
        let reply = from_page(&gateway, Method::GET, "/poll?topic=t&wait=0", origin).await;
        assert_eq!(allowed_origin(&reply), Some("*"));
    }
    // A later line shows that the log has arrived.
    from_page(&gateway, Method::POST, "/events", "https://last.test").await;
    eventually("a line", async || gateway.log().contains("https://last.test")).await;
    let lines = lines(&gateway);
    assert!(!lines.iter().any(|it| it.contains("null") || it.contains("app.test")), "{lines:?}");
}

#[tokio::test]
async fn many_invented_origins_leave_few_lines() {
    let gateway = Gateway::with(&[("LOG__REFUSALS_PER_SECOND", "0")]);
    let long = "x".repeat(4000);
    for n in 0..500 {
        let origin = format!("https://{n}.{long}.test");
        from_page(&gateway, Method::GET, "/poll?topic=t&wait=0", &origin).await;
    }
    let last = "without a line in the log (cors.origins)";
    eventually("the last line", async || gateway.log().contains(last)).await;
    let lines = lines(&gateway);
    assert_eq!(lines.len(), 101, "100 origins and the notice");
    assert!(lines.iter().all(|it| it.len() < 600), "{:?}", lines.iter().map(String::len).max());
}

/// Starts the gateway with flags, and returns its greeting.
fn greeting(arguments: &[&str], settings: &[(&str, &str)]) -> String {
    struct Running(Child);
    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let directory = directory();
    let mut command = command(&directory, settings);
    let mut running = Running(command.args(arguments).spawn().expect("the program runs"));
    let output = BufReader::new(running.0.stdout.take().expect("a pipe"));
    let mut text = String::new();
    for line in output.lines().map_while(Result::ok) {
        text += &line;
        text.push('\n');
        if line.trim_start().starts_with("history") {
            break;
        }
    }
    text
}

#[test]
fn the_greeting_says_what_pages_may_do() {
    let memory = ("HISTORY__STORE", "memory");
    let closed = greeting(&[], &[memory]);
    assert!(closed.contains("loopback origins may only read (--loopback-writes"), "{closed}");
    for open in [
        greeting(&["--loopback-writes"], &[memory]),
        greeting(&[], &[memory, ("CORS__LOOPBACK_WRITES", "true")]),
    ] {
        assert!(open.contains("loopback origins may, too (cors.loopback_writes)"), "{open}");
    }
    let key = ("AUTH__PUBLISHER_KEY", "0123456789012345678901234567890123456789");
    let keys = greeting(&[], &[memory, key, ("AUTH__ANONYMOUS", "true")]);
    assert!(!keys.contains("loopback"), "{keys}");
}

//! The mistakes of a first try. Each is answered with a message that names the cure.

use std::{net::TcpListener, path::Path, process::Output};

use serde_json::json;

use crate::support::{
    Gateway, problem, program,
    tokens::{PUBLISHER_KEY, SUBSCRIBER_KEY, from_now, sign},
};

/// A start that fails: flags, variables and the file, and what the message has to contain.
struct Start<'a> {
    arguments: &'a [&'a str],
    variables: &'a [(&'a str, &'a str)],
    file: Option<&'a str>,
    said: &'a [&'a str],
}

const PLAIN: Start<'_> = Start { arguments: &["check"], variables: &[], file: None, said: &[] };

fn run(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = program();
    command.current_dir(directory).args(arguments).envs(variables.iter().copied());
    command.output().expect("the program runs")
}

/// Returns what a failed start says, which is one line.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).expect("text");
    assert!(!output.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("tidegate: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    lines[0].to_owned()
}

#[test]
fn a_wrong_setting_is_told_with_its_place_and_what_is_allowed() {
    const HERE: &str = "tidegate.toml, line ";
    for start in [
        Start {
            file: Some("[server]\n\nlisten = 3000"),
            said: &[HERE, "line 3: server.listen: ", "\"127.0.0.1:3000\"", "\"localhost:3000\""],
            ..PLAIN
        },
        Start {
            file: Some("[server]\nlisten = [3000]"),
            said: &["line 2: server.listen", "`3000`", "`127.0.0.1:3000`"],
            ..PLAIN
        },
        Start {
            file: Some("[server]\nlisten = 'localhost'"),
            said: &["line 2: server.listen: `localhost` is not an address", "`localhost:3000`"],
            ..PLAIN
        },
        Start {
            file: Some("[server]\nlisten = 'nowhere.invalid:3000'"),
            said: &["line 2: server.listen: the host name `nowhere.invalid` cannot be resolved"],
            ..PLAIN
        },
        Start {
            file: Some("[server]\nport = 3000"),
            said: &["line 2: server.port: unknown field `port`", "`listen`"],
            ..PLAIN
        },
        Start {
            file: Some("# settings\n[sever]\nlisten = 'x'"),
            said: &["line 2: sever: unknown field `sever`", "`server`"],
            ..PLAIN
        },
        Start {
            file: Some("server = 3000"),
            said: &["line 1: server: ", "expected a table"],
            ..PLAIN
        },
        Start {
            file: Some("[cors]\norigins = 'https://a.test'"),
            said: &["line 2: cors.origins: ", "expected a list"],
            ..PLAIN
        },
        Start {
            file: Some("[server]\ntrusted_proxies = ['10.0.0.0/99']"),
            said: &["line 2: server.trusted_proxies: `10.0.0.0/99`", "`10.0.0.0/8`"],
            ..PLAIN
        },
        Start {
            file: Some("[log]\nformat = 'xml'"),
            said: &["line 2: log.format: ", "`xml`, expected `text` or `json`"],
            ..PLAIN
        },
        Start {
            file: Some("[history]\nstore = 'tape'"),
            said: &["line 2: history.store: ", "expected one of `disk`, `memory`, `redis`"],
            ..PLAIN
        },
        Start {
            file: Some("[delivery]\nheartbeat = 30"),
            said: &["line 2: delivery.heartbeat: `30` is not a duration such as `30s`"],
            ..PLAIN
        },
        Start {
            file: Some(
                "[[history.rules]]\ntopic = 'a'\n\n[[history.rules]]\ntopic = 'b'\nmax_age = 1",
            ),
            said: &["line 6: history.rules[1].max_age: `1` is not a duration"],
            ..PLAIN
        },
        Start {
            file: Some("[mercure]\nold_token_claims = ['exp', 'sub']"),
            said: &["line 2: mercure.old_token_claims[1]: ", "`exp`, `aud`, `iss`"],
            ..PLAIN
        },
        Start {
            file: Some("[limits]\nmatchers = 0"),
            said: &["limits.matchers is 0; it has to be at least 1", "line 2"],
            ..PLAIN
        },
        Start {
            file: Some("[server]\nlisten = '0.0.0.0:3000'"),
            said: &["server.open_to_everybody", "auth.publisher_key", "line 2"],
            ..PLAIN
        },
        Start {
            file: Some("listen = '127.0.0.1:3000'"),
            said: &["line 1: listen: unknown field", "did you mean ops.listen or server.listen or"],
            ..PLAIN
        },
        Start {
            file: Some("[log]\nmax_wait = '1s'"),
            said: &["line 2: log.max_wait", "did you mean jobs.max_wait or poll.max_wait?"],
            ..PLAIN
        },
        Start {
            file: Some("[history]\nmax_age = '7 days'"),
            said: &["line 2: history.max_age: `7 days` is no", "the hour", "7 days are `168h`"],
            ..PLAIN
        },
        Start {
            file: Some("[server]\nlisten = '127.0.0.1:3000\n[log]"),
            said: &["line 2: the text that begins here does not end: a closing `'` is missing"],
            ..PLAIN
        },
        Start {
            file: Some("[server]\nlisten = \"127.0.0.1:3000\n[log]"),
            said: &["line 2: the text that begins here does not end: a closing `\"` is missing"],
            ..PLAIN
        },
        Start {
            file: Some("[auth]\npublisher_key_file = '/dev/null'\nanonymous = true"),
            said: &["auth.publisher_key", "the key file /dev/null is empty"],
            ..PLAIN
        },
        Start {
            arguments: &["token", "mint", "--publish", "a"],
            said: &["there is no key to sign with; set auth.publisher_key, or give --key-file"],
            ..PLAIN
        },
        Start {
            arguments: &["token", "mint", "--subscribe", "a"],
            said: &["there is no key to sign with; set auth.subscriber_key"],
            ..PLAIN
        },
        Start {
            file: Some("[auth]\nsubscriber_key_file = '/dev/null'"),
            arguments: &["token", "mint", "--subscribe", "a"],
            said: &["the key file /dev/null is empty"],
            ..PLAIN
        },
        Start { file: Some("[log]\n[server"), said: &["tidegate.toml, line 2: "], ..PLAIN },
        Start {
            variables: &[("TIDEGATE_LIMITS__MATCHERS", "many")],
            said: &["the variable TIDEGATE_LIMITS__MATCHERS: limits.matchers: ", "an integer"],
            ..PLAIN
        },
        Start {
            variables: &[("TIDEGATE_SERVER__LISTN", "x")],
            said: &["the variable TIDEGATE_SERVER__LISTN: ", "unknown field `listn`", "`listen`"],
            ..PLAIN
        },
        Start {
            file: Some("[server]\nlisten = '127.0.0.1:3000'"),
            arguments: &["check", "--listen", "3000"],
            said: &["the command line: server.listen: `3000`", "`127.0.0.1:3000`"],
            ..PLAIN
        },
        Start {
            file: Some(
                "[auth]\npublisher_key = 'secret'\nanonymous = true\n[server]\nlisten = '0.0.0.0:0'",
            ),
            said: &["auth.publisher_key is shorter than 32 bytes", "openssl rand"],
            ..PLAIN
        },
        Start {
            file: Some(
                "[auth]\npublisher_key = '!ChangeThisMercureHubJWTSecretKey!'\nanonymous = true\n\
                 [server]\nlisten = '0.0.0.0:0'",
            ),
            said: &["auth.publisher_key", "public documentation", "openssl rand"],
            ..PLAIN
        },
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        if let Some(text) = start.file {
            std::fs::write(directory.path().join("tidegate.toml"), text).expect("writable");
        }
        let complaint = complaint(&run(directory.path(), start.arguments, start.variables));
        for said in start.said {
            assert!(complaint.contains(said), "{said:?} in {complaint}");
        }
        assert!(!complaint.contains("untagged enum"), "{complaint}");
    }
}

/// A request that is refused, as curl sends it without further flags.
struct Ask<'a> {
    path: &'a str,
    kind: &'a str,
    body: &'a str,
    status: u16,
    field: Option<&'a str>,
    said: &'a [&'a str],
}

const EVENTS: Ask<'_> =
    Ask { path: "/events", kind: FORM, body: "", status: 400, field: None, said: &[] };
const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn a_wrong_request_is_told_what_is_meant() {
    let gateway = Gateway::start();
    for wrong in ["topics", "Topic", "topic[]"] {
        let body = format!("{wrong}=t&data=x");
        let said = format!("`{wrong}` is no field of an update; `topic` is meant");
        let ask = Ask { body: &body, field: Some(wrong), said: &[&said], ..EVENTS };
        is_told(&gateway, &ask).await;
    }
    for (wrong, right) in [
        ("dat", "data"),
        ("Data", "data"),
        ("ID", "id"),
        ("typ", "type"),
        ("Retry", "retry"),
        ("privat", "private"),
        ("exept", "except"),
    ] {
        let body = format!("topic=t&{wrong}=1");
        let said = format!("`{wrong}` is no field of an update; `{right}` is meant");
        for path in ["/events", "/.well-known/mercure"] {
            let ask = Ask { path, body: &body, field: Some(wrong), said: &[&said], ..EVENTS };
            is_told(&gateway, &ask).await;
        }
    }
    let json = r#"{"topics":["t"],"data":"x"}"#;
    let looks = &["the body looks like JSON", "`Content-Type: application/json`", "/events"][..];
    let object = &["not JSON", "`Content-Type: application/json`"][..];
    for ask in [
        Ask { body: json, field: Some("Content-Type"), said: looks, ..EVENTS },
        Ask { path: "/.well-known/mercure", body: json, said: looks, ..EVENTS },
        Ask { body: "[1]", said: looks, ..EVENTS },
        Ask { body: "data=x", field: Some("topic"), said: &["`topic` is missing"], ..EVENTS },
        Ask { body: "topic=&data=x", field: Some("topic"), said: &["`topic` is empty"], ..EVENTS },
        Ask { path: "/jobs", body: "type=report", status: 415, said: object, ..EVENTS },
        Ask { path: "/jobs/claim", body: "types=report", status: 415, said: object, ..EVENTS },
        Ask {
            path: "/jobs",
            kind: "application/json",
            body: "type=report",
            said: &["line 1"],
            ..EVENTS
        },
    ] {
        is_told(&gateway, &ask).await;
    }
    // What is not on the list is ignored, as Mercure demands, and JSON needs no name at /jobs.
    let reply = gateway.post(&[("topic", "t"), ("extra", "1"), ("{", "")]).await;
    assert_eq!(reply.status(), 200);
    let request = gateway.client.post(gateway.url("/jobs")).header("content-type", FORM);
    assert_eq!(request.body(r#"{"type":"t"}"#).send().await.expect("a reply").status(), 202);

    for path in ["/events?topic=", "/poll?match=", "/iframe?callback=f&topic=t&topic="] {
        let detail = problem(gateway.get(path).await, 400).await["detail"].to_string();
        assert!(detail.contains("is empty, and no update has an empty topic"), "{detail}");
    }
    let request = gateway.client.get(gateway.url("/events?topic=t"));
    let reply = request.header("accept", "application/json").send().await.expect("a reply");
    let detail = problem(reply, 406).await["detail"].to_string();
    assert!(detail.contains("text/event-stream") && detail.contains("/poll"), "{detail}");
}

async fn is_told(gateway: &Gateway, ask: &Ask<'_>) {
    let request = gateway.client.post(gateway.url(ask.path)).header("content-type", ask.kind);
    let reply = request.body(ask.body.to_owned()).send().await.expect("a reply");
    let document = problem(reply, ask.status).await;
    let detail = document["detail"].as_str().expect("text");
    for said in ask.said {
        assert!(detail.contains(said), "{said:?} in {detail:?} for {}", ask.body);
    }
    assert!(ask.field.is_none_or(|it| document["field"] == *it), "{document}");
}

#[test]
fn doubtful_settings_are_warned_of_by_check() {
    for (file, said) in [
        (
            "publisher_key = 'secret'\nanonymous = true",
            "auth.publisher_key is shorter than 32 bytes",
        ),
        (
            "publisher_key = '!ChangeThisMercureHubJWTSecretKey!'\nanonymous = true",
            "public documentation",
        ),
        (
            "publisher_key = 'secret'\nanonymous = true\n[cors]\nloopback_writes = true",
            "cors.loopback_writes has no effect",
        ),
        (
            "publisher_key = 'secret'\nanonymous = true\n[server]\npublic_url = 'http://a.test'",
            "the cookie `__Secure-mercure_access_token` (auth.cookie) over HTTPS only",
        ),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let text = format!("[auth]\n{file}\n");
        std::fs::write(directory.path().join("tidegate.toml"), text).expect("writable");
        let output = run(directory.path(), &["check"], &[]);
        assert!(output.status.success(), "{output:?}");
        let warnings = String::from_utf8(output.stderr).expect("text");
        let is_said = |it: &str| it.starts_with("tidegate: warning: ") && it.contains(said);
        assert!(warnings.lines().any(is_said), "{said} in {warnings}");
    }
}

#[test]
fn host_names_are_listened_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = run(directory.path(), &["check", "--listen", "localhost:3000"], &[]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("127.0.0.1:3000") || text.contains("[::1]:3000"), "{text}");
    let output = run(directory.path(), &["--listen", "localhost"], &[]);
    assert!(complaint(&output).contains("localhost:3000"));
}

#[test]
fn a_busy_port_is_told_with_its_process_and_leaves_nothing_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let complaint = complaint(&run(directory.path(), &["--listen", &address], &[]));
    for said in [&*address, "(server.listen)", "in use", "--listen"] {
        assert!(complaint.contains(said), "{said} in {complaint}");
    }
    if cfg!(target_os = "linux") {
        let process = format!("(process {})", std::process::id());
        assert!(complaint.contains(&process), "{process} in {complaint}");
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("readable").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_told_with_its_setting_and_path() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("file"), "").expect("writable");
    let path = directory.path().canonicalize().expect("it exists").join("file");
    for (name, expected) in [("file", path.clone()), ("file/data", path.join("data"))] {
        let listen = ("TIDEGATE_SERVER__LISTEN", "127.0.0.1:0");
        let variables = [("TIDEGATE_HISTORY__PATH", name), listen];
        let complaint = complaint(&run(directory.path(), &[], &variables));
        let said = format!("the store {} (history.path) cannot be used", expected.display());
        assert!(complaint.contains(&said), "{said} in {complaint}");
        assert!(complaint.contains("it has to be a directory"), "{complaint}");
    }
}

#[tokio::test]
async fn an_expired_token_is_told_to_its_bearer_and_a_forged_one_is_not() {
    let gateway = Gateway::with(&[
        ("AUTH__PUBLISHER_KEY", PUBLISHER_KEY),
        ("AUTH__SUBSCRIBER_KEY", SUBSCRIBER_KEY),
    ]);
    let claims = |exp: i64| json!({ "mercure": { "publish": ["*"] }, "exp": exp });
    let expired = sign(Some("JWT"), &claims(from_now(-60)), PUBLISHER_KEY);
    let reply = gateway.post_as(&expired, &[("topic", "t")]).await;
    let challenge = reply.headers()["www-authenticate"].to_str().expect("text").to_owned();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    assert!(challenge.contains("error_description=\"The access token expired\""), "{challenge}");
    let document = problem(reply, 401).await;
    assert_eq!(document["type"], "urn:tidegate:problem:token-invalid");
    assert_eq!(document["detail"], "the token has expired; send a new one");

    let subscriber = json!({ "mercure": { "subscribe": ["*"] }, "exp": from_now(-60) });
    let subscriber = sign(Some("JWT"), &subscriber, SUBSCRIBER_KEY);
    let reply = gateway.get_as(&subscriber, "/events?topic=t").await;
    assert_eq!(problem(reply, 401).await["detail"], "the token has expired; send a new one");

    for other in [
        sign(Some("JWT"), &claims(from_now(-60)), SUBSCRIBER_KEY),
        sign(Some("at+jwt"), &claims(from_now(-60)), PUBLISHER_KEY),
        sign(Some("JWT"), &json!({ "exp": "soon" }), PUBLISHER_KEY),
    ] {
        let reply = gateway.post_as(&other, &[("topic", "t")]).await;
        let detail = problem(reply, 401).await["detail"].to_string();
        assert!(detail.contains("the log of the gateway says why"), "{detail}");
    }
}

#[tokio::test]
async fn a_cookie_that_browsers_keep_from_plain_http_is_explained() {
    let keys = [("AUTH__PUBLISHER_KEY", PUBLISHER_KEY), ("AUTH__SUBSCRIBER_KEY", SUBSCRIBER_KEY)];
    let explained = "the cookie `__Secure-mercure_access_token` over HTTPS only";
    let proxies = ("SERVER__TRUSTED_PROXIES", "127.0.0.0/8");
    let gateway = Gateway::with(&[keys[0], keys[1], proxies]);
    let other_name = Gateway::with(&[keys[0], keys[1], ("AUTH__COOKIE", "token")]);
    for (gateway, scheme, is_explained) in
        [(&gateway, "http", true), (&gateway, "https", false), (&other_name, "http", false)]
    {
        for path in ["/events?topic=t", "/poll?topic=t", "/jobs"] {
            let request = gateway.client.get(gateway.url(path));
            let reply = request.header("x-forwarded-proto", scheme).send().await;
            let detail = problem(reply.expect("a reply"), 401).await["detail"].to_string();
            assert_eq!(detail.contains(explained), is_explained, "{path}: {detail}");
            assert_eq!(detail.contains("auth.cookie"), is_explained, "{path}: {detail}");
        }
    }
}

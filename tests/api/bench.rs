//! `tidegate bench` against a gateway: it counts correctly, and reports what is wrong.

use std::{process::Stdio, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{DEADLINE, Gateway, program};

/// The outcome of a run of `tidegate bench`.
struct Outcome {
    code: Option<i32>,
    output: String,
    errors: String,
}

impl Outcome {
    fn report(&self) -> Value {
        serde_json::from_str(&self.output)
            .unwrap_or_else(|_| panic!("{} {}", self.output, self.errors))
    }
}

fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::from(program());
    command.args(["bench", url]).args(arguments).kill_on_drop(true);
    command
}

async fn bench(url: &str, arguments: &[&str]) -> Outcome {
    let run = command(url, arguments).output();
    let output = timeout(DEADLINE, run).await.expect("an end in time").expect("it runs");
    Outcome {
        code: output.status.code(),
        output: String::from_utf8(output.stdout).expect("text"),
        errors: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Runs it, and checks that everything arrived.
async fn all_arrives(url: &str, arguments: &[&str], deliveries: u64) -> Value {
    let outcome = bench(url, &[arguments, &["--json"]].concat()).await;
    let report = outcome.report();
    assert_eq!(outcome.code, Some(0), "{report:#} {}", outcome.errors);
    let delivery = &report["delivery"];
    assert_eq!(delivery["expected"], deliveries, "{report:#}");
    assert_eq!(delivery["delivered"], deliveries, "{report:#}");
    for fault in ["lost", "duplicates", "out_of_order", "stray"] {
        assert_eq!(delivery[fault], 0, "{report:#}");
    }
    let latency = |name: &str| delivery["latency_ms"][name].as_f64().expect("a number");
    assert!(0.0 < latency("p50") && latency("p50") <= latency("p99.9"), "{report:#}");
    assert!(latency("p99.9") <= latency("max"), "{report:#}");
    assert_eq!(report["publish"]["failures"], 0);
    assert_eq!(report["connect"]["refused"], 0);
    report
}

#[tokio::test]
async fn everything_arrives_over_every_transport() {
    let gateway = Gateway::start();
    for transport in ["sse", "iframe", "poll"] {
        // 60 messages on 3 topics, each with 4 of the subscribers.
        let arguments = ["--transport", transport, "--subscribers", "12", "--topics", "3"];
        let load = ["--messages", "60", "--rate", "0", "--publishers", "2", "--payload", "1KiB"];
        let report = all_arrives(&gateway.url("/"), &[&arguments[..], &load].concat(), 240).await;
        assert_eq!(report["transport"], transport);
        assert_eq!(report["connect"]["connected"], 12);
        assert_eq!(report["publish"]["messages"], 60);
        let bytes = report["delivery"]["bytes_per_delivery"].as_f64().expect("a number");
        assert!(1024.0 < bytes, "{report:#}");
    }
}

#[tokio::test]
async fn publishers_that_share_a_topic_are_no_disorder() {
    let gateway = Gateway::start();
    let arguments = ["--subscribers", "3", "--publishers", "4", "--messages", "80", "--rate", "0"];
    all_arrives(&gateway.url("/.well-known/mercure"), &arguments, 240).await;
}

#[tokio::test]
async fn it_publishes_at_a_rate_for_a_time() {
    let gateway = Gateway::start();
    let arguments = ["--subscribers", "2", "--rate", "100", "--duration", "300ms"];
    let report = all_arrives(&gateway.url("/"), &arguments, 60).await;
    let rate = report["publish"]["messages_per_second"].as_f64().expect("a number");
    assert!(rate < 110.0, "{report:#}");
}

#[tokio::test]
async fn a_stream_that_ends_is_followed_on_the_next_one() {
    let gateway = Gateway::with(&[("IFRAME__RECYCLE_AFTER", "4KiB")]);
    let arguments = ["--transport", "iframe", "--subscribers", "2"];
    let load = ["--messages", "200", "--rate", "100"];
    let report = all_arrives(&gateway.url("/"), &[&arguments[..], &load].concat(), 400).await;
    assert!(1 < report["connect"]["reconnections"].as_u64().expect("a number"), "{report:#}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_is_watched() {
    let gateway = Gateway::start();
    let pid = gateway.process.id().to_string();
    let arguments = ["--subscribers", "20", "--messages", "20", "--rate", "0", "--pid", &pid];
    let report = all_arrives(&gateway.url("/"), &arguments, 400).await;
    let server = &report["server"];
    assert!(0 < server["memory_before_bytes"].as_u64().expect("a number"), "{report:#}");
    assert!(server["user_us_per_delivery"].is_f64(), "{report:#}");
}

#[tokio::test]
async fn the_report_is_readable() {
    let gateway = Gateway::start();
    let outcome = bench(&gateway.url("/"), &["--messages", "3", "--rate", "0"]).await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    for line in ["connected   100 of 100", "published   3 messages", "delivered   300 of 300"] {
        assert!(outcome.output.contains(line), "{}", outcome.output);
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_told_and_fails() {
    let gateway = Gateway::start();
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        format!("http://{}/", listener.local_addr().expect("an address"))
    };
    for (url, arguments, code, told) in [
        (gone, &[][..], 1, "cannot be reached"),
        (gateway.url("/nothing"), &[], 1, "no subscriber got in: status 404"),
        (gateway.url("/nothing"), &["--transport", "poll"], 1, "give the gateway's own"),
        ("nonsense".to_owned(), &[], 2, "not an http or https address"),
        (gateway.url("/"), &["--payload", "1B"], 1, "a message has"),
        (gateway.url("/"), &["--subscribers", "900000000"], 1, "ulimit -n"),
        (gateway.url("/"), &["--pid", "4000000000"], 1, "process 4000000000 cannot be watched"),
    ] {
        let outcome = bench(&url, arguments).await;
        assert_eq!(outcome.code, Some(code), "{}", outcome.errors);
        assert!(outcome.errors.contains(told), "{}", outcome.errors);
        assert_eq!(outcome.output, "");
    }
}

#[tokio::test]
async fn who_was_refused_and_what_was_refused_make_it_fail() {
    let gateway = Gateway::with(&[("LIMITS__SUBSCRIBERS", "3"), ("LIMITS__BODY_BYTES", "1KiB")]);
    let arguments = ["--json", "--subscribers", "5", "--payload", "2KiB", "--messages", "2"];
    let outcome = bench(&gateway.url("/"), &arguments).await;
    let report = outcome.report();
    assert_eq!(outcome.code, Some(1));
    assert_eq!(report["connect"]["connected"], 3);
    assert_eq!(report["connect"]["refused"], 2);
    assert_eq!(report["delivery"]["expected"], 0);
    assert!(
        outcome.errors.contains("2 subscribers were refused (status 503: "),
        "{}",
        outcome.errors
    );
    assert!(outcome.errors.contains("1 publications failed (status 413: "), "{}", outcome.errors);
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_ends_it_with_what_there_is() {
    let gateway = Gateway::start();
    let mut run = command(&gateway.url("/"), &["--json", "--duration", "1h", "--subscribers", "7"]);
    let child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    gateway.until_metric("tidegate_subscribers{transport=\"sse\"}", 7.0).await;
    while gateway.metric("tidegate_updates_total").await < 3.0 {
        tokio::task::yield_now().await;
    }
    let pid = child.id().expect("it still runs").to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(killed.expect("kill runs").success());
    let output = timeout(DEADLINE, child.wait_with_output()).await.expect("an end in time");
    let output = output.expect("its output");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["interrupted"], true);
    let messages = report["publish"]["messages"].as_u64().expect("a number");
    assert!(3 <= messages);
    assert_eq!(report["delivery"]["delivered"], 7 * messages);
}

/// A server that accepts everything and never delivers.
#[tokio::test]
async fn what_does_not_arrive_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(swallow(stream));
        }
    });
    let arguments = ["--messages", "4", "--rate", "0", "--subscribers", "5", "--patience", "50ms"];
    let outcome = bench(&url, &arguments).await;
    assert_eq!(outcome.code, Some(1), "{}", outcome.output);
    assert_eq!(outcome.errors, "tidegate: 20 deliveries were lost\n");
}

/// Replies to requests. Each request is one short write, so it is read at once.
async fn swallow(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 4096];
    loop {
        let length = stream.read(&mut request).await?;
        let reply = match &request[..length] {
            [] => return Ok(()),
            [b'P', ..] => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nid",
            _ => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n",
        };
        stream.write_all(reply.as_bytes()).await?;
    }
}

#[tokio::test]
async fn tls_is_spoken_and_certificates_are_checked() {
    let gateway = Gateway::start();
    let url = tls_in_front_of(&gateway).await;
    let arguments = ["--subscribers", "5", "--messages", "20", "--rate", "0"];
    all_arrives(&url, &[&arguments[..], &["--insecure"]].concat(), 100).await;
    let outcome = bench(&url, &arguments).await;
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.errors.contains("certificate"), "{}", outcome.errors);
}

/// Returns the URL of a proxy with a self-signed certificate.
async fn tls_in_front_of(gateway: &Gateway) -> String {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("a certificate and its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let address = gateway.address;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut outside = acceptor.accept(stream).await.ok()?;
                let mut inside = TcpStream::connect(address).await.ok()?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await.ok()
            });
        }
    });
    format!("https://localhost:{port}/")
}

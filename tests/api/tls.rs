//! TLS: every transport over HTTP/2 and HTTP/1.1, and the certificate's files.

use std::fs;

use reqwest::{Client, Version};

use crate::support::{
    Gateway, program,
    sinks::SSE,
    sse::Stream,
    tls::{self, Files},
    watch::eventually,
};

#[tokio::test]
async fn every_transport_works_over_both_versions_of_http() {
    let (gateway, _files, pem) = tls::gateway(&[]);
    for over_http_2 in [true, false] {
        let client = tls::client(&pem, over_http_2);
        let version = if over_http_2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let reply = client.get(gateway.secure_url("/health/live")).send().await;
        assert_eq!(reply.expect("a reply").version(), version);
        let mut stream = Stream::open(client.get(gateway.secure_url("/events?topic=t"))).await;
        // HTTP/2 has its own frames.
        assert_eq!(stream.headers().contains_key("transfer-encoding"), !over_http_2);
        let page = client.get(gateway.secure_url("/iframe?topic=t&callback=f")).send().await;
        let mut page = page.expect("a page");
        let data = "x".repeat(300_000);
        let first = gateway.publish("t", &data).await;
        gateway.publish("t", "second").await;
        assert_eq!(stream.data(2).await, [data.as_str(), "second"]);
        let mut html = String::new();
        while !html.contains("\"second\"") {
            let chunk = page.chunk().await.expect("readable").expect("not the end");
            html.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
        assert!(html.contains(&data));
        let poll = gateway.secure_url(&format!("/poll?topic=t&last_event_id={first}"));
        let reply = client.get(poll).send().await.expect("a reply");
        let reply: serde_json::Value = reply.json().await.expect("JSON");
        assert_eq!(reply["events"][0]["data"], "second");
        let next = reply["next"].as_str().expect("an address");
        assert!(next.starts_with("poll?"), "{next}");
    }
}

#[tokio::test]
async fn the_start_page_names_the_encrypted_address() {
    let (gateway, _files, pem) = tls::gateway(&[]);
    for over_http_2 in [true, false] {
        let page = tls::client(&pem, over_http_2).get(gateway.secure_url("/")).send().await;
        let page = page.expect("a page").text().await.expect("text");
        assert!(page.contains(gateway.secure_url("").as_str()), "{page}");
        assert!(!page.contains(&gateway.secure_url("").replace("https:", "http:")), "{page}");
    }
}

#[tokio::test]
async fn a_dozen_streams_share_one_connection() {
    let (gateway, _files, pem) = tls::gateway(&[]);
    let client = tls::client(&pem, true);
    let mut streams = vec![Stream::open(client.get(gateway.secure_url("/events?topic=t"))).await];
    gateway.until_metric(SSE, 1.0).await;
    let before = gateway.descriptors();
    for _ in 1..12 {
        streams.push(Stream::open(client.get(gateway.secure_url("/events?topic=t"))).await);
    }
    gateway.until_metric(SSE, 12.0).await;
    assert!(gateway.descriptors() <= before + 1, "{} {before}", gateway.descriptors());
    for at in 0..20 {
        gateway.publish("t", &format!("{at} {}", "x".repeat(10_000))).await;
    }
    for stream in &mut streams {
        for at in 0..20 {
            assert!(stream.next().await.data.starts_with(&format!("{at} ")));
        }
    }
}

#[tokio::test]
async fn a_client_that_stalls_loses_nothing_and_delays_no_other() {
    let settings = [("DELIVERY__TAIL_BYTES", "100KiB"), ("PUBLISH__REFUSE_WHEN_BEHIND", "false")];
    let (gateway, _files, pem) = tls::gateway(&settings);
    for over_http_2 in [true, false] {
        let client = tls::client(&pem, over_http_2);
        let open = || Stream::open(client.get(gateway.secure_url("/events?topic=t")));
        let (mut stalled, mut reader) = (open().await, open().await);
        let data: Vec<_> = (0..50).map(|at| format!("{at} {}", "x".repeat(200_000))).collect();
        for data in &data {
            gateway.publish("t", data).await;
            assert!(reader.next().await.data == *data);
        }
        assert!(stalled.data(data.len()).await == data);
    }
}

/// Whether a client that trusts only `pem` can open a new connection.
async fn is_trusted(gateway: &Gateway, pem: &str) -> bool {
    tls::client(pem, true).get(gateway.secure_url("/health/live")).send().await.is_ok()
}

#[tokio::test]
async fn a_hangup_has_the_certificate_read_again_unless_it_is_broken() {
    let (gateway, files, first) = tls::gateway(&[]);
    let mut stream =
        Stream::open(tls::client(&first, true).get(gateway.secure_url("/events?topic=t"))).await;
    let second = files.renew();
    assert!(is_trusted(&gateway, &first).await, "not before it is told to");
    gateway.signal("-HUP");
    eventually("the new certificate", async || is_trusted(&gateway, &second).await).await;
    assert!(!is_trusted(&gateway, &first).await);

    fs::write(&files.certificate, "no certificate").expect("it can be written");
    gateway.signal("-HUP");
    eventually("a complaint", async || gateway.log().contains("stays in use")).await;
    assert!(gateway.log().contains("tls.certificate"), "{}", gateway.log());
    assert!(is_trusted(&gateway, &second).await);
    gateway.publish("t", "through it all").await;
    assert_eq!(stream.next().await.data, "through it all");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_said_at_the_start() {
    let (good, _) = Files::new();
    let (other, _) = Files::new();
    let empty = good.key.with_file_name("empty.pem");
    fs::write(&empty, "").expect("it can be written");
    let missing = good.key.with_file_name("missing.pem");
    for (certificate, key, setting, file) in [
        (&missing, &good.key, "tls.certificate", &missing),
        (&empty, &good.key, "tls.certificate", &empty),
        (&good.certificate, &missing, "tls.key", &missing),
        (&good.certificate, &empty, "tls.key", &empty),
        (&good.certificate, &other.key, "tls.key", &other.key),
    ] {
        let output = program()
            .current_dir(good.key.parent().expect("a folder"))
            .env("TIDEGATE_SERVER__LISTEN", "127.0.0.1:0")
            .env("TIDEGATE_TLS__LISTEN", "127.0.0.1:0")
            .env("TIDEGATE_TLS__CERTIFICATE", certificate)
            .env("TIDEGATE_TLS__KEY", key)
            .output()
            .expect("it runs");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success());
        assert!(text.contains(setting) && text.contains(file.to_str().expect("text")), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_there_is_refused_and_hurts_no_other() {
    let (gateway, _files, pem) = tls::gateway(&[]);
    let plain = gateway.secure_url("/health/live").replace("https:", "http:");
    assert!(Client::new().get(plain).send().await.is_err());
    assert!(is_trusted(&gateway, &pem).await);
}

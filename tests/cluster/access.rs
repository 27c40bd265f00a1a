//! Who may connect to Redis, and how: TLS, users, Sentinel, Cluster.

use std::{fs, process::Stdio};

use tidegate_testkit::{
    deadline::eventually, environment, launch::directory, ports::free_port, redis::Redis,
    tls::Files,
};

use crate::support::{Node, launch, refused};

#[tokio::test]
async fn a_user_with_few_permissions_and_a_password_file_over_tls() {
    let (files, pem) = Files::new();
    let tls_port = free_port();
    let [certificate, key] = [&files.certificate, &files.key].map(|it| it.to_str().expect("text"));
    let arguments = [
        "--tls-port",
        &tls_port.to_string(),
        "--tls-cert-file",
        certificate,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        certificate,
        "--tls-auth-clients",
        "no",
    ];
    let Some(redis) = Redis::start(&arguments) else { return };
    let permissions = "+@read +@write +@scripting +info +time +wait +ping +hello +client";
    let mut user = vec!["ACL", "SETUSER", "tidegate", "on", ">open sesame", "~tg:*"];
    user.extend(permissions.split(' '));
    assert_eq!(redis.run(&user), "+OK\r\n");
    let folder = directory();
    let (password, authority) = (folder.path().join("password"), folder.path().join("ca"));
    fs::write(&password, "open sesame\n").expect("it can be written");
    fs::write(&authority, pem).expect("it can be written");
    let address = format!("rediss://localhost:{tls_port}");
    let settings = [
        ("CLUSTER__USER", "tidegate"),
        ("CLUSTER__PASSWORD_FILE", password.to_str().expect("text")),
        ("CLUSTER__CA_FILE", authority.to_str().expect("text")),
    ];
    let node = Node::with(&address, &settings);
    node.publish("t", "1").await;
    assert_eq!(node.everything("t").await, ["1"]);
    // Without the certificate of the authority, the server is not trusted.
    let stranger = launch(&address).with(&settings[..2]).start();
    let ready = stranger.get("/health/ready").await;
    assert_eq!(ready.status(), 503);
    redis.run(&["ACL", "SETUSER", "tidegate", "-@scripting"]);
    let said = refused(&launch(&address).with(&settings));
    assert!(said.contains("cluster.user") && said.contains("permission"), "{said}");
}

#[tokio::test]
async fn the_primary_is_found_by_sentinel_and_found_again_after_a_failover() {
    let Some(primary) = Redis::start(&[]) else { return };
    let master = format!("127.0.0.1 {}", primary.port);
    let Some(replica) = Redis::start(&["--replicaof", &master]) else { return };
    let (folder, port) = (directory(), free_port());
    let file = folder.path().join("sentinel.conf");
    let text = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor main {master} 1\n\
         sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n"
    );
    fs::write(&file, text).expect("it can be written");
    let mut sentinel = environment::command("redis-sentinel");
    let sentinel = sentinel.arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
    let mut sentinel = sentinel.spawn().expect("redis-sentinel starts");
    let is_linked =
        async || replica.run(&["INFO", "replication"]).contains("master_link_status:up");
    eventually("the replica follows", is_linked).await;
    let knows = async || primary.run(&["INFO", "replication"]).contains("connected_slaves:1");
    eventually("the primary knows its replica", knows).await;
    let address = format!("redis+sentinel://127.0.0.1:{port}/main");
    let node = Node::with(&address, &[]);
    node.until_ready().await;
    let mut stream = node.open("/events?topic=t").await;
    node.publish("t", "1").await;
    let mut primary = primary;
    // Sentinel has to know the replica before it can promote it.
    eventually("sentinel knows the replica", async || {
        let asked = environment::command("redis-cli")
            .args(["-p", &port.to_string(), "sentinel", "replicas", "main"])
            .output();
        asked.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("127.0.0.1"))
    })
    .await;
    primary.kill();
    node.publish_surely("t", "2").await;
    assert_eq!(stream.data(2).await, ["1", "2"]);
    assert!(replica.run(&["INFO", "replication"]).contains("role:master"));
    let _ = sentinel.kill();
    let _ = sentinel.wait();
}

#[tokio::test]
async fn the_server_of_the_slot_is_found_in_a_redis_cluster() {
    let Some(first) = Redis::start(&["--cluster-enabled", "yes"]) else { return };
    let Some(second) = Redis::start(&["--cluster-enabled", "yes"]) else { return };
    let slot = first.run(&["CLUSTER", "KEYSLOT", "tg:{main}:meta"]);
    let slot: u16 = slot.trim().trim_start_matches(':').parse().expect("a number");
    // The log is at the second server, and the rest at the first.
    let range = |from: u16, to: u16| [from.to_string(), to.to_string()];
    let ([a, b], [c, d]) = (range(0, slot - 1), range(slot + 1, 16383));
    first.run(&["CLUSTER", "ADDSLOTSRANGE", &a, &b, &c, &d]);
    second.run(&["CLUSTER", "ADDSLOTS", &slot.to_string()]);
    second.run(&["CLUSTER", "SET-CONFIG-EPOCH", "2"]);
    first.run(&["CLUSTER", "MEET", "127.0.0.1", &second.port.to_string()]);
    for server in [&first, &second] {
        let is_whole = async || server.run(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
        eventually("the cluster is whole", is_whole).await;
    }
    let address = format!("redis+cluster://127.0.0.1:{}", first.port);
    let (one, other) = (Node::with(&address, &[]), Node::with(&address, &[]));
    let mut stream = other.open("/events?topic=t").await;
    one.publish("t", "1").await;
    assert_eq!(stream.next().await.data, "1");
    assert_eq!(second.run(&["EXISTS", "tg:{main}:meta"]), ":1\r\n");
}

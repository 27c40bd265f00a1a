//! An unsuitable Redis, and contradictory settings.

use tidegate_testkit::{
    deadline::eventually,
    launch::{Launch, directory},
    ports::free_port,
    redis::Redis,
};

use crate::support::{Node, PROGRAM, launch, problem, refused};

#[test]
fn a_redis_that_may_drop_parts_of_the_log_is_refused() {
    let Some(redis) = Redis::start(&["--maxmemory-policy", "allkeys-lru"]) else { return };
    let said = refused(&launch(&redis.address()));
    assert!(said.contains("maxmemory-policy allkeys-lru") && said.contains("noeviction"), "{said}");
}

#[test]
fn a_wrong_password_is_refused() {
    let Some(redis) = Redis::start(&["--requirepass", "open sesame"]) else { return };
    for settings in [&[][..], &[("CLUSTER__PASSWORD", "wrong")]] {
        let said = refused(&launch(&redis.address()).with(settings));
        assert!(said.contains("cluster.password"), "{said}");
        assert!(!said.contains("sesame"), "{said}");
    }
}

#[test]
fn another_log_than_the_expected_one_is_refused() {
    let Some(redis) = Redis::start(&[]) else { return };
    let said = refused(&launch(&redis.address()).with(&[("CLUSTER__LOG", "expected")]));
    assert!(said.contains("cluster.log") && said.contains("expected"), "{said}");
}

#[test]
fn a_log_of_a_newer_format_is_refused() {
    let Some(redis) = Redis::start(&[]) else { return };
    drop(Node::start(&redis));
    redis.run(&["HSET", "tg:{main}:meta", "format", "9"]);
    let said = refused(&launch(&redis.address()));
    assert!(said.contains("format 9") && said.contains("newer"), "{said}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let check =
        |settings: &[(&str, &str)]| refused(&Launch::new(PROGRAM, directory()).with(settings));
    let redis = [("HISTORY__STORE", "redis"), ("CLUSTER__REDIS", "redis://localhost")];
    for (settings, named) in [
        (&[("HISTORY__STORE", "redis")][..], "cluster.redis names no server"),
        (&[("CLUSTER__REDIS", "redis://localhost")], "history.store is not"),
        (&[redis[0], ("CLUSTER__REDIS", "redis://me:secret@localhost")], "cluster.user"),
        (&[redis[0], ("CLUSTER__REDIS", "http://localhost")], "rediss://"),
        (&[redis[0], redis[1], ("CLUSTER__HUB", "a{b}")], "cluster.hub"),
        (&[redis[0], redis[1], ("CLUSTER__LEASE", "1s")], "cluster.lease"),
        (&[redis[0], redis[1], ("CLUSTER__PASSWORD", "")], "CLUSTER__PASSWORD"),
        (
            &[redis[0], redis[1], ("CLUSTER__PASSWORD", "p"), ("CLUSTER__PASSWORD_FILE", "f")],
            "cluster.password_file",
        ),
        (&[redis[0], redis[1], ("CLUSTER__PASSWORD_FILE", "nothing")], "cannot be read"),
        (&[redis[0], redis[1], ("MERCURE__SUBSCRIPTIONS", "true")], "mercure.subscriptions"),
    ] {
        let said = check(settings);
        assert!(said.contains(named), "{named}: {said}");
        assert!(!said.contains("secret@"), "{said}");
    }
}

#[tokio::test]
async fn a_node_without_redis_is_alive_not_ready_and_says_why() {
    let port = free_port();
    let node =
        Node::with(&format!("redis://127.0.0.1:{port}"), &[("CLUSTER__COMMIT_TIMEOUT", "1s")]);
    assert_eq!(node.get("/health/live").await.status(), 200);
    let (_, detail) = problem(node.get("/health/ready").await, 503).await;
    assert!(detail.contains("cluster.redis"), "{detail}");
    let (kind, _) = problem(node.post(&[("topic", "t"), ("data", "x")]).await, 503).await;
    assert_eq!(kind, "urn:tidegate:problem:history");
    for path in ["/jobs", "/state?topic=t", "/clients"] {
        let (_, detail) = problem(node.get(path).await, 404).await;
        assert!(detail.contains("history.store"), "{path}: {detail}");
    }
    let Some(redis) = Redis::start_at(port, &[]) else { return };
    node.until_ready().await;
    let mut stream = node.open("/events?topic=t").await;
    node.publish("t", "1").await;
    assert_eq!(stream.next().await.data, "1");
    // One that becomes unsuitable later says so, and goes on when it is mended.
    redis.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    redis.run(&["CLIENT", "KILL", "TYPE", "normal"]);
    eventually("it is unsuitable", async || node.get("/health/ready").await.status() == 503).await;
    let (_, detail) = problem(node.get("/health/ready").await, 503).await;
    assert!(detail.contains("maxmemory-policy"), "{detail}");
    redis.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    node.until_ready().await;
    node.publish("t", "2").await;
    assert_eq!(stream.next().await.data, "2");
}

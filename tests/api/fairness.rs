//! A crowd of subscribers does not delay the others.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::task::JoinSet;

use crate::support::{Gateway, raw::Raw, sinks::SSE};

const CROWD: usize = 2000;
const ROUNDS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_for_one_overtakes_the_event_for_a_crowd() {
    rlimit::increase_nofile_limit(u64::MAX).expect("enough descriptors");
    let gateway = Gateway::with(&[("SERVER__WORKERS", "2")]);
    let n_served = Arc::new(AtomicUsize::new(0));
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let mut raw = Raw::get(gateway.address, "/events?topic=crowd").await;
        let n_served = n_served.clone();
        crowd.spawn(async move {
            loop {
                raw.until("\n\n").await;
                n_served.fetch_add(1, SeqCst);
            }
        });
    }
    gateway.until_metric(SSE, CROWD as f64).await;
    let mut one = gateway.open("/events?topic=one").await;
    let mut n_overtaken = 0;
    for round in 1..=ROUNDS {
        gateway.publish("crowd", "x").await;
        gateway.publish("one", &round.to_string()).await;
        assert_eq!(one.next().await.data, round.to_string());
        if n_served.load(SeqCst) < round * CROWD {
            n_overtaken += 1;
        }
        crate::support::watch::eventually("the crowd is served", async || {
            n_served.load(SeqCst) == round * CROWD
        })
        .await;
    }
    eprintln!("overtaken in {n_overtaken} of {ROUNDS} rounds");
    assert!(ROUNDS / 2 < n_overtaken, "{n_overtaken}");
    crowd.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_in_which_nothing_happens_costs_no_processor_time() {
    rlimit::increase_nofile_limit(u64::MAX).expect("enough descriptors");
    crate::support::sinks::with_both_sinks(&[], async |gateway| {
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let mut raw = Raw::get(gateway.address, "/events?topic=crowd").await;
            raw.until("retry: 2000\n").await;
            crowd.push(raw);
        }
        gateway.until_metric(SSE, CROWD as f64).await;
        let before = gateway.processor_time();
        let time = std::time::Duration::from_secs(2);
        tokio::time::sleep(time).await;
        let used = gateway.processor_time() - before;
        eprintln!("{used:?} in {time:?}");
        assert!(used < time / 10, "{used:?}");
        // Neither do disconnected clients, nor clients that send unexpected bytes.
        for raw in &mut crowd[..CROWD / 2] {
            raw.send("anything").await;
        }
        crowd.truncate(CROWD / 4 * 3);
        gateway.until_metric(SSE, crowd.len() as f64).await;
        gateway.publish("crowd", "x").await;
        for raw in &mut crowd {
            raw.until("data: x\n").await;
        }
        let before = gateway.processor_time();
        tokio::time::sleep(time).await;
        let used = gateway.processor_time() - before;
        eprintln!("{used:?} in {time:?}, later");
        assert!(used < time / 10, "{used:?}");
    })
    .await;
}

//! A run, from the first connection to the report.

use std::{
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{oneshot, watch},
    task::{LocalSet, spawn_local},
    time::{interval, sleep},
};

use super::{
    BenchError, Flags, Report,
    connection::Connection,
    descriptors,
    ledger::{Ledger, Sent},
    plan::Plan,
    process::{Processes, Usage},
    publisher::{self, Published},
    report::{Connect, Delivery, Latency, Publish, Server},
    subscriber::{Audience, hold},
    tally::Tally,
};

/// How long a server is left alone before its memory is measured.
const SETTLE: Duration = Duration::from_secs(1);

/// How often the run checks whether everything has arrived.
const LOOK: Duration = Duration::from_millis(5);

/// Runs what the flags demand. Ctrl-C stops publishing. A second Ctrl-C stops the wait for
/// outstanding replies and deliveries.
///
/// # Errors
/// If there is nothing to report.
pub(super) fn run(flags: &Flags) -> Result<Report, BenchError> {
    let plan = Plan::new(flags)?;
    if !plan.target.serves(plan.transport) {
        return Err(BenchError::Transport { transport: plan.transport.as_str() });
    }
    descriptors::make_room(u64::from(plan.subscribers) + u64::from(plan.publishers))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, conduct(Arc::new(plan)))
}

/// What the server's processes had used at three points of the run.
struct Usages {
    before: Usage,
    connected: Usage,
    after: Usage,
}

async fn conduct(plan: Arc<Plan>) -> Result<Report, BenchError> {
    let unreachable = |reason| BenchError::Unreachable { url: plan.target.url.to_string(), reason };
    drop(Connection::open(&plan.target, 0).await.map_err(unreachable)?);
    let processes = Processes::watch(&plan.pids);
    let usage = || processes.as_ref().map(Processes::usage).transpose();
    let before = usage()?;
    let interruptions = interruptions();
    let origin = Instant::now();

    let audience = Audience::new(plan.clone(), origin);
    gather(&audience, plan.subscribers, interruptions.clone()).await?;
    if processes.is_some() {
        sleep(SETTLE).await;
    }
    let connected = usage()?;
    // Optional, since no flag asks for it: a failure to read it is ignored.
    let own = Processes::watch(&[std::process::id()]);
    let own_usage = || own.as_ref().and_then(|it| it.usage().ok());
    let own_before = own_usage();

    audience.tally.bytes.set(0);
    let begin = Instant::now();
    audience.tally.last_delivery.set(begin);
    let published = publish(plan.clone(), origin, interruptions.clone()).await?;
    drain(&audience, &plan, &published, interruptions.clone()).await;
    let after = usage()?;
    let own_cores = own_before.zip(own_usage()).map(|(before, after)| {
        let used = (after.user + after.system).saturating_sub(before.user + before.system);
        ratio(used.as_secs_f64(), begin.elapsed().as_secs_f64())
    });

    let usages = match (before, connected, after) {
        (Some(before), Some(connected), Some(after)) => Some(Usages { before, connected, after }),
        _ => None,
    };
    let interrupted = 0 < *interruptions.borrow();
    let report = report(&plan, &audience, published, usages.as_ref(), begin);
    Ok(Report { interrupted, own_cores, ..report })
}

/// Counts the requests to stop the run.
fn interruptions() -> watch::Receiver<u32> {
    let (sender, receiver) = watch::channel(0);
    spawn_local(async move {
        while interrupted().await.is_ok() {
            sender.send_modify(|it| *it += 1);
        }
        // A closed channel would look like an interruption to waiting tasks, so the sender must not
        // be dropped.
        std::future::pending::<()>().await;
    });
    receiver
}

#[cfg(unix)]
async fn interrupted() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn interrupted() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// Waits for the given number of interruptions.
async fn until(interruptions: &mut watch::Receiver<u32>, count: u32) {
    let _ = interruptions.wait_for(|it| count <= *it).await;
}

/// Starts the subscribers and waits until each has been accepted or refused.
async fn gather(
    audience: &Rc<Audience>,
    subscribers: u32,
    mut interruptions: watch::Receiver<u32>,
) -> Result<(), BenchError> {
    for number in 0..subscribers {
        spawn_local(hold(audience.clone(), number));
    }
    let tally = &audience.tally;
    let all = async {
        while tally.settled() < subscribers {
            audience.settled.notified().await;
        }
    };
    tokio::select! {
        () = all => {}
        () = until(&mut interruptions, 1) => {}
    }
    if tally.connected.get() == 0 {
        let reason = tally.refusal.borrow().clone();
        return Err(BenchError::NoneConnected {
            reason: reason.unwrap_or_else(|| "interrupted".to_owned()),
        });
    }
    Ok(())
}

/// Publishes from a separate thread.
async fn publish(
    plan: Arc<Plan>,
    origin: Instant,
    stop: watch::Receiver<u32>,
) -> Result<Published, BenchError> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("publishers".to_owned()).spawn(move || {
        let _ = sender.send(publisher::publish(&plan, origin, &stop));
    })?;
    let published = receiver.await.map_err(io::Error::other)?;
    Ok(published?)
}

/// Waits until everything has arrived, or nothing has arrived for `plan.patience`.
async fn drain(
    audience: &Audience,
    plan: &Plan,
    published: &Published,
    mut interruptions: watch::Receiver<u32>,
) {
    let due = of_all(audience, published, Ledger::due);
    let end = Instant::now();
    let tally = &audience.tally;
    let arrived = async {
        let mut looks = interval(LOOK);
        while tally.deliveries.get() < due
            && tally.last_delivery.get().max(end).elapsed() < plan.patience
        {
            looks.tick().await;
        }
    };
    tokio::select! {
        () = arrived => {}
        () = until(&mut interruptions, 2) => {}
    }
}

/// Sums `count` over all subscribers, each with what was sent to its topic.
fn of_all(audience: &Audience, published: &Published, count: fn(&Ledger, &[Sent]) -> u64) -> u64 {
    let ledgers = audience.ledgers.iter().map(|it| it.borrow());
    ledgers.map(|it| count(&it, &published.sent[it.topic() as usize])).sum()
}

fn report(
    plan: &Plan,
    audience: &Audience,
    published: Published,
    usages: Option<&Usages>,
    begin: Instant,
) -> Report {
    let tally = &audience.tally;
    let lost = of_all(audience, &published, Ledger::lost);
    let delivered = tally.deliveries.get();
    let seconds = published.elapsed.as_secs_f64();
    Report {
        url: plan.target.url.to_string(),
        transport: plan.transport.as_str(),
        subscribers: plan.subscribers,
        topics: plan.topics,
        publishers: plan.publishers,
        payload_bytes: plan.payload,
        interrupted: false,
        connect: Connect {
            connected: tally.connected.get(),
            refused: tally.refused.get(),
            refusal: tally.refusal.borrow().clone(),
            reconnections: tally.reconnections.get(),
            seconds: tally.connecting().as_secs_f64(),
        },
        publish: Publish {
            messages: published.accepted,
            failures: published.failures,
            failure: published.failure,
            seconds,
            messages_per_second: ratio(published.accepted as f64, seconds),
            rate: plan.interval.map(|it| 1.0 / it.as_secs_f64()),
        },
        delivery: Delivery {
            expected: delivered + lost,
            delivered,
            lost,
            duplicates: tally.again.get(),
            out_of_order: tally.late.get(),
            stray: tally.stray.get(),
            deliveries_per_second: ratio(
                delivered as f64,
                (tally.last_delivery.get() - begin).as_secs_f64(),
            ),
            bytes: tally.bytes.get(),
            bytes_per_delivery: ratio(tally.bytes.get() as f64, delivered as f64),
            latency_ms: latency(tally),
        },
        own_cores: None,
        server: usages.map(|usages| server(usages, delivered, tally.connected.get())),
    }
}

fn latency(tally: &Tally) -> Latency {
    let latencies = tally.latencies.borrow();
    let at = |quantile| milliseconds(latencies.value_at_quantile(quantile));
    Latency {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p99_9: at(0.999),
        max: milliseconds(latencies.max()),
    }
}

fn server(usages: &Usages, delivered: u64, connected: u32) -> Server {
    let Usages { before, connected: ready, after } = usages;
    let per_delivery = |time: Duration| ratio(time.as_secs_f64() * 1e6, delivered as f64);
    let grown = ready.memory as f64 - before.memory as f64;
    Server {
        user_us_per_delivery: per_delivery(after.user.saturating_sub(ready.user)),
        system_us_per_delivery: per_delivery(after.system.saturating_sub(ready.system)),
        memory_before_bytes: before.memory,
        memory_connected_bytes: ready.memory,
        memory_after_bytes: after.memory,
        memory_per_subscriber_bytes: ratio(grown, f64::from(connected)),
    }
}

/// Converts nanoseconds to milliseconds.
fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// Returns a quotient, or 0 if the divisor is 0.
fn ratio(dividend: f64, divisor: f64) -> f64 {
    if 0.0 < divisor { dividend / divisor } else { 0.0 }
}

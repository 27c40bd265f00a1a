//! The result of a run, as text and as JSON.

use std::fmt;

use serde::Serialize;

/// The result of a run. Times are in seconds unless the name says otherwise.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(super) url: String,
    pub(super) transport: &'static str,
    pub(super) subscribers: u32,
    pub(super) topics: u32,
    pub(super) publishers: u16,
    pub(super) payload_bytes: usize,
    /// Whether the run was interrupted.
    pub(super) interrupted: bool,
    pub(super) connect: Connect,
    pub(super) publish: Publish,
    pub(super) delivery: Delivery,
    /// Present if server processes were measured.
    pub(super) server: Option<Server>,
    /// Processor time of this program while it published and received, in cores. All subscribers
    /// share one core.
    pub(super) own_cores: Option<f64>,
}

/// How subscribers connected.
#[derive(Debug, Serialize)]
pub(super) struct Connect {
    pub(super) connected: u32,
    pub(super) refused: u32,
    /// The reason for the first refusal.
    pub(super) refusal: Option<String>,
    /// Connections that ended and were reopened.
    pub(super) reconnections: u64,
    pub(super) seconds: f64,
}

/// What was published.
#[derive(Debug, Serialize)]
pub(super) struct Publish {
    /// Messages that the server accepted.
    pub(super) messages: u64,
    /// Attempts that failed. Those refused with status 429 or 5xx were retried.
    pub(super) failures: u64,
    /// The reason for the first failure.
    pub(super) failure: Option<String>,
    pub(super) seconds: f64,
    pub(super) messages_per_second: f64,
    /// The requested messages a second, or `None` for as many as possible.
    pub(super) rate: Option<f64>,
}

/// What arrived.
#[derive(Debug, Serialize)]
pub(super) struct Delivery {
    /// Deliveries that were expected, and those that arrived.
    pub(super) expected: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    /// Messages that arrived more than once, after a later one, or at a subscriber of another
    /// topic.
    pub(super) duplicates: u64,
    pub(super) out_of_order: u64,
    pub(super) stray: u64,
    pub(super) deliveries_per_second: f64,
    /// Bytes read from all connections since publishing began.
    pub(super) bytes: u64,
    pub(super) bytes_per_delivery: f64,
    pub(super) latency_ms: Latency,
}

/// Time from before a publication is written until a subscriber has read it.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

/// What the server's processes used.
#[derive(Debug, Serialize)]
pub(super) struct Server {
    pub(super) user_us_per_delivery: f64,
    pub(super) system_us_per_delivery: f64,
    pub(super) memory_before_bytes: u64,
    pub(super) memory_connected_bytes: u64,
    pub(super) memory_after_bytes: u64,
    pub(super) memory_per_subscriber_bytes: f64,
}

impl Report {
    /// Returns what is wrong with the result, if anything.
    pub fn fault(&self) -> Option<String> {
        let Self { connect, publish, delivery, .. } = self;
        let faults = [
            (u64::from(connect.refused), "subscribers were refused", &connect.refusal),
            (publish.failures, "publications failed", &publish.failure),
            (delivery.lost, "deliveries were lost", &None),
            (delivery.duplicates, "deliveries came more than once", &None),
            (delivery.out_of_order, "deliveries came out of order", &None),
            (delivery.stray, "deliveries came to another subscriber", &None),
        ];
        let told = faults.iter().filter(|it| 0 < it.0).map(|(count, what, why)| match why {
            Some(why) => format!("{count} {what} ({why})"),
            None => format!("{count} {what}"),
        });
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
}

const MIB: f64 = 1024.0 * 1024.0;

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connect, publish, delivery, .. } = self;
        let latency = &delivery.latency_ms;
        let asked = publish.rate.map(|it| format!(" of {it:.1} asked for")).unwrap_or_default();
        writeln!(out, "{} over {}", self.url, self.transport)?;
        if self.interrupted {
            writeln!(out, "interrupted; this is what there was until then")?;
        }
        writeln!(
            out,
            "connected   {} of {} subscribers in {:.2} s, {} refused, {} came back",
            connect.connected,
            self.subscribers,
            connect.seconds,
            connect.refused,
            connect.reconnections,
        )?;
        writeln!(
            out,
            "published   {} messages of {} bytes on {} topics over {} connections in {:.2} s, {:.1} a second{}, {} failures",
            publish.messages,
            self.payload_bytes,
            self.topics,
            self.publishers,
            publish.seconds,
            publish.messages_per_second,
            asked,
            publish.failures,
        )?;
        writeln!(
            out,
            "delivered   {} of {}, {:.0} a second, {} lost, {} twice, {} out of order, {} stray",
            delivery.delivered,
            delivery.expected,
            delivery.deliveries_per_second,
            delivery.lost,
            delivery.duplicates,
            delivery.out_of_order,
            delivery.stray,
        )?;
        writeln!(
            out,
            "latency     p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
            latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max,
        )?;
        writeln!(
            out,
            "bytes       {:.1} MiB, {:.0} a delivery",
            delivery.bytes as f64 / MIB,
            delivery.bytes_per_delivery,
        )?;
        if let Some(cores) = self.own_cores {
            writeln!(out, "bench       {:.0} % of a core", cores * 100.0)?;
        }
        let Some(server) = &self.server else { return Ok(()) };
        writeln!(
            out,
            "processor   {:.2} µs a delivery: {:.2} user, {:.2} system",
            server.user_us_per_delivery + server.system_us_per_delivery,
            server.user_us_per_delivery,
            server.system_us_per_delivery,
        )?;
        writeln!(
            out,
            "memory      {:.1} MiB before, {:.1} MiB connected, {:.1} MiB after, {:.2} KiB a subscriber",
            server.memory_before_bytes as f64 / MIB,
            server.memory_connected_bytes as f64 / MIB,
            server.memory_after_bytes as f64 / MIB,
            server.memory_per_subscriber_bytes / 1024.0,
        )
    }
}

//! Both sinks of streams: sockets written to by their shard, and actix bodies.

use super::Gateway;

pub const SSE: &str = "tidegate_subscribers{transport=\"sse\"}";

/// Runs `test` once for each sink. The output of a failing test names the sink.
pub async fn with_both_sinks(settings: &[(&str, &str)], test: impl AsyncFn(Gateway)) {
    for socket_sink in ["true", "false"] {
        eprintln!("delivery.socket_sink = {socket_sink}");
        let settings = [settings, &[("DELIVERY__SOCKET_SINK", socket_sink)]].concat();
        test(Gateway::with(&settings)).await;
    }
}

//! Both ways in which streams are written: by their shard, and as bodies of actix.

use super::Gateway;

pub const SSE: &str = "tidegate_subscribers{transport=\"sse\"}";

/// Runs `test` once for each way. The output of a test that fails says which it was.
pub async fn with_both_sinks(settings: &[(&str, &str)], test: impl AsyncFn(Gateway)) {
    for socket_sink in ["true", "false"] {
        eprintln!("delivery.socket_sink = {socket_sink}");
        let settings = [settings, &[("DELIVERY__SOCKET_SINK", socket_sink)]].concat();
        test(Gateway::with(&settings)).await;
    }
}

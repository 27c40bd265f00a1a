//! How many connections the system lets this process have.

use tracing::{info, warn};

use crate::delivery::Seats;

/// Descriptors for everything but connections: files, listeners, the runtime's own.
const RESERVE: u64 = 64;

/// What is assumed where the system does not tell.
#[cfg(not(unix))]
const UNKNOWN: u64 = 8192;

/// Connections that streams leave to others: to publishers, and to those who look after the gateway.
const RESERVE_FOR_REQUESTS: std::ops::RangeInclusive<usize> = 64..=1024;

/// Raises the limit of open descriptors as far as this process may, leaves `seats` as many as it allows, and returns
/// how many connections fit under it.
pub(super) fn raise_limit(seats: &Seats) -> usize {
    #[cfg(unix)]
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        warn!(%error, "the limit of open descriptors cannot be raised");
        rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft)
    });
    #[cfg(not(unix))]
    let limit = UNKNOWN;
    let connections =
        usize::try_from(limit.saturating_sub(RESERVE).max(RESERVE)).unwrap_or(usize::MAX);
    let reserve =
        (connections / 16).clamp(*RESERVE_FOR_REQUESTS.start(), *RESERVE_FOR_REQUESTS.end());
    let subscribers = seats.limit(connections.saturating_sub(reserve).max(1));
    info!(descriptors = limit, connections, subscribers, "limits of connections and subscribers");
    connections
}

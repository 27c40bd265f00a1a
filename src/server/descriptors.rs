//! How many connections the system lets this process have.

use tracing::{info, warn};

/// Descriptors for everything but connections: files, listeners, the runtime's own.
const RESERVE: u64 = 64;

/// What is assumed where the system does not tell.
#[cfg(not(unix))]
const UNKNOWN: u64 = 8192;

/// Raises the limit of open descriptors as far as this process may, and returns how many connections fit under it.
pub(super) fn raise_limit() -> usize {
    #[cfg(unix)]
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        warn!(%error, "the limit of open descriptors cannot be raised");
        rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft)
    });
    #[cfg(not(unix))]
    let limit = UNKNOWN;
    let connections = limit.saturating_sub(RESERVE).max(RESERVE);
    info!(descriptors = limit, connections, "limit of connections");
    usize::try_from(connections).unwrap_or(usize::MAX)
}

//! The limit of open descriptors, which bounds the number of connections.

use actix_rt::net::TcpStream;
use tidegate_core::delivery::Seats;
use tracing::{info, warn};

/// Descriptors reserved for everything but connections: files, listeners, the runtime's own.
const RESERVE: u64 = 64;

/// The limit assumed where the system does not report one.
#[cfg(not(unix))]
const UNKNOWN: u64 = 8192;

/// Connections that streams leave to other requests: from publishers and operators.
const RESERVE_FOR_REQUESTS: std::ops::RangeInclusive<usize> = 64..=1024;

/// Descriptors that no new connection may use, not even for a request.
const LAST: u64 = RESERVE / 4;

/// The descriptors of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptors {
    limit: u64,
}

/// How many descriptors are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Enough,
    /// So few that connections without a request must give way.
    Few,
    /// So few that a new connection must be closed if no other gives way.
    Hardly,
}

impl Descriptors {
    /// Estimates how many are left after accepting `stream`. The system assigns the lowest free
    /// number, so all lower ones are in use: by files and connections, including those of shards.
    pub(crate) fn left(self, stream: &TcpStream) -> Left {
        #[cfg(unix)]
        let number = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(stream)).unwrap_or(0);
        #[cfg(not(unix))]
        let (number, _) = (0, stream);
        self.left_above(number)
    }

    fn left_above(self, number: u64) -> Left {
        let left = self.limit.saturating_sub(number);
        if RESERVE < left {
            Left::Enough
        } else if LAST < left {
            Left::Few
        } else {
            Left::Hardly
        }
    }

    /// Returns how many connections fit.
    pub(crate) fn connections(self) -> usize {
        usize::try_from(self.limit.saturating_sub(RESERVE).max(RESERVE)).unwrap_or(usize::MAX)
    }
}

/// Raises the limit of open descriptors as far as this process may. Lowers `seats` to what it
/// allows.
pub(crate) fn raise_limit(seats: &Seats) -> Descriptors {
    #[cfg(unix)]
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        warn!(%error, "the limit of open descriptors cannot be raised");
        rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft)
    });
    #[cfg(not(unix))]
    let limit = UNKNOWN;
    let descriptors = Descriptors { limit };
    let connections = descriptors.connections();
    let reserve =
        (connections / 16).clamp(*RESERVE_FOR_REQUESTS.start(), *RESERVE_FOR_REQUESTS.end());
    let subscribers = seats.limit(connections.saturating_sub(reserve).max(1));
    info!(descriptors = limit, connections, subscribers, "limits of connections and subscribers");
    descriptors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_descriptor_tells_how_many_are_left() {
        let descriptors = Descriptors { limit: 400 };
        for (number, left) in [
            (0, Left::Enough),
            (335, Left::Enough),
            (336, Left::Few),
            (383, Left::Few),
            (384, Left::Hardly),
            (400, Left::Hardly),
        ] {
            assert_eq!(descriptors.left_above(number), left, "{number}");
        }
    }
}

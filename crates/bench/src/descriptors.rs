//! How many connections the system lets this process have.

use super::BenchError;

/// Descriptors for everything but connections.
const RESERVE: u64 = 32;

/// Raises the limit of open descriptors as far as this process may.
///
/// # Errors
/// If `connections` do not fit under it.
pub(super) fn make_room(connections: u64) -> Result<(), BenchError> {
    let needed = connections + RESERVE;
    #[cfg(unix)]
    {
        let limit = rlimit::increase_nofile_limit(u64::MAX)
            .or_else(|_| rlimit::getrlimit(rlimit::Resource::NOFILE).map(|(soft, _)| soft));
        if let Ok(limit) = limit
            && limit < needed
        {
            return Err(BenchError::Descriptors { needed, limit });
        }
    }
    Ok(())
}

//! The limit of open descriptors, which bounds the number of connections.

use super::BenchError;

/// Descriptors reserved for everything but connections.
const RESERVE: u64 = 32;

/// Raises the limit of open descriptors as far as this process may.
///
/// # Errors
/// If `connections` and the reserve exceed the raised limit.
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

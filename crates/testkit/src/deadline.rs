//! Waits for conditions, each with a deadline.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Time limit for anything before a test fails. Generous, because test machines are busy.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The pause between checks of a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Returns the result of `future`, which must be ready within [`DEADLINE`].
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(DEADLINE, what, future).await
}

/// Returns the result of `future`, which must be ready within `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => panic!("waited {limit:?} in vain for this: {what}"),
    }
}

/// Waits until `is_so`, at most for [`DEADLINE`].
pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    in_time(what, found(async || is_so().await.then_some(()))).await;
}

/// Checks until there is a result.
pub async fn found<T>(mut check: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(result) = check().await {
            return result;
        }
        sleep(PAUSE).await;
    }
}

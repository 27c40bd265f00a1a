//! The wall clock, passed in so that tests can set it.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

/// A source of wall-clock time, used only for times that clients see or request (times of
/// acceptance, ages). Delays and deadlines use the monotonic clock.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// Returns the clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(Timestamp::now)
    }

    /// Creates a clock that shows what `now` returns.
    ///
    /// ```
    /// use jiff::Timestamp;
    /// use tidegate_core::clock::Clock;
    ///
    /// let clock = Clock::from_fn(|| Timestamp::UNIX_EPOCH);
    /// assert_eq!(clock.now().as_second(), 0);
    /// ```
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

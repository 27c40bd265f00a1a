//! The patterns that subscriptions use, which have a bound of their own: the grants of tokens do not count.

use std::sync::Arc;

use super::table;
use crate::hub::Interest;

/// The patterns of a subscription, counted until this is dropped.
#[derive(Debug)]
pub struct SubscribedPatterns(Arc<Interest>);

impl SubscribedPatterns {
    /// Counts the patterns of `interest`. All distinct patterns of all subscriptions may cost `all` together.
    ///
    /// # Errors
    /// If they would cost more.
    pub fn take(interest: &Arc<Interest>, all: usize) -> Result<Self, Full> {
        table::subscribe(interest.matchers().patterns(), all)?;
        Ok(Self(interest.clone()))
    }
}

impl Drop for SubscribedPatterns {
    fn drop(&mut self) {
        table::unsubscribe(self.0.matchers().patterns());
    }
}

/// The patterns of all subscriptions cost as much as they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

//! The patterns in use by subscriptions, which have a limit of their own. Grants of access tokens
//! do not count.

use std::sync::Arc;

use super::table::{self, Full};
use crate::matching::Interest;

/// The patterns of a subscriber, counted until this is dropped.
#[derive(Debug)]
pub struct SubscribedPatterns(Arc<Interest>);

impl SubscribedPatterns {
    /// Counts the patterns of `interest`. The distinct patterns of all subscribers may cost at most
    /// `all` together.
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

//! Why an update is not published.

use crate::history::HistoryError;

/// The reason why an update was not published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// Delivery lags so far that publishing more would leave gaps for subscribers.
    #[error("delivery has fallen behind; try again later")]
    Overloaded,
    /// The history did not store the update, or the outcome is unknown.
    #[error(transparent)]
    History(HistoryError),
    /// The gateway has stopped.
    #[error("the gateway is stopping")]
    Stopped,
}

impl PublishError {
    /// Whether it is unknown if the update was stored.
    #[must_use]
    pub fn may_be_stored(&self) -> bool {
        matches!(self, Self::History(HistoryError::Unknown(_)))
    }
}

impl From<HistoryError> for PublishError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Stopped => Self::Stopped,
            HistoryError::Unavailable(_) | HistoryError::Unknown(_) => Self::History(error),
        }
    }
}

//! Operations: whether it is well, and what it has done.

mod health;
mod metrics;

pub(crate) use self::metrics::OldFeature;

/// In the data of the routes of a listener for operators (`ops.listen`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForOperators;

pub use self::{
    health::{live, ready},
    metrics::{Metrics, metrics},
};

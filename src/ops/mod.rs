//! Operations: health checks and metrics.

mod health;
mod metrics;

pub(crate) use self::{
    health::{live, ready},
    metrics::metrics,
};

/// Marks the routes of a listener for operators (`ops.listen`), as application data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForOperators;

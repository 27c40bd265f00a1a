//! Operations: health checks, metrics and the description of all routes.

mod health;
mod metrics;
mod openapi;

pub(crate) use self::{
    health::{live, ready},
    metrics::metrics,
    openapi::{assert_described, describe},
};

/// Marks the routes of a listener for operators (`ops.listen`), as application data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForOperators;

//! Operations: whether it is well, and what it has done.

mod health;
mod metrics;

pub(crate) use self::metrics::OldFeature;
pub use self::{
    health::{live, ready},
    metrics::{Metrics, metrics},
};

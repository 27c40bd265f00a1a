//! The result of a job.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// The result of a job.
///
/// ```
/// use tidegate_client::JobResult;
///
/// # fn main() -> Result<(), serde_json::Error> {
/// let sum = JobResult::inline(&42)?;
/// let report = JobResult::link("/reports/2026-05");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub enum JobResult {
    /// A small result.
    Inline(Arc<RawValue>),
    /// The path of the result on this server.
    Link(String),
}

impl JobResult {
    /// Creates a small result.
    ///
    /// # Errors
    /// If `value` cannot be written as JSON.
    pub fn inline(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self::Inline(to_raw_value(value)?.into()))
    }

    /// Creates a link to the result, which is a path of this server.
    pub fn link(path: impl Into<String>) -> Self {
        Self::Link(path.into())
    }
}

//! What a job comes to.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// What a job comes to.
#[derive(Debug, Clone)]
pub enum JobResult {
    /// A small result.
    Inline(Arc<RawValue>),
    /// A path of this server, where the result is.
    Link(String),
}

impl JobResult {
    /// A small result.
    ///
    /// # Errors
    /// If `value` is not data.
    pub fn inline(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self::Inline(to_raw_value(value)?.into()))
    }

    /// A path of this server, where the result is.
    pub fn link(path: impl Into<String>) -> Self {
        Self::Link(path.into())
    }
}

//! How a job has ended.

use std::sync::Arc;

use serde_json::value::RawValue;

/// The outcome of a job.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A small result.
    Inline(Arc<RawValue>),
    /// The address of the result.
    Link(String),
    /// The failure, as a problem document.
    Problem(Arc<RawValue>),
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(a), Self::Inline(b)) | (Self::Problem(a), Self::Problem(b)) => {
                a.get() == b.get()
            }
            (Self::Link(a), Self::Link(b)) => a == b,
            _ => false,
        }
    }
}

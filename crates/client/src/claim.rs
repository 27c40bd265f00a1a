//! A claimed job and its lease, as the gateway sends them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Answer;

/// The response to `POST /jobs/claim`.
#[derive(Debug, Deserialize)]
pub(crate) struct Claimed {
    pub(crate) job: Work,
    pub(crate) lease: String,
    pub(crate) lease_seconds: f64,
    pub(crate) report_seconds: f64,
}

/// A claimed job.
#[derive(Debug, Deserialize)]
pub(crate) struct Work {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) payload: Option<Box<RawValue>>,
    pub(crate) attempt: u32,
    pub(crate) log_length: u64,
    /// The answers of earlier attempts. Gateways before questions send none.
    #[serde(default)]
    pub(crate) answers: BTreeMap<String, Answer>,
}

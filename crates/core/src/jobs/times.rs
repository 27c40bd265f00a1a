//! Times as clients see them.

use jiff::Timestamp;
use serde::{Serialize as _, Serializer};

use crate::transport::json;

/// Writes a time like those of events.
pub(super) fn in_milliseconds<S: Serializer>(at: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&json::time(*at))
}

/// The same for a time that may be missing.
#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
pub(super) fn maybe_in_milliseconds<S>(at: &Option<Timestamp>, out: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
{
    at.map(json::time).serialize(out)
}

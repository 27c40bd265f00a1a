//! A client as the others on its topic see it.

use std::sync::Arc;

use serde_json::{Map, Value, json, value::RawValue};

use super::{StateOptions, StateRefusal, patch};
use crate::transport::json::script_safe;

/// JSON text in memory, shared by a document and its views.
pub(super) type Json = Arc<RawValue>;

/// A client that is present on a topic, as the others see it: `{"user":…,"data":{…}}`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Member {
    /// The user of its access token.
    pub user: Option<String>,
    /// What it says of itself. Members that are `null` are left out, as in every state.
    pub data: Map<String, Value>,
}

impl Member {
    /// Checks its limits. Returns the JSON that is told and stored.
    pub(super) fn to_json(&self, options: &StateOptions) -> Result<Json, StateRefusal> {
        // One level is that of the member itself.
        patch::check_object(&self.data, options.depth.saturating_sub(1), options)?;
        let data = patch::merge(None, &Value::Object(self.data.clone()));
        let text = script_safe(&data);
        if options.member_bytes < text.len() {
            let (bytes, limit) = (text.len(), options.member_bytes);
            return Err(StateRefusal::MemberTooLarge { bytes, limit });
        }
        raw(&json!({ "user": self.user, "data": data }))
    }
}

/// Writes a value as JSON that is safe in a script element.
pub(super) fn raw(value: &Value) -> Result<Json, StateRefusal> {
    let text = RawValue::from_string(script_safe(value));
    text.map(Arc::from).map_err(|error| StateRefusal::Malformed(error.to_string()))
}

/// Reads JSON that this program has written.
pub(super) fn parsed(json: &RawValue) -> Value {
    serde_json::from_str(json.get()).unwrap_or_default()
}

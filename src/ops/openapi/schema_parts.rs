//! What schemas are made of.

use serde_json::{Value, json};

pub(super) fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

pub(super) fn texts(description: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": description })
}

pub(super) fn number(description: &str) -> Value {
    json!({ "type": "integer", "description": description })
}

pub(super) fn flag(description: &str) -> Value {
    json!({ "type": "boolean", "description": description })
}

/// Any JSON. The library reads no schema without a type.
pub(super) fn any(description: &str) -> Value {
    let types = ["object", "array", "string", "number", "boolean", "null"];
    json!({ "type": types, "description": description })
}

pub(super) fn optional(kind: &str, description: &str) -> Value {
    json!({ "type": [kind, "null"], "description": description })
}

pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

pub(super) fn object(required: &[&str], properties: Value) -> Value {
    let mut schema = json!({ "type": "object" });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema["properties"] = properties;
    schema
}

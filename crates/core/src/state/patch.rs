//! JSON merge patches (RFC 7396): parsed within limits, merged, and made from two values.

use serde::Serialize as _;
use serde_json::{Map, Value};

use super::{StateOptions, StateRefusal};

/// A merge patch that is an object: `null` removes a member, objects are merged, and everything
/// else replaces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MergePatch {
    members: Map<String, Value>,
    /// Its length as JSON, in bytes.
    bytes: usize,
}

impl MergePatch {
    /// Parses a patch. The limits are those of [`Change::Patch`](super::Change::Patch); the length
    /// is checked later.
    ///
    /// ```
    /// use tidegate_core::state::{MergePatch, StateOptions, StateRefusal};
    ///
    /// let options = StateOptions::default();
    /// assert!(MergePatch::parse(br#"{"color":"red","shape":null}"#, &options).is_ok());
    /// assert_eq!(MergePatch::parse(b"[1]", &options), Err(StateRefusal::NotAnObject));
    /// ```
    ///
    /// # Errors
    /// Refuses what is not JSON, no object, or nested too deeply.
    pub fn parse(text: &[u8], options: &StateOptions) -> Result<Self, StateRefusal> {
        // Before the parser, which descends as deep as the text does.
        if options.depth < depth_of_text(text) {
            return Err(StateRefusal::TooDeep { limit: options.depth });
        }
        let value = serde_json::from_slice(text)
            .map_err(|error| StateRefusal::Malformed(error.to_string()))?;
        let Value::Object(members) = value else { return Err(StateRefusal::NotAnObject) };
        Ok(Self { members, bytes: text.len() })
    }

    /// Its length as JSON, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its members.
    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// Checks the depth of the patch and its names.
    pub(super) fn check(&self, options: &StateOptions) -> Result<(), StateRefusal> {
        check_object(&self.members, options.depth, options)
    }
}

impl From<Map<String, Value>> for MergePatch {
    fn from(members: Map<String, Value>) -> Self {
        let mut counter = Counter(0);
        // Writing to a counter does not fail, and neither do maps with text as keys.
        let _ = members.serialize(&mut serde_json::Serializer::new(&mut counter));
        Self { members, bytes: counter.0 }
    }
}

/// Counts what is written.
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The number of nested objects and arrays in a JSON text.
fn depth_of_text(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut is_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'{' | b'[' if !is_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Checks an object with at most `levels` levels, itself included.
pub(super) fn check_object(
    object: &Map<String, Value>,
    levels: usize,
    options: &StateOptions,
) -> Result<(), StateRefusal> {
    let deeper = levels.checked_sub(1).ok_or(StateRefusal::TooDeep { limit: options.depth })?;
    for (name, value) in object {
        if options.name_bytes < name.len() {
            let (bytes, limit) = (name.len(), options.name_bytes);
            return Err(StateRefusal::NameTooLong { bytes, limit });
        }
        check_value(value, deeper, options)?;
    }
    Ok(())
}

fn check_value(value: &Value, levels: usize, options: &StateOptions) -> Result<(), StateRefusal> {
    match value {
        Value::Object(object) => check_object(object, levels, options),
        Value::Array(elements) => {
            let deeper =
                levels.checked_sub(1).ok_or(StateRefusal::TooDeep { limit: options.depth })?;
            elements.iter().try_for_each(|it| check_value(it, deeper, options))
        }
        _ => Ok(()),
    }
}

/// Merges a patch into a value (RFC 7396, section 2). `None` is no value, and a removed one.
pub(super) fn merge(target: Option<Value>, patch: &Value) -> Option<Value> {
    let Value::Object(patch) = patch else {
        return Some(patch.clone()).filter(|it| !it.is_null());
    };
    let mut merged = match target {
        Some(Value::Object(target)) => target,
        _ => Map::new(),
    };
    for (name, change) in patch {
        let before = merged.remove(name);
        if let Some(after) = merge(before, change) {
            merged.insert(name.clone(), after);
        }
    }
    Some(Value::Object(merged))
}

/// Makes the patch that turns one value into the other. `None` if they are the same. Neither has an
/// object with a member that is `null`.
pub(super) fn difference(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let mut patch = Map::new();
    for name in old.keys().filter(|it| !new.contains_key(*it)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in new {
        let change = match old.get(name) {
            Some(before) => difference(before, value),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(name.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Adds to `after` a `null` for each member of an object that only `before` has. The result is a
/// patch that turns one into the other, and has all of the other.
pub(super) fn whole_with_removals(before: &Value, after: &mut Value) {
    let (Value::Object(old), Value::Object(new)) = (before, after) else { return };
    for (name, value) in old {
        match new.get_mut(name) {
            Some(after) => whole_with_removals(value, after),
            None => drop(new.insert(name.clone(), Value::Null)),
        }
    }
}

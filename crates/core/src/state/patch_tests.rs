use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    MergePatch, StateOptions, StateRefusal,
    patch::{difference, merge, whole_with_removals},
};

fn merged(target: &Value, patch: &Value) -> Value {
    merge(Some(target.clone()), patch).unwrap_or(Value::Null)
}

#[test]
fn the_examples_of_rfc_7396_hold() {
    // Appendix A: original, patch, result.
    let cases = [
        (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
        (json!({"a":"b"}), json!({"a":null}), json!({})),
        (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
        (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
        (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
        (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a":"b"}), json!(["c"]), json!(["c"])),
        (json!({"a":"foo"}), json!(null), json!(null)),
        (json!({"a":"foo"}), json!("bar"), json!("bar")),
        (json!({"a":{"b":"c"}}), json!({"a":{"b":{}}}), json!({"a":{"b":{}}})),
        (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
        (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
    ];
    for (original, patch, result) in cases {
        assert_eq!(merged(&original, &patch), result, "{original} {patch}");
    }
    // The object there that has a `null` cannot come about by patches; the member stays.
    assert_eq!(merged(&json!({"e":null}), &json!({"a":1})), json!({"e":null,"a":1}));
}

/// JSON with few names, so that values meet; objects have no `null`.
fn value() -> impl Strategy<Value = Value> {
    any_value(prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        "[a-c<]{0,2}".prop_map(Value::from),
    ])
}

fn any_value(leaf: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]|__proto__", inner, 0..4)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

fn object(of: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-c]|__proto__", of, 0..4)
        .prop_map(|it| Value::Object(it.into_iter().collect()))
}

fn patch() -> impl Strategy<Value = Value> {
    object(any_value(prop_oneof![Just(Value::Null), (0..3).prop_map(Value::from)]))
}

/// Composes two patches as a page does that gathers its changes. `None` if no patch does what both
/// do: the second makes an object of what the first removes or replaces.
fn composed(first: &Value, second: &Value) -> Option<Value> {
    let (Value::Object(first), Value::Object(second)) = (first, second) else {
        return Some(second.clone());
    };
    let mut both = first.clone();
    for (name, change) in second {
        let one = match (first.get(name), change) {
            (Some(Value::Object(_)), Value::Object(_)) => composed(&first[name], change)?,
            (Some(_), Value::Object(_)) => return None,
            _ => change.clone(),
        };
        both.insert(name.clone(), one);
    }
    Some(Value::Object(both))
}

proptest! {
    #[test]
    fn object_patches_compose(state in object(value()), first in patch(), second in patch()) {
        if let Some(both) = composed(&first, &second) {
            let one_by_one = merged(&merged(&state, &first), &second);
            prop_assert_eq!(merged(&state, &both), one_by_one);
        }
    }

    #[test]
    fn a_merged_patch_does_the_same_again(state in object(value()), patch in patch()) {
        let once = merged(&state, &patch);
        prop_assert_eq!(merged(&once, &patch), once);
    }

    #[test]
    fn the_difference_turns_one_object_into_the_other(
        before in object(value()), after in object(value()),
    ) {
        match difference(&before, &after) {
            Some(patch) => prop_assert_eq!(merged(&before, &patch), after),
            None => prop_assert_eq!(before, after),
        }
    }

    #[test]
    fn a_whole_value_with_removals_is_a_patch(
        before in object(value()), after in object(value()),
    ) {
        let mut patch = after.clone();
        whole_with_removals(&before, &mut patch);
        prop_assert_eq!(&merged(&before, &patch), &after);
        prop_assert_eq!(merged(&Value::Null, &patch), after);
    }
}

#[test]
fn a_patch_is_an_object_within_limits() {
    let options = StateOptions { depth: 3, name_bytes: 4, ..StateOptions::default() };
    let parse = |text: &str| {
        let patch = MergePatch::parse(text.as_bytes(), &options)?;
        patch.check(&options).map(|()| patch)
    };
    for good in ["{}", r#" {"a":{"b":[1]}} "#, r#"{"a":"[[[[{{{{","b":"\"[[[["}"#, r#"{"long":1}"#]
    {
        assert!(parse(good).is_ok(), "{good}");
    }
    for text in ["[]", "1", "null", "\"a\""] {
        assert_eq!(parse(text), Err(StateRefusal::NotAnObject), "{text}");
    }
    for text in ["", "{", "{'a':1}", r#"{"a":1e400}"#, r#"{"a":"\ud800"}"#, "{\"a\":\"\u{1}\"}"] {
        assert!(matches!(parse(text), Err(StateRefusal::Malformed(_))), "{text:?}");
    }
    for text in [r#"{"a":{"b":[[]]}}"#, r#"{"a":{"b":{"c":{}}}}"#] {
        assert_eq!(parse(text), Err(StateRefusal::TooDeep { limit: 3 }), "{text}");
    }
    let deep = format!("{}{}", "{\"a\":".repeat(1_000_000), "}".repeat(1_000_000));
    assert_eq!(parse(&deep), Err(StateRefusal::TooDeep { limit: 3 }));
    for text in [r#"{"a":{"longer":1}}"#, r#"{"a":[{"longer":1}]}"#] {
        assert_eq!(parse(text), Err(StateRefusal::NameTooLong { bytes: 6, limit: 4 }), "{text}");
    }
    // Of two members with one name the last counts, as in `JSON.parse`.
    let twice = parse(r#"{"a":1,"a":2}"#).expect("an object");
    assert_eq!(Value::from(twice.members().clone()), json!({"a":2}));
    let plain = parse(r#"{"__proto__":1}"#).err();
    assert_eq!(plain, Some(StateRefusal::NameTooLong { bytes: 9, limit: 4 }));
}

#[test]
fn the_length_of_a_patch_is_that_of_its_json() {
    let object = json!({"a":[1,2],"b":"ü\"<","c":null});
    let members = object.as_object().expect("an object").clone();
    assert_eq!(MergePatch::from(members).bytes(), object.to_string().len());
}

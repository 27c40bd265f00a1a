//! Tests of what an import refuses, and of how much it holds in memory.

use serde_json::{Value, json};

use super::*;
use crate::{
    clock::Clock,
    history::{
        Disk, History as _,
        disk::tests::{commit, options, update},
    },
};

fn event(position: u64) -> Value {
    json!({
        "position": position, "accepted_at": "2026-01-01T00:00:00Z", "id": "urn:x:1",
        "topics": ["a"], "data": "",
    })
}

/// Imports events in the former format. Returns the number of commits.
fn imported(events: &[Value]) -> Result<i64, StoreError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = options(directory.path());
    let mut text = json!({ "version": WITHOUT_END }).to_string() + "\n";
    for event in events {
        text += &(json!({ "event": event }).to_string() + "\n");
    }
    import(&options, text.as_bytes(), true)?;
    Ok(open::open(&options)?.1.log.commits)
}

#[test]
fn positions_after_which_no_other_follows_are_refused() {
    assert!(imported(&[event(1), event(HIGHEST.0)]).is_ok());
    for position in [HIGHEST.0 + 1, u64::MAX] {
        let error = imported(&[event(1), event(position)]).expect_err("too high").to_string();
        let expected = format!("line 3: its position is {position}; at most {}", HIGHEST.0);
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn events_that_no_gateway_accepted_are_refused() {
    for (field, value, named) in [
        ("id", json!("x\ndata: y"), "`id` contains"),
        ("id", json!("#x"), "`id` begins with `#`"),
        ("id", json!("earliest"), "`id` is `earliest`"),
        ("id", json!(""), "`id` is missing"),
        ("type", json!("x\ndata: y"), "`type` contains"),
        ("topics", json!([]), "`topic` is missing"),
        ("topics", json!(["a", "*"]), "`topic` is `*`"),
        ("topics", json!(["a\r"]), "`topic` contains"),
        ("retry", json!(1_u64 << 31), "`retry` is more"),
        ("except", json!(["AAAA"]), "not a client key"),
        ("lane", json!("fast"), "`fast` is not a lane"),
        ("from", json!("x\ny"), "`from` contains"),
    ] {
        let mut event = event(1);
        event[field] = value;
        let error = imported(&[event]).expect_err("refused").to_string();
        assert!(error.contains(&format!("line 2: {named}")), "{error}");
    }
    let mut event = event(1);
    event["topics"] = json!(["/jobs/1", "/.well-known/mercure/subscriptions/x"]);
    event["type"] = json!("mercure");
    event["id"] = json!("x".repeat(100_000));
    assert!(imported(&[event]).is_ok(), "the hub itself published it, with other limits");
}

#[test]
fn an_import_writes_before_it_holds_many_bytes() {
    let events: Vec<Value> = (1..=4)
        .map(|position| {
            let mut event = event(position);
            event["data"] = json!("x".repeat(BYTES / 2));
            event
        })
        .collect();
    // After each second event, and at the end.
    assert_eq!(imported(&events).expect("valid"), 3);
}

#[test]
fn lanes_and_senders_come_back_and_earlier_versions_have_none() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = Disk::open(options(directory.path()), Clock::system()).expect("a store");
    let updates = Lane::ALL.map(|lane| Update {
        lane,
        from: (lane == Lane::State).then(|| "a client".into()),
        ..update(&[0], 1, 1)
    });
    commit(&disk, Vec::from(updates).into()).expect("stored");
    disk.close();
    drop(disk);
    let exported = |path: &std::path::Path| {
        let mut output = Vec::new();
        export(&options(path), &mut output).expect("readable");
        String::from_utf8(output).expect("text")
    };
    let before = exported(directory.path());
    let copy = tempfile::tempdir().expect("a temporary directory");
    import(&options(copy.path()), before.as_bytes(), false).expect("whole");
    assert_eq!(exported(copy.path()), before);
    for lane in Lane::ALL {
        assert!(before.contains(&format!(r#""lane":"{}""#, lane.as_str())), "{before}");
    }
    assert_eq!(before.matches(r#""from":"a client""#).count(), 1, "{before}");
    for (kind, expected) in [(None, Lane::Ordinary), (Some("mercure"), Lane::Subscriptions)] {
        let mut line = event(1);
        line["type"] = json!(kind);
        let line: EventLine = serde_json::from_value(line).expect("an event");
        assert_eq!(line.into_event().expect("valid").update.lane, expected);
    }
}

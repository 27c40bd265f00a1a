use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_core::{
    event::{Draft, Event, Position, Update},
    history::{CursorKey, Missing},
    transport::{EndReason, Gap, StreamWriter, json as json_writer, sse},
};
use tidegate_testkit::library::validated;

use crate::{
    iframe::calls,
    support::{raw::Chunks, sse::Parser},
};

fn update(draft: Draft) -> Option<Update> {
    validated(draft).ok()
}

/// Text that could break encoders: line ends, markup, quotes, separators, field names.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\r"),
        Just("\n"),
        Just("\r\n"),
        Just("\n\n"),
        Just(" "),
        Just(":"),
        Just("data: "),
        Just("id: x"),
        Just("</script>"),
        Just("<!--"),
        Just("]]>"),
        Just("\u{2028}"),
        Just("\u{2029}"),
        Just("\""),
        Just("\\"),
        Just("\0"),
        Just("\u{feff}"),
        Just("😀"),
        Just("&lt;"),
        Just("'"),
        Just("plain"),
    ];
    let pieces = prop::collection::vec(piece, 0..12).prop_map(|it| it.concat());
    prop_oneof![pieces, any::<String>()]
}

prop_compose! {
    fn events()(
        topics in prop::collection::vec(nasty(), 1..4),
        data in nasty(),
        id in nasty(),
        kind in nasty(),
        retry in prop::option::of(any::<u64>()),
    ) -> (Draft, String) {
        let draft = Draft {
            topics,
            data: data.clone(),
            id: Some(id),
            kind: Some(kind),
            retry,
            ..Draft::default()
        };
        (draft, data)
    }
}

fn event(update: Update) -> Event {
    let accepted_at = "2026-01-01T00:00:00.123999Z".parse().expect("a time");
    Event::new(Position(7), accepted_at, Arc::new(update))
}

proptest! {
    #[test]
    fn a_browser_reads_from_an_event_stream_what_was_published((draft, data) in events(), cut in any::<prop::sample::Index>()) {
        let Some(update) = update(draft) else { return Ok(()) };
        let event = event(update);
        let bytes = sse::event(&event);
        let mut parser = Parser::default();
        let (before, behind) = bytes.split_at(cut.index(bytes.len()));
        let mut dispatched = parser.feed(before);
        dispatched.extend(parser.feed(behind));
        prop_assert_eq!(dispatched.len(), 1);
        let normalised = data.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(&dispatched[0].data, &normalised);
        prop_assert_eq!(&dispatched[0].id, event.update.id.as_str());
        let kind = event.update.kind.as_ref().map_or("message", |it| it.as_str());
        prop_assert_eq!(&dispatched[0].kind, kind);
        prop_assert_eq!(parser.retry, event.update.retry);
        prop_assert_eq!(parser.empty_dispatches, 0);
    }

    #[test]
    fn a_chunk_is_the_plain_form_in_a_frame((draft, _) in events(), is_first in any::<bool>()) {
        let Some(update) = update(draft) else { return Ok(()) };
        let event = event(update);
        // In both orders of encoding.
        let first = is_first.then(|| sse::event(&event));
        let key = CursorKey::random();
        let writer = StreamWriter::Sse { visible_heartbeats: false, is_json: false, is_chunked: true };
        let mut chunks = Chunks::default();
        let unframed = chunks.feed(writer.event(&event, &key));
        prop_assert_eq!(&unframed, &*sse::event(&event));
        prop_assert!(first.is_none_or(|it| *it == unframed));
        let plain = StreamWriter::Sse { visible_heartbeats: true, is_json: false, is_chunked: false };
        let writer = StreamWriter::Sse { visible_heartbeats: true, is_json: false, is_chunked: true };
        prop_assert_eq!(plain.event(&event, &key), &unframed);
        let gap = Gap { cursor: "c".into(), missing: Missing::Trimmed, after: Position(7) };
        // No two cursor tokens are the same.
        let (unframed, plainly) = (chunks.feed(&writer.gap(&gap, &key)), plain.gap(&gap, &key));
        prop_assert!(unframed.starts_with(b"event: tidegate.gap\n") && unframed.ends_with(b"\n\n"));
        prop_assert_eq!(unframed.len(), plainly.len());
        prop_assert_eq!(chunks.feed(&writer.heartbeat("t")), &*plain.heartbeat("t"));
        let (reason, retry) = (EndReason::Lifetime, Duration::from_secs(1));
        prop_assert!(!chunks.is_complete);
        prop_assert_eq!(chunks.feed(&writer.end(reason, retry, "t")), &*plain.end(reason, retry, "t"));
        prop_assert!(chunks.is_complete);
    }

    #[test]
    fn a_stream_that_is_cut_off_never_shows_half_an_event((draft, _) in events(), cut in any::<prop::sample::Index>()) {
        let Some(update) = update(draft) else { return Ok(()) };
        let bytes = sse::event(&event(update));
        let mut parser = Parser::default();
        prop_assert!(parser.feed(&bytes[..cut.index(bytes.len())]).is_empty());
    }

    #[test]
    fn scripts_and_polls_carry_exactly_what_was_published(
        (draft, data) in events(), from in prop::option::of(".{0,22}"),
    ) {
        let Some(update) = update(draft) else { return Ok(()) };
        let event = event(Update { from: from.clone().map(Into::into), ..update });
        let topics: Vec<&str> = event.update.topics.iter().map(|it| it.as_str()).collect();
        let mut expected = json!({
            "id": event.update.id.as_str(),
            "type": event.update.kind.as_ref().map(|it| it.as_str()),
            "data": data,
            "topics": topics,
            "retry": event.update.retry,
            "time": "2026-01-01T00:00:00.123Z",
        });
        if let Some(from) = from {
            expected["from"] = from.into();
        }
        let polled: Value = serde_json::from_slice(json_writer::event(&event)).expect("JSON");
        prop_assert_eq!(&polled, &expected);
        let key = CursorKey::random();
        let writer = StreamWriter::Iframe { nonce: "n0nce".into() };
        let script = writer.event(&event, &key);
        let calls = calls(std::str::from_utf8(script).expect("UTF-8"));
        prop_assert_eq!(calls.len(), 1);
        prop_assert_eq!(&calls[0]["event"], &expected);
        prop_assert_eq!(key.open(calls[0]["cursor"].as_str().expect("a token")), Some(Position(7)));
    }
}

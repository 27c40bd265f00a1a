//! Every transport delivers the same events, in order, each once, byte for byte.

use serde_json::{Value, json};

use crate::support::{Gateway, Heard, in_browser};

/// Data that could break encoders.
const DATA: [&str; 30] = [
    "",
    " ",
    "\n",
    "\r",
    "\r\n",
    "\n\n\n",
    "plain",
    "  two leading spaces",
    ": a comment?",
    "data: a field?",
    "id: 7\nevent: x\nretry: 1",
    "it's \"quoted\"",
    "\\",
    "\\\\u003c \\n \\\" \\",
    "</script><script>parent.heard.iframe.push('injected')</script>",
    "<!--",
    "<!-- <script>",
    "<script>",
    "-->",
    "]]>",
    "<b>tag</b> &amp; &lt; &#60;",
    "first\nsecond\r\nthird\rfourth\n\rfifth",
    "ends with a line\n",
    "\n begins with one",
    "blank\n\n\nlines\r\r\nbetween",
    "emoji 😀 👩\u{200d}💻 𝒳",
    "line\u{2028}paragraph\u{2029}next\u{85}line",
    "nul \0 bell \u{7} escape \u{1b} delete \u{7f}",
    "\u{feff}byte order mark \u{fffe}\u{ffff}",
    "${template} `ticks` {{ braces }} %3Cscript%3E",
];

/// The ends of ids. Control and format characters are not allowed in ids.
const IDS: [&str; 8] =
    ["", "\"'`", "</script>", "<!--<script>", "\\", "%20+&=?", "ü 日本 😀", "\u{2028}]]>"];

/// Event types. An EventSource reports `message` for an event without one.
const TYPES: [Option<&str>; 6] =
    [None, Some("note"), Some("a \"b' c"), Some("</script>"), Some("\\<!--"), Some("ü😀")];

fn updates() -> Vec<Heard> {
    let update = |number: usize| Heard {
        id: format!("{number}{}", IDS[number % IDS.len()]),
        kind: TYPES[number % TYPES.len()].map(str::to_owned),
        // Each alone, then in pairs.
        data: match DATA.get(number) {
            Some(data) => (*data).to_owned(),
            None => format!("{}{}", DATA[number % 30], DATA[number * 7 % 30]),
        },
    };
    (0..100).map(update).collect()
}

fn as_update(event: &Heard) -> Value {
    json!({ "topics": ["x"], "id": event.id, "type": event.kind, "data": event.data })
}

/// The event as an EventSource reports it: with one kind of line end, and a default type.
fn as_sse(event: &Heard) -> Heard {
    Heard {
        id: event.id.clone(),
        kind: Some(event.kind.clone().unwrap_or_else(|| "message".to_owned())),
        data: event.data.replace("\r\n", "\n").replace('\r', "\n"),
    }
}

fn assert_same(transport: &str, heard: &[Heard], sent: &[Heard]) {
    for (heard, sent) in heard.iter().zip(sent) {
        assert_eq!(heard, sent, "over {transport}");
    }
    assert_eq!(heard.len(), sent.len() + 1, "over {transport}, with the last one");
}

#[tokio::test]
async fn three_transports_receive_the_same_events_in_order_once_and_unchanged() {
    in_browser(|page| async move {
        let gateway = Gateway::start(&[]).await;
        page.open_listeners(&gateway.origin()).await;
        let types: Vec<_> = TYPES.iter().flatten().collect();
        page.run(&format!("listenBySse('topic=x', {})", json!(types))).await;
        page.run("listenByIframe('topic=x'); listenByPoll('topic=x')").await;
        gateway.has_subscribers(&["sse", "iframe", "poll"]).await;

        let sent = updates();
        for batch in sent.chunks(7) {
            gateway.publish(&batch.iter().map(as_update).collect::<Vec<_>>()).await;
        }
        gateway.publish(&[json!({ "topics": ["x"], "id": "last" })]).await;
        page.until_heard(&["sse", "iframe", "poll"], "last").await;

        assert_same("iframe", &page.heard("iframe").await, &sent);
        assert_same("poll", &page.heard("poll").await, &sent);
        let by_sse: Vec<_> = sent.iter().map(as_sse).collect();
        assert_same("sse", &page.heard("sse").await, &by_sse);
    })
    .await;
}

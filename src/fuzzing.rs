//! Entry points for fuzzers: each function passes any bytes to one of the gateway's parsers and
//! checks what must hold.
//!
//! The targets are in `fuzz/`, with their initial inputs. The tests here run all kept inputs
//! through the same functions, so that fixed bugs stay fixed.

use actix_web::{http::header::HeaderValue, test::TestRequest};
use tidegate_core::{
    event,
    history::{CursorKey, read_back},
    matching::{Matcher, MatcherKind, Matchers},
};
use url::Url;

use crate::{
    api::{publish, subscribe},
    auth,
    http::accept,
    settings::LimitSettings,
};

fn hub() -> Url {
    Url::parse("https://hub.example/.well-known/mercure").expect("a valid address")
}

fn limits() -> event::Limits {
    event::Limits {
        topics: 100,
        topic_bytes: 4096,
        id_bytes: 1024,
        type_bytes: 256,
        except: 100,
        client_key_bytes: 256,
    }
}

fn validate(draft: event::Draft) {
    let Ok(update) = draft.validate(&limits(), &hub()) else { return };
    assert!(!update.topics.is_empty() && update.topics.len() <= limits().topics);
    assert!(update.topics.iter().all(|it| !it.is_reserved(&hub()) && it.as_str() != "*"));
    assert!(!update.id.as_str().is_empty() && !update.id.as_str().starts_with('#'));
}

/// Parses an update as a form.
pub fn publish_form(input: &[u8]) {
    if let Ok(draft) = publish::form::parse(input) {
        validate(draft);
    }
}

/// Parses updates as JSON.
pub fn publish_json(input: &[u8]) {
    if let Ok((drafts, is_array)) = publish::json::parse(input, 100) {
        assert!(!drafts.is_empty() && (is_array || drafts.len() == 1));
        drafts.into_iter().for_each(validate);
    }
}

/// Parses a matcher and a topic, separated by a line end. The first byte selects the matcher type.
pub fn matchers(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (pattern, topic) = text.split_once('\n').unwrap_or((text, text));
    let kinds = [
        MatcherKind::Exact,
        MatcherKind::UrlPattern,
        MatcherKind::UriTemplate,
        MatcherKind::Selector,
    ];
    let kind = kinds[usize::from(*kind) % kinds.len()];
    let limits = LimitSettings::default().matcher_limits();
    let Ok(topic) = event::Topic::parse(topic, 4096) else { return };
    let _ = topic.is_reserved(&hub());
    if let Ok(matcher) = Matcher::parse(kind, pattern, &hub(), &limits) {
        let matchers = Matchers::new([matcher]);
        assert_eq!(matchers.matches(&topic), matchers.matches(&topic));
    }
}

/// Verifies an access token.
///
/// # Panics
/// If an unsigned access token is accepted.
pub fn access_token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    auth::access_token::refuse_unsigned(text);
}

/// Opens a cursor token.
pub fn cursor_token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let key = CursorKey::random();
    assert_eq!(key.open(text), None, "it was not made by this key");
}

/// Checks the name of a JavaScript function.
pub fn callback(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if subscribe::callback::check_callback(text).is_ok() {
        let is_plain = |it: char| it.is_ascii_alphanumeric() || "._$".contains(it);
        assert!(text.chars().all(is_plain) && text.len() <= 64, "{text}");
    }
}

/// Parses the header `Accept`.
pub fn accept(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let request = TestRequest::default().insert_header(("accept", value)).to_http_request();
    let offers = ["application/json", "text/html", "text/event-stream"];
    let preferred = accept::preferred(&request, &offers);
    assert!(offers.iter().all(|it| accept::accepts(&request, it) || preferred != Some(*it)));
}

/// Decodes the record of an event in the store.
pub fn store_codec(input: &[u8]) {
    read_back(input);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn every_kept_input_is_borne() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        type Target = fn(&[u8]);
        let targets: [(&str, Target); 8] = [
            ("publish_form", super::publish_form),
            ("publish_json", super::publish_json),
            ("matchers", super::matchers),
            ("access_token", super::access_token),
            ("cursor_token", super::cursor_token),
            ("callback", super::callback),
            ("accept", super::accept),
            ("store_codec", super::store_codec),
        ];
        for (name, target) in targets {
            let entries = fs::read_dir(corpus.join(name)).expect("a folder of inputs");
            let mut n_inputs = 0;
            for entry in entries {
                target(&fs::read(entry.expect("an entry").path()).expect("an input"));
                n_inputs += 1;
            }
            assert!(0 < n_inputs, "{name} has inputs");
        }
        let folders = fs::read_dir(&corpus).expect("a folder").count();
        assert_eq!(folders, targets.len(), "every folder belongs to a target");
    }
}

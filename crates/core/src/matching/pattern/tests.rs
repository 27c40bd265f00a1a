use proptest::prelude::*;
use urlpattern::{UrlPatternInit, UrlPatternMatchInput, UrlPatternOptions};

use super::{url::LazyRegex, *};

const AMPLE: Allowance = Allowance { each: 1000 };

fn hub() -> Url {
    Url::parse("https://hub.example/.well-known/mercure").expect("a valid address")
}

fn topic(text: &str) -> Topic {
    Topic::parse(text, 10_000).expect("valid")
}

fn url(text: &str) -> Result<Arc<Pattern>, Unusable> {
    Pattern::url(text, &hub(), AMPLE)
}

#[test]
fn url_patterns_match_resolved_topics() {
    for (pattern, matching, others) in [
        (
            "https://example.com/books/:id",
            &[
                "https://example.com/books/1",
                "https://EXAMPLE.com:443/books/1?q#h",
                "https://example.com/x/../books/1",
            ][..],
            &[
                "https://example.com/books/",
                "https://example.com/books/1/2",
                "https://example.com/Books/1",
                "http://example.com/books/1",
                "books/1",
            ][..],
        ),
        ("https://example.com", &["https://example.com/any/path"], &["https://example.org/"]),
        (
            "foo/:id",
            &["foo/1", "https://hub.example/.well-known/foo/1", "./foo/1"],
            &["/foo/1", "foo"],
        ),
        (
            "/foo/:id",
            &["/foo/1", "https://hub.example/foo/1"],
            &["foo/1", "https://other.example/foo/1"],
        ),
        ("/a/:b?", &["/a", "/a/1"], &["/a/1/2", "/a/"]),
        ("/a/:b+", &["/a/1", "/a/1/2"], &["/a"]),
        ("/a{/b}*/c", &["/a/c", "/a/b/b/c"], &["/a/b"]),
        ("/n/(\\d+)", &["/n/12"], &["/n/x", "/n/", "/n/1x"]),
        ("/f/*.js", &["/f/a/b.js", "/f/.js"], &["/f/a.jsx"]),
        ("/q?a=*", &["/q?a=1", "/q?a=#h"], &["/q", "/q?b=1"]),
        ("urn\\:isbn\\:*", &["urn:isbn:123"], &["urn:issn:123", "isbn:123"]),
        ("http://[\\:\\:1]/:id", &["http://[::1]/x", "http://[0::1]:80/x"], &["http://[::2]/x"]),
        ("/:id([a-z]{2})", &["/ab"], &["/abc", "/AB"]),
        ("https://*.example.com/*", &["https://a.b.example.com/x"], &["https://example.com/x"]),
        (
            "https://example.com/ü",
            &["https://example.com/ü", "https://example.com/%C3%BC"],
            &["https://example.com/u"],
        ),
    ] {
        let pattern = url(pattern).expect("a valid pattern");
        for it in matching {
            assert!(pattern.matches(&topic(it)), "{pattern:?} {it}");
        }
        for it in others {
            assert!(!pattern.matches(&topic(it)), "{pattern:?} {it}");
        }
    }
}

#[test]
fn the_colon_of_a_urn_is_a_group() {
    assert!(!url("urn:uuid:*").expect("valid").matches(&topic("urn:uuid:123")));
}

#[test]
fn what_is_no_address_matches_no_url_pattern() {
    let pattern = url("https://*/*").expect("valid");
    for it in ["https://", "https://exa mple/", "http://[::1", "https://example.com:99999/"] {
        assert!(!pattern.matches(&topic(it)), "{it}");
    }
}

#[test]
fn malformed_url_patterns_are_refused() {
    for text in [
        "/(",
        "/(a",
        "/((a))",
        "/(?=a)",
        "/((?=a).*)",
        "/((?<!a)b)",
        "/((?:a)\\1)",
        "/(a{2,1})",
        "/:a/:a",
        "/{a",
        "/a}",
        "/(é)",
        "/([)",
        "https://exa mple/",
        "https://a:99999/",
        "http://]",
        "https://a/]",
        "/\u{5c}",
        "/(())",
        "/((?:a{9999}){9999})",
    ] {
        assert_eq!(url(text).map(|it| it.as_str().to_owned()), Err(Unusable::Malformed), "{text}");
    }
}

#[test]
fn equal_patterns_are_one_until_none_is_used() {
    let first = url("/equal/:id").expect("valid");
    let second = url("/equal/:id").expect("valid");
    assert!(Arc::ptr_eq(&first, &second));
    let other_base = Url::parse("https://other.example/").expect("a valid address");
    let other = Pattern::url("/equal/:id", &other_base, AMPLE).expect("valid");
    assert_ne!(first, other);
    assert!(other.matches(&topic("/equal/1")) && first.matches(&topic("/equal/1")));
    let id = first.id();
    drop(first);
    assert!(Arc::ptr_eq(&second, &url("/equal/:id").expect("valid")));
    drop(second);
    assert!(table::in_use(&[id]).is_empty(), "forgotten");
    assert_ne!(url("/equal/:id").expect("valid").id(), id, "ids are not used again");
    let template = Pattern::template("/equal/:id", AMPLE).expect("valid");
    assert_eq!(template.kind(), PatternKind::UriTemplate);
}

#[test]
fn what_costs_too_much_is_refused_before_it_is_compiled() {
    let costly = |text: &str| Pattern::template(text, AMPLE).map(|it| it.cost());
    assert_eq!(costly("cost/{a}"), Ok(1));
    assert_eq!(costly("cost/{a}/{b}"), Ok(11));
    assert_eq!(costly(&"{+a}".repeat(3000)), Err(Unusable::Costly));
    assert_eq!(costly(&format!("{{/{}}}", vec!["a"; 3000].join(","))), Err(Unusable::Costly));
    assert_eq!(url(&"/*".repeat(5000)).map(|it| it.cost()), Err(Unusable::Costly));
    // Over 8 KiB when compiled.
    assert_eq!(
        url(&format!("/({})", "a".repeat(1000))).map(|it| it.cost()),
        Err(Unusable::Malformed)
    );
    let cost = |text: &str| url(text).map(|it| it.cost()).unwrap_or_default();
    let (short, long) = (cost("/([0-9]+)"), cost("/((?:.?){20}Z)"));
    assert!(0 < short && 2 * short < long, "{short} and {long}");
}

#[test]
fn what_matches_a_topic_is_found_for_patterns_that_come_later_as_well() {
    let on = topic("https://hub.example/later/1");
    let early = url("/later/:id").expect("valid");
    assert!(matching(&on).contains(&early.id()));
    let late = url("/later/*").expect("valid");
    let unrelated = url("/sooner/*").expect("valid");
    let found = matching(&on);
    assert!(found.contains(&early.id()) && found.contains(&late.id()));
    assert!(!found.contains(&unrelated.id()) && found.is_sorted());
    let known = known(&on).expect("kept");
    let verdicts = [&early, &late, &unrelated].map(|pattern| known.verdict(pattern.id()));
    assert_eq!(verdicts, [Some(true), Some(true), Some(false)]);
    let gone = late.id();
    drop(late);
    let newest = url("/later/1").expect("valid");
    let found = matching(&on);
    assert!(!found.contains(&gone) && found.contains(&newest.id()), "nothing is kept of the gone");
    assert_eq!(known.verdict(newest.id()), None);
}

#[test]
fn many_threads_agree_on_what_matches() {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..300 {
                    let text = format!("/threads/{}/:id", round % 7);
                    let pattern = url(&text).expect("valid");
                    let on = topic(&format!("/threads/{}/{thread}", round % 7));
                    assert!(matching(&on).contains(&pattern.id()));
                    let other = topic(&format!("/threads/{}/x/y", round % 7));
                    assert!(!matching(&other).contains(&pattern.id()));
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_url_pattern_and_no_topic_makes_it_panic(
        text in "(https?://|urn:|[/:*(){}?+\\\\#\\[\\]|.^$&=@%a-c0-9é ]){0,12}",
        on in "(https?://|urn:|[/:?#@%a-c0-9.\\[\\]é ]){0,10}",
    ) {
        if let Ok(pattern) = url(&text) {
            let _ = pattern.matches(&topic(&on));
        }
    }

    /// The parser's crate can also test patterns. This compares its verdict with that of our
    /// reduced form.
    #[test]
    fn url_patterns_agree_with_the_crate_that_parses_them(
        text in "(https://)?(/|a|b|:x|:y|\\*|\\?|\\{/a\\}|\\(\\[ab\\]\\)|#|@){1,6}",
        on in "(https://)?(/|a|b|\\?|#|@|:){0,6}",
    ) {
        let init = UrlPatternInit::parse_constructor_string::<LazyRegex>(&text, Some(hub()));
        let whole = init.ok().and_then(|init| {
            urlpattern::UrlPattern::<LazyRegex>::parse(init, UrlPatternOptions::default()).ok()
        });
        let expected = whole.map(|whole| hub().join(&on).is_ok_and(|it| {
            whole.test(UrlPatternMatchInput::Url(it)).unwrap_or(false)
        }));
        let actual = url(&text).ok().map(|pattern| pattern.matches(&topic(&on)));
        prop_assert_eq!(actual, expected, "{} {}", text, on);
    }
}

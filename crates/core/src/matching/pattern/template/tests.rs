use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn matches(template: &str, topic: &str) -> bool {
    Template::parse(template).expect("a valid template").matches(template, topic)
}

#[test]
fn what_a_template_matches() {
    for (template, topic) in [
        ("https://example.com/books/{id}", "https://example.com/books/1"),
        ("https://example.com/books/{id}", "https://example.com/books/"),
        ("https://example.com/books/{id}", "https://example.com/books/a,b"),
        ("https://example.com/books/{id}", "https://example.com/books/%C3%BC"),
        ("https://example.com/books/{id}", "https://example.com/books/{id}"),
        (
            "/.well-known/mercure/subscriptions{/topic}{/subscriber}",
            "/.well-known/mercure/subscriptions",
        ),
        (
            "/.well-known/mercure/subscriptions{/topic}{/subscriber}",
            "/.well-known/mercure/subscriptions/a",
        ),
        (
            "/.well-known/mercure/subscriptions{/topic}{/subscriber}",
            "/.well-known/mercure/subscriptions/a/b",
        ),
        ("x{?topic}", "x?anything=1"),
        ("x{?topic}", "x"),
        ("x{?a,b}", "x?a=1&b=2"),
        ("x{?a*}", "x?a=1&b=2&c=3"),
        ("x{&a}", "x&a=1"),
        ("x{;a,b}", "x;a;b=1"),
        ("{/a,b}", "/1/2"),
        ("{/a*}", "/1/2/3/4/5"),
        ("{/a*}", "/k=v"),
        ("x{.a}", "x.tar.gz"),
        ("{+path}/here", "https://a.example/b?c=[d]#e/here"),
        ("x{#a}", "x#y/z"),
        ("{a:3}", "longer-than-three"),
        ("{a}-{a}", "1-2"),
        ("{a.b%20c_d}", "x"),
        ("it's/{a}", "it's/1"),
        ("ü/{a}", "ü/1"),
        ("a.b{x}", "a.b"),
        ("%41{x}", "%41"),
    ] {
        assert!(matches(template, topic), "{template} {topic}");
    }
}

#[test]
fn what_a_template_does_not_match() {
    for (template, topic) in [
        ("https://example.com/books/{id}", "https://example.com/books/1/reviews"),
        ("https://example.com/books/{id}", "https://example.com/books/ü"),
        ("https://example.com/books/{id}", "https://example.com/books/%C"),
        ("https://example.com/books/{id}", "https://example.com/books"),
        ("https://example.com/books/{id}", "xhttps://example.com/books/1"),
        ("https://example.com/books/{id}", "https://example.com/books/{i}"),
        ("{a}", "k=v"),
        ("{/a}", "/1/2"),
        ("{/a,b}", "/1/2/3"),
        ("x{?a,b}", "x?a&b&c"),
        ("x{?a}", "x&a=1"),
        ("{a}/x", "1/xy"),
        ("a.b{x}", "axb"),
        ("%41{x}", "A"),
        ("A{x}", "a"),
        ("{a}", "a\n"),
    ] {
        assert!(!matches(template, topic), "{template} {topic}");
    }
}

#[test]
fn what_is_no_template() {
    for text in [
        "{",
        "}",
        "{}",
        "a}b{c}",
        "{a",
        "{a{b}}",
        "{=a}",
        "{,a}",
        "{!a}",
        "{@a}",
        "{|a}",
        "{a,}",
        "{a,,b}",
        "{+}",
        "{a*b}",
        "{a:}",
        "{a:0}",
        "{a:01}",
        "{a:12345}",
        "{a:1*}",
        "{a:1:2}",
        "{a:-1}",
        "{.a.}",
        "{a..b}",
        "{a-b}",
        "{a b}",
        "{ü}",
        "{a%2}",
        "{a}%",
        "{a}%4",
        "{a}%zz",
        "a b{c}",
        "\"{a}",
        "<{a}",
        ">{a}",
        "\\{a}",
        "^{a}",
        "`{a}",
        "|{a}",
        "{a}\u{fdd0}",
        "{a}\u{1ffff}",
    ] {
        assert!(Template::parse(text).is_none(), "{text}");
    }
}

#[test]
fn variables_that_are_told_apart_are_counted() {
    for (template, expected) in [
        ("a", 0),
        ("{a}", 1),
        ("{a,b,c}", 1),
        ("{+a,b}{c}", 2),
        ("{/a,b,c}", 3),
        ("{/a,b*}", 1),
        ("{?a,b}{&c}", 3),
    ] {
        let template = Template::parse(template).expect("a valid template");
        assert_eq!(template.n_variables(), expected);
    }
}

/// A part of a template, for the naive matcher.
#[derive(Debug, Clone)]
enum Part {
    Literal(&'static str),
    /// The operator, the number of variables, and whether the last is exploded.
    Expression(&'static str, usize, bool),
}

impl Part {
    fn text(&self) -> String {
        match self {
            Self::Literal(literal) => (*literal).to_owned(),
            Self::Expression(operator, n_variables, is_exploded) => {
                let names = vec!["v"; *n_variables].join(",");
                format!("{{{operator}{names}{}}}", if *is_exploded { "*" } else { "" })
            }
        }
    }

    /// The offsets where this part can end if it begins at `begin`, found by trying everything.
    fn ends(&self, topic: &str, begin: usize) -> BTreeSet<usize> {
        let (operator, n_variables, is_exploded) = match self {
            Self::Literal(literal) => {
                let end = topic[begin..].starts_with(literal).then(|| begin + literal.len());
                return end.into_iter().collect();
            }
            Self::Expression(operator, n_variables, is_exploded) => {
                (*operator, *n_variables, *is_exploded)
            }
        };
        let (first, separator, mut class) = match operator {
            "" => ("", ",", ",".to_owned()),
            "+" => ("", ",", ":/?#[]@!$&'()*+,;=".to_owned()),
            "#" => ("#", ",", ":/?#[]@!$&'()*+,;=".to_owned()),
            "." => (".", ".", ",".to_owned()),
            "/" => ("/", "/", ",".to_owned()),
            ";" => (";", ";", ",=".to_owned()),
            "?" => ("?", "&", ",=".to_owned()),
            "&" => ("&", "&", ",=".to_owned()),
            _ => unreachable!("no such operator"),
        };
        if is_exploded {
            class.push('=');
        }
        let mut all = BTreeSet::from([begin]);
        if !topic[begin..].starts_with(first) {
            return all;
        }
        let mut ends = items(topic, begin + first.len(), &class);
        let n_further = if is_exploded { topic.len() } else { n_variables - 1 };
        for _ in 0..n_further {
            let separated = ends.iter().filter(|at| topic[**at..].starts_with(separator));
            let further: Vec<usize> =
                separated.flat_map(|at| items(topic, at + separator.len(), &class)).collect();
            ends.extend(further);
        }
        all.extend(ends);
        all
    }
}

/// The offsets where the value of a variable can end if it begins at `begin`.
fn items(topic: &str, begin: usize, class: &str) -> BTreeSet<usize> {
    let (mut ends, mut at) = (BTreeSet::from([begin]), begin);
    while let Some(next) = topic[at..].chars().next() {
        let triplet = topic.as_bytes().get(at + 1..at + 3);
        at += match next {
            '%' if triplet.is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit)) => 3,
            it if it.is_ascii_alphanumeric() || "-._~".contains(it) || class.contains(it) => 1,
            _ => break,
        };
        ends.insert(at);
    }
    ends
}

fn naive(parts: &[Part], topic: &str) -> bool {
    let mut ends = BTreeSet::from([0]);
    for part in parts {
        ends = ends.into_iter().flat_map(|begin| part.ends(topic, begin)).collect();
    }
    ends.contains(&topic.len())
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let literal =
        prop::sample::select(vec!["a", "b", "/", ".", ",", "?", "a/", "%41", "é", "(", "&"]);
    let operator = prop::sample::select(vec!["", "+", "#", ".", "/", ";", "?", "&"]);
    let part = prop_oneof![
        literal.prop_map(Part::Literal),
        (operator, 1..4_usize, any::<bool>())
            .prop_map(|(operator, n, exploded)| Part::Expression(operator, n, exploded)),
    ];
    prop::collection::vec(part, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_regular_expression_does_what_the_naive_matcher_does(
        parts in parts(),
        topic in "([ab]|/|\\.|,|;|=|\\?|&|#|%41|%|é|\\(){0,8}",
    ) {
        let text: String = parts.iter().map(Part::text).collect();
        let expected = naive(&parts, &topic) || text == topic;
        prop_assert_eq!(matches(&text, &topic), expected, "{} {}", text, topic);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[{}a,*:+./%0-9 é\"]{0,12}", topic in "\\PC{0,8}") {
        if let Some(template) = Template::parse(&text) {
            template.matches(&text, &topic);
        }
    }
}

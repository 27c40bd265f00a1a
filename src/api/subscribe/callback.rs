//! Names of JavaScript functions for callbacks.

use crate::http::problem::Problem;

/// Accepts a dotted JavaScript name of at most five parts and 64 characters, without reserved
/// words.
pub(crate) fn check_callback(callback: &str) -> Result<(), Problem> {
    const LONGEST: usize = 64;
    const PARTS: usize = 5;
    let parts: Vec<&str> = callback.split('.').collect();
    let is_name = callback.len() <= LONGEST && parts.len() <= PARTS;
    if is_name && parts.iter().all(|part| is_identifier(part)) {
        return Ok(());
    }
    let detail =
        "`callback` is not the name of a JavaScript function such as `onEvent` or `app.onEvent`";
    Err(Problem::field("callback", detail))
}

fn is_identifier(part: &str) -> bool {
    // Sorted, for the binary search.
    const WORDS: [&str; 50] = [
        "arguments",
        "await",
        "break",
        "case",
        "catch",
        "class",
        "const",
        "constructor",
        "continue",
        "debugger",
        "default",
        "delete",
        "do",
        "else",
        "enum",
        "eval",
        "export",
        "extends",
        "false",
        "finally",
        "for",
        "function",
        "if",
        "implements",
        "import",
        "in",
        "instanceof",
        "interface",
        "let",
        "new",
        "null",
        "package",
        "private",
        "protected",
        "prototype",
        "public",
        "return",
        "static",
        "super",
        "switch",
        "this",
        "throw",
        "true",
        "try",
        "typeof",
        "var",
        "void",
        "while",
        "with",
        "yield",
    ];
    let is_start = |it: u8| it.is_ascii_alphabetic() || it == b'_' || it == b'$';
    part.bytes().next().is_some_and(is_start)
        && part.bytes().all(|it| is_start(it) || it.is_ascii_digit())
        && part != "__proto__"
        && WORDS.binary_search(&part).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_are_dotted_names() {
        for good in ["onEvent", "a.b.c.d.e", "$", "_x1.$y"] {
            assert!(check_callback(good).is_ok(), "{good}");
        }
        let long = "a".repeat(65);
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "1a",
            "a.b.c.d.e.f",
            "a-b",
            "a(b)",
            "alert(1)//",
            "a;b",
            "a b",
            "ä",
            "a\n",
            "window.eval",
            "a.prototype",
            "a.__proto__.b",
            "constructor",
            "this",
            "new",
            &long,
        ] {
            assert!(check_callback(bad).is_err(), "{bad}");
        }
    }
}

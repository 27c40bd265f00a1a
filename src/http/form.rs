//! Strict parsing of `application/x-www-form-urlencoded` (WHATWG URL). Unlike other parsers, it
//! reports invalid UTF-8 instead of replacing it.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// A name or value that is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not valid UTF-8")]
pub(crate) struct NotUtf8(pub(crate) String);

/// Returns the name-value pairs of a body or query, in order, including repetitions.
pub(crate) fn pairs(input: &[u8]) -> impl Iterator<Item = Result<(String, String), NotUtf8>> {
    input.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let (name, value) = match equals {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        let name = decode(name).map_err(|_| NotUtf8("a field's name".to_owned()))?;
        let value = decode(value).map_err(|_| NotUtf8(name.clone()))?;
        Ok((name, value))
    })
}

/// A name, and names that are refused instead of ignored, because that one is meant. The lists are
/// written by hand: a distance between words would also refuse what others use on purpose.
pub(crate) type Misspelled = (&'static str, &'static [&'static str]);

/// Returns the name that is meant by a misspelled one.
pub(crate) fn meant(lists: &[Misspelled], name: &str) -> Option<&'static str> {
    lists.iter().find(|(_, wrong)| wrong.contains(&name)).map(|(right, _)| *right)
}

/// Whether a query has a parameter of this name.
pub(crate) fn has(query: &str, name: &str) -> bool {
    pairs(query.as_bytes()).filter_map(Result::ok).any(|(found, _)| found == name)
}

/// Returns the first value of this name in a query.
///
/// # Errors
/// If it, or something before it, is not UTF-8.
pub(crate) fn first(query: &str, name: &str) -> Result<Option<String>, NotUtf8> {
    let is_it = |pair: &Result<_, _>| pair.as_ref().map_or(true, |(found, _)| found == name);
    let pair = pairs(query.as_bytes()).find(is_it).transpose()?;
    Ok(pair.map(|(_, value)| value))
}

fn decode(input: &[u8]) -> Result<String, std::string::FromUtf8Error> {
    let spaced = if input.contains(&b'+') {
        let replaced = input.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte });
        Cow::Owned(replaced.collect())
    } else {
        Cow::Borrowed(input)
    };
    let decoded: Cow<'_, [u8]> = percent_decode(&spaced).into();
    String::from_utf8(decoded.into_owned())
}

/// Parses a number of digits only. One that overflows becomes the maximum.
pub(crate) fn whole_number(digits: &str) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(input: &str) -> Vec<(String, String)> {
        pairs(input.as_bytes()).collect::<Result<_, _>>().expect("valid")
    }

    #[test]
    fn names_without_value_and_odd_escapes() {
        let expected = [("a", ""), ("b", "1=2"), ("c", " +;"), ("d", "%zz%4")];
        let expected: Vec<_> = expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(all("a&&b=1=2&c=+%2B;&d=%zz%4"), expected);
    }

    #[test]
    fn what_is_not_utf8_is_named() {
        let error = pairs(b"topic=x&data=%ff").find_map(Result::err);
        assert_eq!(error, Some(NotUtf8("data".to_owned())));
        assert!(pairs(b"data=\xff").any(|it| it.is_err()));
    }

    proptest! {
        #[test]
        fn agrees_with_the_url_crate_on_valid_text(pairs in prop::collection::vec((".*", ".*"), 0..5)) {
            let mut encoder = url::form_urlencoded::Serializer::new(String::new());
            let encoded = encoder.extend_pairs(&pairs).finish();
            prop_assert_eq!(all(&encoded), pairs);
        }
    }
}

//! Lists of origins: `https://example.com`, `https://*.example.com` for all subdomains, `*` for
//! all.

use url::Url;

/// Every origin.
pub(crate) const ANY: &str = "*";

/// Whether the list allows `origin`, as sent by a browser. `null` is never allowed, because any
/// page can have that origin.
pub(crate) fn allows(allowed: &[String], origin: &str) -> bool {
    origin != "null" && allowed.iter().any(|it| it == ANY || names(it, origin))
}

/// Whether the list names `origin` or its domain.
pub(crate) fn allows_by_name(allowed: &[String], origin: &str) -> bool {
    origin != "null" && allowed.iter().any(|it| names(it, origin))
}

fn names(allowed: &str, origin: &str) -> bool {
    let Some((scheme, domain)) = allowed.split_once("://*.") else {
        return allowed != ANY && allowed == origin;
    };
    let host = origin.strip_prefix(scheme).and_then(|it| it.strip_prefix("://"));
    let labels = host.and_then(|it| it.strip_suffix(domain)?.strip_suffix('.'));
    let is_label = |it: u8| it.is_ascii_alphanumeric() || b"-_.".contains(&it);
    labels.is_some_and(|it| !it.is_empty() && it.bytes().all(is_label))
}

/// Checks one entry of a list. Returns what is wrong.
pub(super) fn check(key: &str, origin: &str) -> Result<(), String> {
    // Any label may replace the asterisk.
    let concrete = origin.replacen("://*.", "://label.", 1);
    let is_origin =
        Url::parse(&concrete).is_ok_and(|it| it.origin().ascii_serialization() == concrete);
    let is_domain = !origin.contains('*')
        || origin.split_once("://*.").is_some_and(|(_, it)| it.contains('.') && !it.contains('*'));
    if is_origin && is_domain {
        return Ok(());
    }
    Err(format!("{key}: `{origin}` is not an origin such as https://example.com"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_as_a_whole() {
        let allowed = ["https://a.test".to_owned(), "https://*.b.test".to_owned()];
        for good in ["https://a.test", "https://x.b.test", "https://x.y.b.test"] {
            assert!(allows(&allowed, good), "{good}");
        }
        for bad in [
            "https://a.test.evil.test",
            "https://a.test:8443",
            "http://a.test",
            "https://b.test",
            "https://evilb.test",
            "https://.b.test",
            "https://evil.test/.b.test",
            "https://evil.test:1.b.test",
            "http://x.b.test",
            "https://x.b.test:444",
            "null",
            "",
        ] {
            assert!(!allows(&allowed, bad), "{bad}");
        }
        assert!(allows(&[ANY.to_owned()], "https://c.test"));
        assert!(!allows(&[ANY.to_owned()], "null"));
        for origin in ["https://c.test", ANY] {
            assert!(!allows_by_name(&[ANY.to_owned()], origin), "{origin}");
        }
    }

    #[test]
    fn entries_are_origins_or_domains() {
        for good in
            ["https://a.test", "http://localhost:3000", "https://*.a.test", "http://[::1]:1"]
        {
            assert_eq!(check("k", good), Ok(()), "{good}");
        }
        for bad in [
            "*",
            "null",
            "a.test",
            "https://a.test/",
            "https://*.test",
            "https://*",
            "https://a.*.test",
            "https://*.*.test",
            "https://A.test",
        ] {
            assert!(check("k", bad).is_err(), "{bad}");
        }
    }
}

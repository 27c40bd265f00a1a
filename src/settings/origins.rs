//! Origins of pages: lists of them (`https://example.com`, `https://*.example.com` for all
//! subdomains, `*` for all), and what their pages may do.

use url::{Host, Url};

use super::Settings;

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

/// Whether only this machine can serve pages of `origin`, as sent by a browser: `localhost`, a name
/// under `.localhost`, a loopback address, or 0.0.0.0, which some development servers print.
pub(crate) fn is_loopback(origin: &str) -> bool {
    // An origin is compared as browsers write it, so that nothing can hide in another notation.
    let Some(url) = Url::parse(origin).ok().filter(|_| is_origin(origin)) else {
        return false;
    };
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    is_local && matches!(url.scheme(), "http" | "https")
}

impl Settings {
    /// Whether pages of `origin` may read responses. `*` lets also those of `null` read, because
    /// every page may then.
    pub(crate) fn lets_read(&self, origin: &str) -> bool {
        self.lets_read_by_name(origin) || self.cors.origins.iter().any(|it| it == ANY)
    }

    /// Whether pages of `origin` may read responses for another reason than `*`.
    pub(crate) fn lets_read_by_name(&self, origin: &str) -> bool {
        let is_local = self.auth.is_development() && is_loopback(origin);
        is_local || allows_by_name(&self.cors.origins, origin)
    }

    /// Whether pages of `origin` may write in development mode. With keys, access tokens decide.
    pub(crate) fn lets_write(&self, origin: &str) -> bool {
        let is_local = self.cors.loopback_writes && is_loopback(origin);
        is_local || allows_by_name(&self.cors.origins, origin)
    }
}

/// Whether `text` is an origin as browsers write it.
pub(crate) fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|it| it.origin().ascii_serialization() == text)
}

/// Checks one entry of a list. Returns what is wrong.
pub(super) fn check(key: &str, origin: &str) -> Result<(), String> {
    // Any label may replace the asterisk.
    let concrete = origin.replacen("://*.", "://label.", 1);
    let is_domain = !origin.contains('*')
        || origin.split_once("://*.").is_some_and(|(_, it)| it.contains('.') && !it.contains('*'));
    if is_origin(&concrete) && is_domain {
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
    fn only_this_machine_serves_loopback_origins() {
        for good in [
            "http://localhost",
            "http://localhost:5173",
            "https://localhost:8443",
            "http://app.localhost:3000",
            "http://127.0.0.1:8000",
            "http://127.8.9.10",
            "http://0.0.0.0:8000",
            "http://[::1]:8000",
        ] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "null",
            "",
            "*",
            "localhost",
            "localhost:5173",
            "http://localhost.evil.test",
            "http://127.0.0.1.evil.test",
            "http://evillocalhost",
            "http://localhost.",
            "http://localhost@evil.test",
            "http://localhost:80@evil.test",
            "http://localhost/",
            "http://localhost/.evil.test",
            "http://localhost#.evil.test",
            "http://LOCALHOST",
            "http://localhost:80",
            "http://127.1",
            "http://2130706433",
            "http://0x7f.1",
            "http://128.0.0.1",
            "http://192.168.0.1",
            "http://[::]",
            "http://[::ffff:127.0.0.1]",
            "http://[::ffff:7f00:1]",
            "http://[fe80::1]",
            "ftp://localhost",
            "ws://localhost",
            "file://localhost",
            "file://",
            "chrome-extension://localhost",
            "http://localhost http://evil.test",
            " http://localhost",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn loopback_pages_read_in_development_and_write_only_if_told() {
        let mut settings = Settings::default();
        let local = "http://localhost:5173";
        assert!(settings.lets_read(local) && settings.lets_read_by_name(local));
        assert!(!settings.lets_write(local));
        settings.cors.loopback_writes = true;
        assert!(settings.lets_write(local));
        for foreign in ["null", "https://evil.test", "http://localhost.evil.test"] {
            assert!(!settings.lets_read(foreign) && !settings.lets_write(foreign), "{foreign}");
        }
        settings.auth.publisher_key = crate::settings::Secret::from("k");
        assert!(!settings.lets_read(local), "with keys nothing is allowed that is not listed");
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

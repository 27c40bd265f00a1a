//! Notations of values in settings: `30s`, `64KiB`, `127.0.0.1:3000`.

/// Durations such as `30s`, `1h 30m`, `250ms`.
pub(super) mod duration {
    use std::time::Duration;

    use jiff::{SignedDuration, Span};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(input)?;
        let parsed = text.parse::<SignedDuration>().ok();
        parsed.and_then(|it| Duration::try_from(it).ok()).ok_or_else(|| {
            let mut what = format!("`{text}` is not a duration such as `30s` or `250ms`");
            if text.parse::<Span>().is_ok() {
                what += "; the longest unit is the hour: a day is `24h`, 7 days are `168h`";
            }
            D::Error::custom(what)
        })
    }

    pub(crate) fn serialize<S: Serializer>(value: &Duration, out: S) -> Result<S::Ok, S::Error> {
        let signed = SignedDuration::try_from(*value).unwrap_or(SignedDuration::MAX);
        out.collect_str(&format_args!("{signed:#}"))
    }
}

/// Sizes such as `64KiB`, `1MiB`, `300B`.
pub(super) mod size {
    use bytesize::ByteSize;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<usize, D::Error> {
        let text = String::deserialize(input)?;
        let parsed = text.parse::<ByteSize>().ok();
        parsed
            .and_then(|it| usize::try_from(it.as_u64()).ok())
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a size such as `64KiB`")))
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    pub(crate) fn serialize<S: Serializer>(value: &usize, out: S) -> Result<S::Ok, S::Error> {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let unit = units.into_iter().find(|(_, unit)| *value != 0 && value.is_multiple_of(*unit));
        let (name, unit) = unit.unwrap_or(("B", 1));
        out.collect_str(&format_args!("{}{name}", value / unit))
    }
}

/// One address, or several as a list or separated by commas. A host name stands for its addresses.
pub(super) mod addresses {
    use std::{
        fmt,
        net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    };

    use serde::{
        Deserializer, Serialize as _, Serializer,
        de::{Error, SeqAccess, Visitor},
    };

    struct Addresses;

    impl<'de> Visitor<'de> for Addresses {
        type Value = Vec<SocketAddr>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(
                "an address such as \"127.0.0.1:3000\" or \"localhost:3000\", or a list of them",
            )
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            resolve_all(text.split(',')).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut texts: Vec<String> = Vec::new();
            while let Some(text) = seq.next_element()? {
                texts.push(text);
            }
            resolve_all(texts.iter().map(String::as_str)).map_err(A::Error::custom)
        }
    }

    pub(crate) fn deserialize<'de, D>(input: D) -> Result<Vec<SocketAddr>, D::Error>
    where
        D: Deserializer<'de>,
    {
        input.deserialize_any(Addresses)
    }

    fn resolve_all<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<SocketAddr>, String> {
        let mut addresses = Vec::new();
        for text in texts.map(str::trim).filter(|it| !it.is_empty()) {
            addresses.extend(resolve(text)?);
        }
        Ok(addresses)
    }

    /// Resolves a host name once, here, so that all rules apply to the address that is listened on.
    fn resolve(text: &str) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = text.parse() {
            return Ok(vec![address]);
        }
        let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let Some((host, _)) = parts.filter(|(_, port)| port.parse::<u16>().is_ok()) else {
            return Err(format!(
                "`{text}` is not an address such as `127.0.0.1:3000` or `localhost:3000`"
            ));
        };
        let found = text
            .to_socket_addrs()
            .map_err(|error| format!("the host name `{host}` cannot be resolved: {error}"))?;
        let mut found: Vec<SocketAddr> = found.collect();
        found.sort_unstable();
        found.dedup();
        // `localhost` is often an IPv6 address as well, also where there is no IPv6.
        let is_own = |it: &&SocketAddr| TcpListener::bind((it.ip(), 0)).is_ok();
        let own: Vec<SocketAddr> = found.iter().filter(is_own).copied().collect();
        if own.is_empty() {
            let ips: Vec<String> = found.iter().map(|it| it.ip().to_string()).collect();
            let ips = ips.join(", ");
            return Err(format!("`{host}` is {ips}, which is not an address of this machine"));
        }
        Ok(own)
    }

    pub(crate) fn serialize<S>(value: &[SocketAddr], out: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        match value {
            [one] => one.serialize(out),
            many => many.serialize(out),
        }
    }
}

/// Networks such as `10.0.0.0/8`.
pub(super) mod networks {
    use ipnet::IpNet;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error};

    pub(crate) fn deserialize<'de, D>(input: D) -> Result<Vec<IpNet>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let parse = |text: String| {
            let error = || format!("`{text}` is not a network such as `10.0.0.0/8`");
            text.parse().map_err(|_| D::Error::custom(error()))
        };
        Vec::<String>::deserialize(input)?.into_iter().map(parse).collect()
    }

    pub(crate) fn serialize<S: Serializer>(value: &[IpNet], out: S) -> Result<S::Ok, S::Error> {
        value.serialize(out)
    }
}

/// An `http` or `https` URL, or an empty string for none.
pub(super) mod optional_url {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};
    use url::Url;

    pub(crate) fn deserialize<'de, D>(input: D) -> Result<Option<Url>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let text = String::deserialize(input)?;
        if text.is_empty() {
            return Ok(None);
        }
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Some(url)),
            _ => Err(D::Error::custom(format!("`{text}` is not an http or https address"))),
        }
    }

    #[expect(clippy::ref_option, reason = "serde passes fields by reference")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<Url>, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(value.as_ref().map_or("", Url::as_str))
    }
}

/// A duration that may be absent.
pub(super) mod optional_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    use super::duration;

    pub(crate) fn deserialize<'de, D>(input: D) -> Result<Option<Duration>, D::Error>
    where
        D: Deserializer<'de>,
    {
        duration::deserialize(input).map(Some)
    }

    #[expect(clippy::ref_option, reason = "serde passes fields by reference")]
    pub(crate) fn serialize<S>(value: &Option<Duration>, out: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        match value {
            Some(value) => duration::serialize(value, out),
            None => out.serialize_none(),
        }
    }
}

/// A size that may be absent.
pub(super) mod optional_size {
    use serde::{Deserializer, Serializer};

    use super::size;

    pub(crate) fn deserialize<'de, D>(input: D) -> Result<Option<usize>, D::Error>
    where
        D: Deserializer<'de>,
    {
        size::deserialize(input).map(Some)
    }

    #[expect(clippy::ref_option, reason = "serde passes fields by reference")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<usize>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => size::serialize(value, out),
            None => out.serialize_none(),
        }
    }
}

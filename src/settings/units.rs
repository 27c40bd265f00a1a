//! Notations of values in settings: `30s`, `64KiB`, `127.0.0.1:3000`.

/// Durations such as `30s`, `1h 30m`, `250ms`.
pub(super) mod duration {
    use std::time::Duration;

    use jiff::SignedDuration;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(input)?;
        let parsed = text.parse::<SignedDuration>().ok();
        parsed.and_then(|it| Duration::try_from(it).ok()).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is not a duration such as `30s` or `250ms`"))
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

/// One address, or several as a list or separated by commas.
pub(super) mod addresses {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serialize as _, Serializer, de::Error};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }

    pub(crate) fn deserialize<'de, D>(input: D) -> Result<Vec<SocketAddr>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let texts = match OneOrMany::deserialize(input)? {
            OneOrMany::One(text) => text.split(',').map(|it| it.trim().to_owned()).collect(),
            OneOrMany::Many(texts) => texts,
        };
        let parse = |text: &String| {
            let error = || format!("`{text}` is not an address such as `127.0.0.1:3000`");
            text.parse().map_err(|_| D::Error::custom(error()))
        };
        texts.iter().filter(|it| !it.is_empty()).map(parse).collect()
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

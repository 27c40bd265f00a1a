//! Where Redis is: one server, servers that Sentinel watches, or a Redis Cluster.

use std::{fmt, path::PathBuf, str::FromStr};

use url::Url;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// The address of Redis, as an operator writes it.
///
/// ```
/// use tidegate_core::history::Address;
///
/// for address in [
///     "redis://localhost",
///     "rediss://redis.example:6380/2",
///     "redis+unix:///run/redis.sock",
///     "redis+sentinel://10.0.0.1,10.0.0.2:26379/mymaster",
///     "rediss+cluster://10.0.0.1,10.0.0.2",
/// ] {
///     assert!(address.parse::<Address>().is_ok(), "{address}");
/// }
/// assert!("redis://:secret@localhost".parse::<Address>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) text: String,
    pub(super) kind: Kind,
    /// Whether connections use TLS.
    pub(super) has_tls: bool,
    /// The number of the database.
    pub(super) database: i64,
}

/// How the server that runs the log is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    One(Place),
    /// Sentinels, and the name that they have for the servers.
    Sentinel(Vec<Place>, String),
    /// Some servers of the cluster.
    Cluster(Vec<Place>),
}

/// The place of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Who connects to Redis.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The user of Redis' access control list; empty for the default user.
    pub user: String,
    /// The password; empty if none is needed.
    pub password: String,
    /// The certificates, as PEM, that sign those of the servers; `None` for the system's.
    pub authorities: Option<Vec<u8>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The scheme is none of those that are known.
    #[error(
        "has to begin with redis://, rediss://, redis+unix://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://"
    )]
    Scheme,
    /// It has a user or a password.
    #[error(
        "has a user or a password; they belong in cluster.user, and in cluster.password or cluster.password_file"
    )]
    Credentials,
    /// A host or a port is missing or malformed.
    #[error("has no usable host and port")]
    Host,
    /// The path is not what is expected.
    #[error("has a path that is neither the number of a database nor, for Sentinel, a name")]
    Path,
}

impl Address {
    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let (protocol, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let has_tls = match protocol {
            "redis" => false,
            "rediss" => true,
            _ => return Err(AddressError::Scheme),
        };
        if kind == "unix" && !has_tls {
            if !rest.starts_with('/') {
                return Err(AddressError::Path);
            }
            let kind = Kind::One(Place::Unix(rest.into()));
            return Ok(Self { text: text.to_owned(), kind, has_tls, database: 0 });
        }
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.contains('@') {
            return Err(AddressError::Credentials);
        }
        let places =
            |port| hosts.split(',').map(|host| place(host, port)).collect::<Result<Vec<_>, _>>();
        let (kind, database) = match kind {
            "" if !hosts.contains(',') => (Kind::One(place(hosts, PORT)?), path),
            "sentinel" => {
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return Err(AddressError::Path);
                }
                (Kind::Sentinel(places(SENTINEL_PORT)?, name.to_owned()), database)
            }
            "cluster" if path.is_empty() => (Kind::Cluster(places(PORT)?), path),
            "cluster" => return Err(AddressError::Path),
            "" => return Err(AddressError::Host),
            _ => return Err(AddressError::Scheme),
        };
        let database = match database {
            "" => 0,
            number => number.parse::<u16>().map_err(|_| AddressError::Path)?.into(),
        };
        Ok(Self { text: text.to_owned(), kind, has_tls, database })
    }
}

fn place(host: &str, port: u16) -> Result<Place, AddressError> {
    // The parser of URLs knows names, IPv4 and IPv6 addresses.
    let url = Url::parse(&format!("redis://{host}/")).map_err(|_| AddressError::Host)?;
    let name = url.host_str().filter(|it| !it.is_empty()).ok_or(AddressError::Host)?;
    let is_more = !url.username().is_empty() || url.query().is_some() || url.fragment().is_some();
    if is_more || url.path() != "/" {
        return Err(AddressError::Host);
    }
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Place::Tcp(name, url.port().unwrap_or(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        text.parse()
    }

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp(host.to_owned(), port)
    }

    #[test]
    fn servers_sentinels_and_clusters_are_told_apart() {
        let one = parse("rediss://[::1]:7000/3").expect("valid");
        assert_eq!(one.kind, Kind::One(tcp("::1", 7000)));
        assert_eq!((one.has_tls, one.database), (true, 3));
        let sentinel = parse("redis+sentinel://a,b:7/main/2").expect("valid");
        let places = vec![tcp("a", 26379), tcp("b", 7)];
        assert_eq!(sentinel.kind, Kind::Sentinel(places, "main".to_owned()));
        assert_eq!((sentinel.has_tls, sentinel.database), (false, 2));
        let cluster = parse("redis+cluster://a,10.0.0.1:7").expect("valid");
        assert_eq!(cluster.kind, Kind::Cluster(vec![tcp("a", 6379), tcp("10.0.0.1", 7)]));
        let unix = parse("redis+unix:///run/a.sock").expect("valid");
        assert_eq!(unix.kind, Kind::One(Place::Unix("/run/a.sock".into())));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, error) in [
            ("localhost:6379", AddressError::Scheme),
            ("http://localhost", AddressError::Scheme),
            ("redis+pool://localhost", AddressError::Scheme),
            ("rediss+unix:///run/a.sock", AddressError::Scheme),
            ("redis+unix://run", AddressError::Path),
            ("redis://", AddressError::Host),
            ("redis://a:b", AddressError::Host),
            ("redis://a,b", AddressError::Host),
            ("redis://a?b=c", AddressError::Host),
            ("redis://a/b", AddressError::Path),
            ("redis+sentinel://a", AddressError::Path),
            ("redis+cluster://a/1", AddressError::Path),
            ("redis://me:secret@a", AddressError::Credentials),
        ] {
            assert_eq!(parse(text).err(), Some(error), "{text}");
        }
    }
}

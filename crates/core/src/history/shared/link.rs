//! Connections to the server that runs the log.

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates, Value,
    aio::MultiplexedConnection, cmd, io::tcp::TcpSettings,
};

use super::{
    SharedOptions,
    address::{Address, Credentials, Kind, Place},
    frame::{items, text},
    keys::Keys,
    scripts::Script,
};

/// The time for a connection, and for the handshake on it.
const CONNECTING: Duration = Duration::from_secs(2);

/// The time after which an answer no longer counts. The connection is given up then, because the
/// answer may still come.
const ANSWER: Duration = Duration::from_secs(3);

/// The oldest version of Redis whose scripts can be refused before they start.
const OLDEST: u32 = 7;

/// Why the log cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Something that the operator has to change.
    Unsuitable(String),
    /// Something that may pass.
    Away(String),
    /// The log goes on at once, on a new connection.
    Again(&'static str),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsuitable(why) | Self::Away(why) => f.write_str(why),
            Self::Again(why) => f.write_str(why),
        }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let words = words(&error);
        match error.code() {
            Some("NOSCRIPT") => Self::Again("the scripts were flushed"),
            Some("NOAUTH" | "WRONGPASS") => Self::Unsuitable(format!(
                "Redis refuses cluster.user and cluster.password: {words}"
            )),
            Some("NOPERM") => Self::Unsuitable(format!(
                "the user of Redis (cluster.user) lacks a permission: {words}"
            )),
            _ if error.kind() == redis::ErrorKind::AuthenticationFailed => Self::Unsuitable(
                format!("Redis refuses cluster.user and cluster.password: {words}"),
            ),
            _ => Self::Away(words),
        }
    }
}

/// The words of an error.
pub(super) fn words(error: &RedisError) -> String {
    match error {
        _ if error.is_timeout() => "Redis does not answer".to_owned(),
        _ => error.to_string(),
    }
}

/// The connections of a node, and what the server calls its scripts.
pub(super) struct Link {
    /// For everything but the follower.
    pub(super) main: MultiplexedConnection,
    /// For reads that wait. They would delay other commands.
    pub(super) reading: MultiplexedConnection,
    scripts: Vec<String>,
    /// The place of the server.
    pub(super) server: String,
    /// What an operator may want to change.
    pub(super) doubt: Option<String>,
}

/// What a script has answered: a word, and what follows it.
pub(super) struct Answered {
    pub(super) word: String,
    pub(super) rest: Vec<Value>,
}

impl Answered {
    pub(super) fn of(value: Value) -> Option<Self> {
        let Value::Array(mut items) = value else { return None };
        if items.is_empty() {
            return None;
        }
        let rest = items.split_off(1);
        Some(Self { word: text(&items[0])?, rest })
    }

    /// The text at a place.
    pub(super) fn text(&self, at: usize) -> String {
        self.rest.get(at).and_then(text).unwrap_or_default()
    }

    /// The number at a place.
    pub(super) fn number<N: std::str::FromStr + Default>(&self, at: usize) -> N {
        self.text(at).parse().unwrap_or_default()
    }

    /// What a refusal means for the connection.
    pub(super) fn refusal(&self) -> Trouble {
        match self.word.as_str() {
            "EMPTY" => Trouble::Again("the log is gone"),
            "OTHER" => Trouble::Again("the log was replaced"),
            "MOVED" => Trouble::Again("another server runs the log"),
            "RECOVERING" => Trouble::Again("the log is being recovered"),
            "TERM" => Trouble::Again("a new term has begun"),
            "SESSION" => Trouble::Again("the session of this node has ended"),
            "FORMAT" => Trouble::Unsuitable(format!(
                "the log in Redis has format {}, which is newer than this program",
                self.text(0)
            )),
            word => Trouble::Away(format!("an unexpected answer of a script: {word}")),
        }
    }
}

impl Link {
    /// Connects to the server that runs the log, and checks whether it is suitable.
    pub(super) async fn connect(options: &SharedOptions, keys: &Keys) -> Result<Self, Trouble> {
        let SharedOptions { address, credentials, .. } = options;
        let place = find(address, credentials, keys).await?;
        let mut main = open(address, credentials, &place, Some(ANSWER)).await?;
        let doubt = check(&mut main, &place).await?;
        // The follower has a time limit of its own.
        let reading = open(address, credentials, &place, None).await?;
        let mut scripts = Vec::new();
        for script in Script::ALL {
            let name = cmd("SCRIPT").arg("LOAD").arg(script.text()).query_async(&mut main).await?;
            scripts.push(name);
        }
        Ok(Self { main, reading, scripts, server: place.to_string(), doubt })
    }

    /// A command that runs a script.
    pub(super) fn command(&self, script: Script, keys: &[String], arguments: &[Vec<u8>]) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.scripts[script as usize]).arg(keys.len()).arg(keys).arg(arguments);
        command
    }

    /// Runs a script.
    pub(super) async fn call(
        &self,
        script: Script,
        keys: &[String],
        arguments: &[Vec<u8>],
    ) -> Result<Answered, Trouble> {
        let command = self.command(script, keys, arguments);
        let value: Value = command.query_async(&mut self.main.clone()).await?;
        let nonsense = || Trouble::Away("a script has answered nonsense".to_owned());
        Answered::of(value).ok_or_else(nonsense)
    }
}

/// Finds the place of the server that runs the log.
async fn find(address: &Address, credentials: &Credentials, keys: &Keys) -> Result<Place, Trouble> {
    let mut reasons = Vec::new();
    match &address.kind {
        Kind::One(place) => return Ok(place.clone()),
        Kind::Sentinel(places, name) => {
            for place in places {
                match ask_sentinel(address, credentials, place, name).await {
                    Ok(primary) => return Ok(primary),
                    Err(reason) => reasons.push(format!("Sentinel {place}: {reason}")),
                }
            }
        }
        Kind::Cluster(places) => {
            for place in places {
                match ask_cluster(address, credentials, place, keys).await {
                    Ok(primary) => return Ok(primary),
                    Err(reason) => reasons.push(format!("{place}: {reason}")),
                }
            }
        }
    }
    Err(Trouble::Away(reasons.join("; ")))
}

async fn ask_sentinel(
    address: &Address,
    credentials: &Credentials,
    place: &Place,
    name: &str,
) -> Result<Place, Trouble> {
    // Sentinels have users and passwords of their own, mostly none.
    let strangers =
        Credentials { authorities: credentials.authorities.clone(), ..Credentials::default() };
    let address = Address { database: 0, ..address.clone() };
    let mut sentinel = open(&address, &strangers, place, Some(ANSWER)).await?;
    let question = ["GET-MASTER-ADDR-BY-NAME", name];
    let answer: Value = cmd("SENTINEL").arg(&question).query_async(&mut sentinel).await?;
    match items(&answer) {
        [host, port] => {
            let port = text(port).and_then(|it| it.parse().ok());
            let place = text(host).zip(port).map(|(host, port)| Place::Tcp(host, port));
            place.ok_or_else(|| Trouble::Away("it names no address".to_owned()))
        }
        _ => Err(Trouble::Away(format!("it does not know {name:?}"))),
    }
}

async fn ask_cluster(
    address: &Address,
    credentials: &Credentials,
    place: &Place,
    keys: &Keys,
) -> Result<Place, Trouble> {
    let mut server = open(address, credentials, place, Some(ANSWER)).await?;
    let asked: Result<Value, RedisError> =
        cmd("EXISTS").arg(keys.of("meta")).query_async(&mut server).await;
    let Err(error) = asked else { return Ok(place.clone()) };
    let Some((moved, _)) = error.redirect_node() else { return Err(error.into()) };
    let parts = moved.rsplit_once(':');
    let (host, port) = parts.ok_or_else(|| Trouble::Away(format!("it moved to {moved:?}")))?;
    let port = port.parse().map_err(|_| Trouble::Away(format!("it moved to {moved:?}")))?;
    match (host, place) {
        // The same host, says the protocol.
        ("", Place::Tcp(host, _)) => Ok(Place::Tcp(host.clone(), port)),
        _ => Ok(Place::Tcp(host.to_owned(), port)),
    }
}

/// Opens a connection.
async fn open(
    address: &Address,
    credentials: &Credentials,
    place: &Place,
    answer: Option<Duration>,
) -> Result<MultiplexedConnection, Trouble> {
    let place = match place {
        Place::Unix(path) => ConnectionAddr::Unix(path.clone()),
        Place::Tcp(host, port) if !address.has_tls => ConnectionAddr::Tcp(host.clone(), *port),
        Place::Tcp(host, port) => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure: false,
            tls_params: None,
        },
    };
    let mut redis = RedisConnectionInfo::default().set_db(address.database);
    if !credentials.user.is_empty() {
        redis = redis.set_username(&credentials.user);
    }
    if !credentials.password.is_empty() {
        redis = redis.set_password(&credentials.password);
    }
    let tcp = TcpSettings::default().set_nodelay(true);
    let info = place.into_connection_info()?.set_redis_settings(redis).set_tcp_settings(tcp);
    let client = match &credentials.authorities {
        Some(pem) if address.has_tls => {
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) };
            Client::build_with_tls(info, certificates)?
        }
        _ => Client::open(info)?,
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECTING))
        .set_response_timeout(answer);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    // The handshake has no limit of its own without one for answers.
    match tokio::time::timeout(CONNECTING + ANSWER, connecting).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(Trouble::Away("Redis does not answer".to_owned())),
    }
}

/// Checks whether a server is suitable. Returns what an operator should know.
async fn check(
    connection: &mut MultiplexedConnection,
    place: &Place,
) -> Result<Option<String>, Trouble> {
    let info: String = match cmd("INFO").query_async(connection).await {
        Ok(info) => info,
        Err(error) if error.kind() == redis::ErrorKind::Server(ServerErrorKind::BusyLoading) => {
            return Err(Trouble::Away(format!("Redis at {place} is loading its data")));
        }
        Err(error) => return Err(error.into()),
    };
    judge(&info, place)
}

fn judge(info: &str, place: &Place) -> Result<Option<String>, Trouble> {
    let value = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|it| it.0 == name).map(|it| it.1.trim()).unwrap_or_default()
    };
    let version = value("redis_version");
    let major: u32 = version.split('.').next().and_then(|it| it.parse().ok()).unwrap_or_default();
    if major < OLDEST {
        return Err(Trouble::Unsuitable(format!(
            "Redis at {place} (cluster.redis) has version {version}; {OLDEST}.0 or later is needed"
        )));
    }
    let policy = value("maxmemory_policy");
    if policy != "noeviction" {
        return Err(Trouble::Unsuitable(format!(
            "Redis at {place} (cluster.redis) has maxmemory-policy {policy}, so it may drop parts of the log; set it to noeviction"
        )));
    }
    match value("role") {
        "master" => {}
        role => {
            return Err(Trouble::Away(format!("Redis at {place} is a {role}, not the primary")));
        }
    }
    if value("loading") == "1" {
        return Err(Trouble::Away(format!("Redis at {place} is loading its data")));
    }
    let is_kept = value("aof_enabled") == "1";
    Ok((!is_kept).then(|| {
        format!(
            "Redis at {place} writes no append-only file (appendonly no): when it restarts, only the running nodes can put back what its last snapshot lacks"
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(info: &str) -> Result<Option<String>, Trouble> {
        judge(info, &Place::Tcp("a".to_owned(), 1))
    }

    #[test]
    fn an_unsuitable_server_is_named_with_what_is_to_be_changed() {
        let good = "redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n\
                    aof_enabled:1\r\nloading:0\r\n";
        assert_eq!(judged(good), Ok(None));
        let unsuitable = |from: &str, to: &str| match judged(&good.replace(from, to)) {
            Err(Trouble::Unsuitable(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(unsuitable("7.0.15", "6.2.1").contains("7.0 or later"));
        assert!(unsuitable("noeviction", "allkeys-lru").contains("maxmemory-policy allkeys-lru"));
        let replica = judged(&good.replace("master", "slave"));
        assert!(matches!(replica, Err(Trouble::Away(why)) if why.contains("not the primary")));
        let forgetful = judged(&good.replace("aof_enabled:1", "aof_enabled:0"));
        assert!(matches!(forgetful, Ok(Some(doubt)) if doubt.contains("appendonly")));
    }
}

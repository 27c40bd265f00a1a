//! `[cluster]`: the log in Redis that several gateways share.

use std::{fs, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tidegate_core::history::{Address, AddressError, Credentials};

use super::{
    Secret, Settings, StoreKind,
    check::LONGEST_DEADLINE,
    units::{duration, size},
};

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// The address of Redis, for `history.store = "redis"`.
    pub redis: String,
    /// The user of Redis' access control list.
    pub user: String,
    /// The password of Redis.
    pub password: Secret,
    /// A file with the password of Redis.
    pub password_file: PathBuf,
    /// A file with the certificates (PEM) that sign those of Redis.
    pub ca_file: PathBuf,
    /// The hub. Gateways with the same Redis and hub share one log.
    pub hub: String,
    /// The name of this node, for operators.
    pub name: String,
    /// The only log that may be used.
    pub log: String,
    /// Replicas of Redis that must have an update before it is acknowledged.
    pub replicas_acked: u32,
    /// Time after which a publisher is told that its update was not stored.
    #[serde(with = "duration")]
    pub commit_timeout: Duration,
    /// Time that a new term waits for nodes that may have updates to put back.
    #[serde(with = "duration")]
    pub recovery_wait: Duration,
    /// Time without a heartbeat after which a node counts as gone.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// Bytes of the newest updates that a node keeps to put them back.
    #[serde(with = "size")]
    pub ring_bytes: usize,
    /// Time without Redis after which a node is not ready.
    #[serde(with = "duration")]
    pub unready_after: Duration,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            redis: String::new(),
            user: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            hub: "main".to_owned(),
            name: String::new(),
            log: String::new(),
            replicas_acked: 0,
            commit_timeout: Duration::from_secs(5),
            recovery_wait: Duration::from_secs(3),
            lease: Duration::from_secs(6),
            ring_bytes: 16 << 20,
            unready_after: Duration::from_secs(30),
        }
    }
}

impl ClusterSettings {
    /// The shortest lease. A heartbeat comes each second.
    const SHORTEST_LEASE: Duration = Duration::from_secs(3);

    /// The longest name of a hub, in bytes.
    const LONGEST_NAME: usize = 64;

    /// Returns the parsed address of Redis.
    pub(crate) fn address(&self) -> Result<Address, AddressError> {
        self.redis.parse()
    }

    /// Reads the files, and returns who connects to Redis.
    ///
    /// # Errors
    /// If a file cannot be read, or is empty.
    pub(crate) fn credentials(&self) -> Result<Credentials, String> {
        let read = |key: &str, file: &PathBuf| {
            let text = fs::read_to_string(file).map_err(|error| {
                format!("the file {} ({key}) cannot be read: {error}", file.display())
            })?;
            match text.trim_end_matches(['\r', '\n']) {
                "" => Err(format!("the file {} ({key}) is empty", file.display())),
                text => Ok(text.to_owned()),
            }
        };
        let password = match self.password_file.as_os_str().is_empty() {
            true => self.password.reveal().to_owned(),
            false => read("cluster.password_file", &self.password_file)?,
        };
        let authorities = match self.ca_file.as_os_str().is_empty() {
            true => None,
            false => Some(read("cluster.ca_file", &self.ca_file)?.into_bytes()),
        };
        Ok(Credentials { user: self.user.clone(), password, authorities })
    }

    /// The name of this node: that of the machine, unless another was chosen.
    pub(crate) fn node_name(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_owned()
    }

    /// Checks the section. Returns what is wrong.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), String> {
        let is_used = settings.history.store == StoreKind::Redis;
        match (is_used, self.redis.is_empty()) {
            (false, true) => {}
            (false, false) => {
                return Err("cluster.redis is set, and history.store is not \"redis\"".to_owned());
            }
            (true, true) => {
                return Err(
                    "history.store is \"redis\", and cluster.redis names no server; for example, it can be \"redis://localhost\""
                        .to_owned(),
                );
            }
            (true, false) => {
                self.address().map_err(|error| format!("cluster.redis {error}"))?;
            }
        }
        if !self.password.is_empty() && !self.password_file.as_os_str().is_empty() {
            return Err("both cluster.password and cluster.password_file are set".to_owned());
        }
        let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
        if self.hub.is_empty()
            || Self::LONGEST_NAME < self.hub.len()
            || !self.hub.chars().all(is_plain)
        {
            return Err(format!(
                "cluster.hub is {:?}; it has to be 1 to {} letters, digits, or any of -_.",
                self.hub,
                Self::LONGEST_NAME
            ));
        }
        if self.lease < Self::SHORTEST_LEASE {
            return Err(
                "cluster.lease is shorter than 3s, and a heartbeat comes each second".to_owned()
            );
        }
        if self.commit_timeout.is_zero() {
            return Err("cluster.commit_timeout is 0s, so nothing could be stored".to_owned());
        }
        for (key, value) in [
            ("commit_timeout", self.commit_timeout),
            ("recovery_wait", self.recovery_wait),
            ("lease", self.lease),
            ("unready_after", self.unready_after),
        ] {
            if LONGEST_DEADLINE < value {
                return Err(format!("cluster.{key} is longer than 24 days"));
            }
        }
        if is_used && settings.mercure.subscriptions {
            return Err(
                "mercure.subscriptions is on, and lists of subscriptions do not span several nodes yet; with history.store = \"redis\" it has to be off"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

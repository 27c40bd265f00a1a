//! Webhooks: when a job ends or asks a question, a signed request goes to the operator's address
//! for the job's type.
//!
//! Pending notifications are kept in memory only. A service that must not miss one also queries
//! the job.

use std::{collections::BTreeMap, fmt::Write as _, io, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use serde::Serialize;
use sha2::Sha256;
use tidegate_client::http::{causes, client, is_passing};
use tidegate_core::{
    clock::Clock,
    jobs::{Job, JobState, Redacted, Status},
};
use tokio::{sync::Semaphore, time::sleep};
use tracing::{debug, warn};

use crate::settings::{JobSettings, Secret};

/// The limit of pending notifications. Further news is not reported.
const OUTSTANDING: usize = 1000;

/// The limit of concurrent requests, however much happens at once.
const AT_ONCE: usize = 16;

/// Attempts per notification, and the waits between them: at most 361 s in all.
const TRIES: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// The time limit of one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The webhooks of all job types.
#[derive(Debug)]
pub(crate) struct Webhooks {
    ended: BTreeMap<String, Arc<Target>>,
    asked: BTreeMap<String, Arc<Target>>,
    outstanding: Arc<Semaphore>,
    clock: Clock,
}

/// The receiver of notifications for one job type.
#[derive(Debug)]
struct Target {
    client: Client,
    url: Url,
    /// The current one first.
    secrets: Vec<Secret>,
    turns: Arc<Semaphore>,
}

/// The body of a notification.
#[derive(Serialize)]
struct Notice<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    state: JobState,
    status: Status<'a>,
}

impl Webhooks {
    /// Creates the webhooks that the settings name.
    pub(crate) fn new(settings: &JobSettings, clock: Clock) -> io::Result<Self> {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let (mut ended, mut asked) = (BTreeMap::new(), BTreeMap::new());
        for (kind, own) in &settings.types {
            let Some(secret) = &own.webhook_secret else { continue };
            let secrets = [Some(secret), own.webhook_previous_secret.as_ref()];
            let secrets: Vec<Secret> = secrets.into_iter().flatten().cloned().collect();
            for (key, url, targets) in [
                ("webhook", &own.webhook, &mut ended),
                ("webhook_asked", &own.webhook_asked, &mut asked),
            ] {
                let Some(url) = url.clone() else { continue };
                let client = client(&url).timeout(PATIENCE).build().map_err(|error| {
                    io::Error::other(format!("jobs.types.{kind}.{key}: {}", causes(&error)))
                })?;
                let (secrets, turns) = (secrets.clone(), turns.clone());
                targets.insert(kind.clone(), Arc::new(Target { client, url, secrets, turns }));
            }
        }
        Ok(Self { ended, asked, outstanding: Arc::new(Semaphore::new(OUTSTANDING)), clock })
    }

    /// Queues a notification of a job's end, if its type has a webhook for that. Called on the
    /// tracker's runtime.
    pub(crate) fn ended(&self, job: &Job, now: Timestamp) {
        self.notify(self.ended.get(&job.kind), job, now);
    }

    /// Queues a notification of a job's question, if its type has a webhook for that.
    pub(crate) fn asked(&self, job: &Job, now: Timestamp) {
        self.notify(self.asked.get(&job.kind), job, now);
    }

    fn notify(&self, target: Option<&Arc<Target>>, job: &Job, now: Timestamp) {
        let Some(target) = target.cloned() else { return };
        let Ok(place) = self.outstanding.clone().try_acquire_owned() else {
            warn!(job = %Redacted(&job.id), kind = job.kind, "too much news of jobs is yet to be told");
            return;
        };
        let status = Status::of(job, now);
        let notice = Notice { kind: &job.kind, id: &job.id, state: job.state, status };
        let Ok(body) = serde_json::to_string(&notice) else { return };
        // The version distinguishes two questions, and two ends of a job that was retried in
        // between.
        let key = format!("{}-{}", job.id, job.version);
        let clock = self.clock.clone();
        tokio::spawn(async move {
            target.deliver(&key, body, &clock).await;
            drop(place);
        });
    }
}

impl Target {
    async fn deliver(&self, key: &str, body: String, clock: &Clock) {
        let mut wait = FIRST_WAIT;
        for attempt in 1..=TRIES {
            // The semaphore is never closed.
            let turn = self.turns.acquire().await.ok();
            let outcome = self.send(key, body.clone(), clock.now().as_second()).await;
            drop(turn);
            let reason = match outcome {
                Ok(status) if status.is_success() => {
                    debug!(key = %Redacted(key), attempt, "news of a job was told");
                    return;
                }
                Ok(status) if !is_passing(status) => {
                    warn!(key = %Redacted(key), %status, "news of a job is not taken");
                    return;
                }
                Ok(status) => status.to_string(),
                // The URL may be as confidential as the key, so it is not logged.
                Err(error) => causes(&error.without_url()),
            };
            warn!(key = %Redacted(key), attempt, reason, "news of a job could not be told");
            if attempt < TRIES {
                sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                wait = (wait * 3).min(LONGEST_WAIT);
            }
        }
    }

    /// Sends one request. Each attempt is signed anew, so that the receiver can refuse old ones.
    async fn send(&self, key: &str, body: String, time: i64) -> reqwest::Result<StatusCode> {
        let of_body = format!("{time}.{body}");
        let of_all = format!("{time}.{key}.{body}");
        let newest = self.secrets.iter().take(1);
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let response = request
            .header("tidegate-timestamp", time)
            .header("tidegate-signature", signatures("v1", newest, &of_body))
            .header("tidegate-signatures", signatures("v2", &self.secrets, &of_all))
            .header("idempotency-key", key)
            .body(body)
            .send()
            .await?;
        Ok(response.status())
    }
}

/// Returns the signatures of `signed` with each secret, separated by commas.
fn signatures<'s>(
    version: &str,
    secrets: impl IntoIterator<Item = &'s Secret>,
    signed: &str,
) -> String {
    let each = secrets.into_iter().map(|it| format!("{version}={}", signature(it, signed)));
    each.collect::<Vec<_>>().join(",")
}

/// Returns the HMAC-SHA256 in hexadecimal.
fn signature(secret: &Secret, signed: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_that_others_compute() {
        // printf '1700000000.{"id":"x"}' | openssl dgst -sha256 -hmac 'a secret of the operator'
        let secret = Secret::from("a secret of the operator");
        let expected = "4e2c24f82908f37a9210c9f4f803de515db382fe24708047c53f5d7adf309187";
        assert_eq!(signature(&secret, r#"1700000000.{"id":"x"}"#), expected);
    }
}

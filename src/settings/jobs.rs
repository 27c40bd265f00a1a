//! `[jobs]`: how long jobs are leased, retried, logged and kept.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use tidegate_core::jobs::{AskLimits, JobOptions, Rules};
use url::Url;

use super::{
    check::LONGEST_DEADLINE,
    secret::Secret,
    units::{duration, optional_duration, optional_url, size},
};

/// `[jobs]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSettings {
    /// How long a worker may be silent before its job is given to another.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// The most attempts of a job.
    pub max_attempts: u32,
    /// The wait before the second attempt. Each further wait is twice as long.
    #[serde(with = "duration")]
    pub backoff: Duration,
    /// The longest wait between two attempts.
    #[serde(with = "duration")]
    pub max_backoff: Duration,
    /// The shortest time between two progress events of a job.
    #[serde(with = "duration")]
    pub progress_interval: Duration,
    /// The longest time that a request may wait for a job or for its end.
    #[serde(with = "duration")]
    pub max_wait: Duration,
    /// How long log lines are accepted after the end of a job.
    #[serde(with = "duration")]
    pub log_grace: Duration,
    /// How long succeeded jobs are kept.
    #[serde(with = "duration")]
    pub succeeded_retention: Duration,
    /// How long jobs that ended otherwise are kept.
    #[serde(with = "duration")]
    pub failed_retention: Duration,
    /// Jobs in total.
    pub max_jobs: usize,
    /// Memory in bytes of all jobs: payloads, results and logs.
    #[serde(with = "size")]
    pub max_bytes: usize,
    /// Ids of forgotten jobs that are remembered.
    pub tombstones: usize,
    /// Bytes of a payload.
    #[serde(with = "size")]
    pub payload_bytes: usize,
    /// Bytes of a result, or of the problem document of a failure.
    #[serde(with = "size")]
    pub result_bytes: usize,
    /// Bytes of a log that are kept, the newest.
    #[serde(with = "size")]
    pub log_bytes: usize,
    /// The longest time, and the default, that a question waits for an answer.
    #[serde(with = "duration")]
    pub ask_time: Duration,
    /// Fields of a question.
    pub ask_fields: usize,
    /// Choices of a field.
    pub ask_choices: usize,
    /// Bytes of a question.
    #[serde(with = "size")]
    pub ask_bytes: usize,
    /// Bytes of an answer.
    #[serde(with = "size")]
    pub answer_bytes: usize,
    /// Questions of a job.
    pub asks_per_job: usize,
    /// Jobs that wait for an answer at a time.
    pub max_waiting: usize,
    /// Who may answer the questions of a job.
    pub answers: Answers,
    /// Whether a grant on `*`, or on a pattern that does not begin with `/jobs`, also applies to
    /// jobs.
    pub wildcard_grants: WildcardGrants,
    /// Other origins that a result may link to.
    pub result_origins: Vec<String>,
    /// Types with rules of their own. If there are any, other types are refused.
    pub types: BTreeMap<String, JobTypeSettings>,
}

/// Who may answer the questions of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answers {
    /// Those who may see the job.
    #[default]
    Seen,
    /// Those with a grant to publish to `/jobs/{id}/answers`.
    Granted,
}

/// How a grant that does not name jobs applies to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WildcardGrants {
    /// It applies, and the log warns.
    #[default]
    Warn,
    /// It does not apply.
    Refuse,
}

/// `[jobs.types.NAME]`: an omitted key has the value of `[jobs]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobTypeSettings {
    /// See [`JobSettings::lease`].
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub lease: Option<Duration>,
    /// See [`JobSettings::max_attempts`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The address that is notified of the end of each job.
    #[serde(with = "optional_url", skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Url>,
    /// The address that is notified of each question of a job.
    #[serde(with = "optional_url", skip_serializing_if = "Option::is_none")]
    pub webhook_asked: Option<Url>,
    /// See [`JobSettings::answers`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
    /// The key that signs these notifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<Secret>,
    /// The previous key, for receivers that do not know the new one yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_previous_secret: Option<Secret>,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            max_attempts: 3,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            progress_interval: Duration::from_millis(250),
            max_wait: Duration::from_secs(60),
            log_grace: Duration::from_secs(30),
            succeeded_retention: Duration::from_secs(24 * 3600),
            failed_retention: Duration::from_secs(7 * 24 * 3600),
            max_jobs: 10_000,
            max_bytes: 512 << 20,
            tombstones: 10_000,
            payload_bytes: 64 << 10,
            result_bytes: 256 << 10,
            log_bytes: 256 << 10,
            ask_time: Duration::from_secs(7 * 24 * 3600),
            ask_fields: 20,
            ask_choices: 100,
            ask_bytes: 8 << 10,
            answer_bytes: 4 << 10,
            asks_per_job: 20,
            max_waiting: 10_000,
            answers: Answers::default(),
            wildcard_grants: WildcardGrants::default(),
            result_origins: Vec::new(),
            types: BTreeMap::new(),
        }
    }
}

impl JobSettings {
    /// Whether jobs of this type may be created and claimed.
    #[must_use]
    pub(crate) fn knows(&self, kind: &str) -> bool {
        self.types.is_empty() || self.types.contains_key(kind)
    }

    /// Who may answer the questions of jobs of this type.
    #[must_use]
    pub(crate) fn answers_of(&self, kind: &str) -> Answers {
        self.types.get(kind).and_then(|own| own.answers).unwrap_or(self.answers)
    }

    /// Checks rules that concern several keys. Returns what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        for (kind, own) in &self.types {
            let of_type = |what: &str| Err(format!("jobs.types.{kind}.{what}"));
            if own.lease.is_some_and(|it| it.is_zero()) {
                return of_type("lease is 0s; it has to be longer");
            }
            if own.lease.is_some_and(|it| LONGEST_DEADLINE < it) {
                return of_type("lease is longer than 24 days");
            }
            if own.max_attempts == Some(0) {
                return of_type("max_attempts is 0; it has to be at least 1");
            }
            let secret = own.webhook_secret.as_ref().map_or("", Secret::reveal);
            let hooks = [("webhook", &own.webhook), ("webhook_asked", &own.webhook_asked)];
            let with_password = |url: &Url| !url.username().is_empty() || url.password().is_some();
            if let Some((key, _)) =
                hooks.iter().find(|(_, url)| url.as_ref().is_some_and(with_password))
            {
                return of_type(&format!(
                    "{key} has a user name or a password, which others can read"
                ));
            }
            match hooks.iter().find_map(|(_, url)| url.as_ref()) {
                Some(_) if secret.is_empty() => {
                    return of_type("webhook_secret is missing; notices are signed with it");
                }
                _ if own.webhook_previous_secret.as_ref().is_some_and(Secret::is_empty) => {
                    return of_type("webhook_previous_secret is empty; leave it out");
                }
                None if !secret.is_empty() => {
                    return of_type("webhook is missing, but there is a webhook_secret");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The options of the tracker.
    #[must_use]
    pub(crate) fn options(&self) -> JobOptions {
        let rules = Rules {
            lease: self.lease,
            max_attempts: self.max_attempts,
            backoff: self.backoff,
            max_backoff: self.max_backoff,
            log_grace: self.log_grace,
            max_asks: self.asks_per_job,
            ask_time: self.ask_time,
        };
        let of_type = |own: &JobTypeSettings| Rules {
            lease: own.lease.unwrap_or(rules.lease),
            max_attempts: own.max_attempts.unwrap_or(rules.max_attempts),
            ..rules
        };
        JobOptions {
            rules_by_type: self.types.iter().map(|(it, own)| (it.clone(), of_type(own))).collect(),
            rules,
            progress_interval: self.progress_interval,
            succeeded_retention: self.succeeded_retention,
            failed_retention: self.failed_retention,
            max_jobs: self.max_jobs,
            max_bytes: self.max_bytes,
            tombstones: self.tombstones,
            log_bytes: self.log_bytes,
            asking: AskLimits {
                fields: self.ask_fields,
                choices: self.ask_choices,
                question_bytes: self.ask_bytes,
                answer_bytes: self.answer_bytes,
                waiting: self.max_waiting,
            },
        }
    }
}

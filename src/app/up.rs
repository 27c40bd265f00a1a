//! Calls of clients: to a handler of the application, or to a job.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tidegate_core::{
    clients::Cell,
    jobs::{Job, JobError, JobState, NewJob, Outcome},
};

use super::{Answering, Client, Running, ask::unless_panicked};
use crate::{gateway::Gateway, http::problem::Problem};

/// How long an ordered call may take, because what comes after it waits.
const ORDERED: Duration = Duration::from_secs(5);

/// How long a call may take by default, and at most.
const WAIT: Duration = Duration::from_secs(20);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl Gateway {
    /// Calls what answers to `name`, and returns the result: `data`, or the address of a job that
    /// goes on.
    ///
    /// # Errors
    /// The problem with which it refuses, or that it does not answer in time.
    pub(crate) async fn call(
        &self,
        cell: &Arc<Cell>,
        name: &str,
        data: Value,
        wait: Option<u64>,
        is_ordered: bool,
    ) -> Result<Value, Problem> {
        let longest = if is_ordered { ORDERED } else { LONGEST_WAIT };
        let wait = wait.map_or(WAIT, Duration::from_secs).min(longest);
        let answering = self.running().and_then(|Running { app, .. }| app.calls.get(name));
        let Some(answering) = answering else {
            let name: String = name.chars().take(100).collect();
            return Err(Problem::not_found(format!("no such call: `{name}`")));
        };
        let client = Client::new(self, cell);
        match answering {
            Answering::Handler(handler) => {
                let called = unless_panicked(handler(client, data));
                let outcome = tokio::time::timeout(wait, called).await;
                let late = || {
                    let seconds = wait.as_secs();
                    Problem::no_reply(format!("`{name}` has not answered within {seconds} s"))
                };
                let data = outcome.map_err(|_| late())??;
                Ok(json!({ "data": data }))
            }
            Answering::Job(work) => {
                let work = work.clone();
                let new = NewJob {
                    kind: name.to_owned(),
                    title: name.to_owned(),
                    payload: None,
                    key: None,
                };
                let run = move |job| (*work)(client, data, job);
                let job = self.tracker().spawn(new, run).await?;
                self.wait_for(&job, wait).await
            }
        }
    }

    /// Waits for a job, and returns its result, or its address if it goes on.
    async fn wait_for(&self, job: &Job, wait: Duration) -> Result<Value, Problem> {
        let ended =
            self.tracker().wait(&job.id, tokio::time::sleep(wait), |it| it.state.is_final());
        let ended = match ended.await {
            Ok(job) => job,
            // It has ended and was forgotten.
            Err(JobError::Gone) => return Err(Problem::gone("the job is over and forgotten")),
            Err(error) => return Err(error.into()),
        };
        let address = format!("/jobs/{}", job.id);
        match ended.state {
            JobState::Succeeded => Ok(match &ended.outcome {
                Some(Outcome::Inline(result)) => json!({ "data": &**result, "job": address }),
                Some(Outcome::Link(link)) => json!({ "data": { "link": link }, "job": address }),
                Some(Outcome::Problem(_)) | None => json!({ "data": null, "job": address }),
            }),
            state if state.is_final() => Err(match &ended.outcome {
                Some(Outcome::Problem(problem)) => {
                    Problem::replied(&serde_json::to_value(&**problem).unwrap_or_default())
                }
                _ => Problem::internal("the job has ended without a result"),
            }
            .with("job", address)),
            _ => Ok(json!({ "job": address })),
        }
    }
}

//! A client at work: its actions in order, and those beside the order.

use serde_json::{Value, json};
use tidegate_core::{calls::Reply, clients::Client};

use super::{
    actor::{Actor, Asked, refused},
    answer::{self, Room},
    request::{Action, Call, Outcome},
};
use crate::http::problem::Problem;

impl Actor {
    /// Does the actions of an ordered request, or those that are left of a repeated one. Returns
    /// the results of all.
    ///
    /// # Errors
    /// If the number is not the next one, or if the history cannot be written.
    pub(super) async fn in_order(
        &self,
        seq: u64,
        actions: &[Asked],
    ) -> Result<Vec<Value>, Problem> {
        let _lane = self.cell.lane().await;
        let before = self.cell.client();
        if !self.gateway.clients().has(&self.cell) {
            return Err(out_of_order(&Client::default()));
        }
        if before.seq != seq {
            if before.seq.checked_add(1) != Some(seq) {
                return Err(out_of_order(&before));
            }
            let client = &mut self.cell.held().client;
            (client.seq, client.is_complete) = (seq, false);
            client.done.clear();
        }
        loop {
            let n_done = self.cell.held().client.done.len();
            let Some(rest) = actions.get(n_done..).filter(|it| !it.is_empty()) else { break };
            let n_together = rest.iter().take_while(|it| is_batched(it)).count();
            if 0 < n_together {
                self.batch(&rest[..n_together], Some(n_together == rest.len())).await?;
                continue;
            }
            match &rest[0] {
                Ok(action) => self.noted(action).await?,
                Err(problem) => self.cell.held().client.done.push(refused(problem)),
            }
        }
        let done = {
            let client = &mut self.cell.held().client;
            client.is_complete = true;
            client.done.clone()
        };
        Ok(self.answers(&done).await)
    }

    /// Does the actions of a request without a number. Each is done once for each request.
    ///
    /// # Errors
    /// If the history cannot be written.
    pub(super) async fn beside(
        &self,
        id: Option<String>,
        actions: &[Asked],
    ) -> Result<Vec<Value>, Problem> {
        if let Some(id) = &id
            && let Some(before) = self.cell.held().answered(id)
        {
            return Ok(before.clone());
        }
        let mut done = Vec::with_capacity(actions.len());
        while let Some(rest) = actions.get(done.len()..).filter(|it| !it.is_empty()) {
            let n_together = rest.iter().take_while(|it| is_batched(it)).count();
            if 0 < n_together {
                let _lane = self.cell.lane().await;
                done.extend(self.batch(&rest[..n_together], None).await?);
                continue;
            }
            done.push(match &rest[0] {
                Ok(action) => self.single(action).await,
                Err(problem) => refused(problem),
            });
        }
        let answers = self.answers(&done).await;
        if let Some(id) = id {
            self.cell.held().note_answer(id, answers.clone());
        }
        Ok(answers)
    }

    /// Does an action of an ordered request that is not stored with others. A call is noted before
    /// it starts: if the process ends meanwhile, the repeated request learns that it was
    /// interrupted, and does not call again.
    ///
    /// # Errors
    /// If the history cannot be written.
    async fn noted(&self, action: &Action) -> Result<(), Problem> {
        if matches!(action, Action::Call(_)) {
            let interrupted = Problem::interrupted("the gateway was stopped during the call");
            self.cell.held().client.done.push(refused(&interrupted));
            if !self.gateway.clients().store(&self.cell).await? {
                self.cell.held().client.done.pop();
                let detail = "another process acts for this client; ask again";
                return Err(Problem::unavailable("contended", detail));
            }
            let result = self.single(action).await;
            if let Some(last) = self.cell.held().client.done.last_mut() {
                *last = result;
            }
        } else {
            let result = self.single(action).await;
            self.cell.held().client.done.push(result);
        }
        Ok(())
    }

    /// Does an action that is not stored.
    async fn single(&self, action: &Action) -> Value {
        let outcome = match action {
            Action::Bye => {
                self.gateway.clients().bye(&self.cell);
                Ok(json!({}))
            }
            Action::Carry(clients) => self.carry(clients).await,
            Action::Drop(clients) => self.drop_carried(clients).await,
            Action::Call(call) => self.call(call.clone()).await,
            Action::Reply { call, outcome } => {
                let reply = match outcome.clone() {
                    Outcome::Data(data) => Reply::Data(data),
                    Outcome::Problem(problem) => Reply::Problem(problem),
                };
                let taken = self.gateway.calls().reply(call, self.cell.id(), reply);
                taken.map(|()| json!({})).map_err(|_| {
                    Problem::gone(format!("no call `{call}` waits for a reply of this client"))
                })
            }
            Action::Callback { id, .. } => {
                Err(Problem::gone(format!("there is no callback `{id}` any more")))
            }
            Action::Cancel { id } => match self.cell.held().cancel_call(id) {
                true => Ok(json!({})),
                false => Err(Problem::gone(format!("no call `{id}` of this client is under way"))),
            },
            Action::Join { .. }
            | Action::Leave { .. }
            | Action::Send { .. }
            | Action::Set { .. } => Err(Problem::internal("the action is stored")),
        };
        outcome.unwrap_or_else(|problem| refused(&problem))
    }

    async fn call(&self, call: Call) -> Result<Value, Problem> {
        let Call { name, data, wait, id, is_ordered } = call;
        let called = self.gateway.call(&self.cell, &name, data, wait, is_ordered);
        let Some(id) = id else { return called.await };
        let cancelled = self.cell.held().begin_call(id.clone());
        let outcome = tokio::select! {
            outcome = called => outcome,
            () = cancelled.notified() => Err(Problem::cancelled("the client has cancelled the call")),
        };
        self.cell.held().end_call(&id);
        outcome
    }

    /// The answers to results, of which those of joins are made anew each time.
    async fn answers(&self, done: &[Value]) -> Vec<Value> {
        let mut answers = Vec::with_capacity(done.len());
        let mut room = Room::default();
        for result in done {
            answers.push(match answer::joined(result) {
                Some((topic, last)) => self.snapshot(&topic, last, &mut room).await,
                None => result.clone(),
            });
        }
        answers
    }
}

/// Whether an action is stored together with those beside it.
fn is_batched(asked: &Asked) -> bool {
    match asked {
        Ok(action) => matches!(
            action,
            Action::Join { .. } | Action::Leave { .. } | Action::Send { .. } | Action::Set { .. }
        ),
        Err(_) => true,
    }
}

fn out_of_order(client: &Client) -> Problem {
    let expected = client.seq.saturating_add(1);
    let detail = format!(
        "`seq` is not {expected}, the number of this client's next request; the gateway may have forgotten the client"
    );
    Problem::state("out_of_order", detail).with("expected", expected)
}

//! Actions that are stored together: joins, leaves, messages and changes of state.

use std::sync::Arc;

use actix_web::http::StatusCode;
use serde_json::{Value, json};
use tidegate_core::{
    clients::{JoinedBy, Membership},
    event::{Draft, Topic, Update},
    matching::prepare,
    state::{Change, Did, MergePatch, StateError, Step, Work},
};

use super::{
    actor::{Actor, Asked, refused},
    answer,
    request::Action,
};
use crate::{
    app::Ask,
    http::problem::Problem,
    realtime::{client, handle},
    settings::Who,
};

/// What becomes of an action of a batch.
#[derive(Debug, Clone)]
enum Slot {
    /// It is a step of the work.
    Step,
    /// Its result is known.
    Known(Value),
}

impl Actor {
    /// Does actions together, as one batch of the history with the client's record. `is_last` is
    /// whether an ordered request ends with them; `None` for a request without a number. Returns
    /// their results, which an ordered request also keeps. The client's lane is held.
    ///
    /// # Errors
    /// If nothing was stored.
    pub(super) async fn batch(
        &self,
        actions: &[Asked],
        is_last: Option<bool>,
    ) -> Result<Vec<Value>, Problem> {
        let clients = self.gateway.clients();
        let before = self.cell.held().client.topics.clone();
        let (mut slots, mut steps) = (Vec::with_capacity(actions.len()), Vec::new());
        for asked in actions {
            let slot = match asked {
                Err(problem) => Err(problem.clone()),
                Ok(Action::Send { topic, kind, data, echo }) => {
                    self.message(topic, kind.clone(), data, *echo).await.map(|update| {
                        steps.push(Step::Send(update));
                        Slot::Step
                    })
                }
                Ok(Action::Set { topic, patch, at }) => {
                    self.change(topic, patch, *at).await.map(|step| {
                        steps.push(step);
                        Slot::Step
                    })
                }
                Ok(Action::Join { topic, data, listens, last }) => {
                    self.join(topic, data.clone(), *listens, *last).await.map(Slot::Known)
                }
                Ok(Action::Leave { topic }) => self.leave(topic).map(Slot::Known),
                Ok(_) => Err(Problem::internal("the action is not stored")),
            };
            slots.push(slot.unwrap_or_else(|problem| Slot::Known(refused(&problem))));
        }
        let has_moved = self.cell.held().client.topics != before;
        if has_moved {
            client::listen(&self.gateway, &self.cell).await;
        }
        let slots: Arc<[Slot]> = slots.into();
        if steps.is_empty() && !has_moved && is_last.is_none() {
            return Ok(results(&slots, &[]));
        }
        let updates = steps.iter().filter_map(|step| match step {
            Step::Send(update) => Some(update),
            Step::Set { .. } => None,
        });
        prepare(updates.flat_map(|it| &it.topics)).await;
        let is_kept = has_moved || is_last.is_some();
        let beside = is_kept.then(|| {
            let (clients, cell, slots) = (clients.clone(), self.cell.clone(), slots.clone());
            let make = move |dids: &[Did]| {
                let mut client = cell.client();
                if let Some(is_last) = is_last {
                    client.done.extend(results(&slots, dids));
                    client.is_complete = is_last;
                }
                vec![clients.write(&cell, &client)].into()
            };
            Box::new(make) as Box<dyn Fn(&[Did]) -> _ + Send>
        });
        match self.gateway.states().store(Work { steps, beside }).await {
            Ok(stored) => {
                let results = results(&slots, &stored.dids);
                if is_kept {
                    if let Some(is_last) = is_last {
                        let client = &mut self.cell.held().client;
                        client.done.extend(results.iter().cloned());
                        client.is_complete = is_last;
                    }
                    clients.wrote(&self.cell, Some(stored.revision));
                }
                client::tell_members(&self.gateway, &self.cell, &before);
                Ok(results)
            }
            Err(error) => {
                if is_kept {
                    self.cell.held().client.topics = before;
                    clients.wrote(&self.cell, None);
                }
                if has_moved {
                    client::listen(&self.gateway, &self.cell).await;
                }
                Err(match error {
                    StateError::Sealed => Problem::unavailable(
                        "contended",
                        "another process acts for this client; ask again",
                    ),
                    error => error.into(),
                })
            }
        }
    }

    async fn message(
        &self,
        name: &str,
        mut kind: Option<String>,
        data: &str,
        echo: bool,
    ) -> Result<Update, Problem> {
        let topic = handle::free_topic(&self.gateway, name)?;
        let rule = self.gateway.rules().of(&topic);
        self.check(rule.send, &topic, "send to")?;
        let mut data = data.to_owned();
        if self.gateway.is_guarded(&topic) {
            let value = serde_json::from_str(&data).map_err(|error| {
                Problem::field("data", format!("`data` cannot be read: {error}"))
            })?;
            let ask = Ask::Send { topic: name.to_owned(), kind, data: value };
            let allowed = self.gateway.ask(&self.cell, &topic, ask).await?;
            let Ask::Send { kind: allowed_kind, data: value, .. } = allowed else {
                return Err(Problem::internal("a guard has answered another question"));
            };
            (kind, data) = (allowed_kind, value.to_string());
        }
        let draft = Draft { topics: vec![name.to_owned()], kind, data, ..Draft::default() };
        let update = self.gateway.validate(draft);
        let mut update = update.map_err(|invalid| Problem::update(None, &invalid))?;
        update.private = rule.private;
        update.from = rule.tell_from.then(|| self.cell.id().id().into());
        if !echo {
            update.except = Box::new([*self.cell.id()]);
        }
        Ok(update)
    }

    async fn change(&self, name: &str, patch: &str, at: Option<u64>) -> Result<Step, Problem> {
        let topic = self.topic_with_state(name)?;
        let rule = self.gateway.rules().of(&topic);
        if topic != Topic::of_client(self.cell.id()) {
            self.check(rule.state, &topic, "set the state of")?;
        }
        let options = self.gateway.states().options();
        let mut parsed = MergePatch::parse(patch.as_bytes(), options)?;
        if self.gateway.is_guarded(&topic) {
            let value = serde_json::from_str(patch).unwrap_or_default();
            let ask = Ask::Set { topic: name.to_owned(), patch: value };
            let Ask::Set { patch, .. } = self.gateway.ask(&self.cell, &topic, ask).await? else {
                return Err(Problem::internal("a guard has answered another question"));
            };
            parsed = MergePatch::parse(patch.to_string().as_bytes(), options)?;
        }
        let patch = parsed;
        let from = Some(*self.cell.id());
        Ok(Step::Set { topic, change: Change::Patch(patch), at, from })
    }

    async fn join(
        &self,
        name: &str,
        mut data: Option<Value>,
        listens: bool,
        last: usize,
    ) -> Result<Value, Problem> {
        let settings = self.gateway.settings();
        let limit = settings.limits.backlog;
        if limit < last {
            let detail = format!("`last` is more than {limit} (limits.backlog)");
            return Err(Problem::field("last", detail).with_limit(limit));
        }
        let limit = self.gateway.states().options().member_bytes;
        if data.as_ref().is_some_and(|it| limit < it.to_string().len()) {
            let detail = format!("`as` has more than {limit} bytes (members.bytes)");
            return Err(Problem::too_large("as", limit, detail));
        }
        let topic = self.topic_to_join(name)?;
        let rule = self.gateway.rules().of(&topic);
        let known = self.cell.held().client.topics.get(&topic).cloned();
        let is_by_server = known.as_ref().is_some_and(|it| it.by == JoinedBy::Server);
        if listens && !is_by_server {
            self.check(rule.join, &topic, "join")?;
        }
        if data.is_some() || !listens {
            self.check(rule.members, &topic, "be a member of")?;
        }
        if self.gateway.is_guarded(&topic) {
            let ask = Ask::Join { topic: name.to_owned(), shown: data };
            let Ask::Join { shown, .. } = self.gateway.ask(&self.cell, &topic, ask).await? else {
                return Err(Problem::internal("a guard has answered another question"));
            };
            data = shown;
        }
        let by = match rule.join {
            _ if is_by_server => JoinedBy::Server,
            Who::Anyone => JoinedBy::Anyone,
            Who::Granted | Who::Server => JoinedBy::Grant,
        };
        let mut held = self.cell.held();
        let topics = &mut held.client.topics;
        if known.is_none() && settings.clients.topics <= topics.len() {
            let limit = settings.clients.topics;
            let detail = format!("the client has joined {limit} topics (clients.topics)");
            return Err(Problem::conflict(detail).with_limit(limit));
        }
        let since = known.filter(|it| it.listens).and_then(|it| it.since);
        let membership = Membership { since, listens, data, by };
        topics.insert(topic.clone(), membership);
        Ok(answer::join_marker(&topic, last))
    }

    fn leave(&self, topic: &str) -> Result<Value, Problem> {
        let topic = self.parse_topic(topic)?;
        self.cell.held().client.topics.remove(&topic);
        Ok(json!({ "topic": topic.as_str() }))
    }

    fn parse_topic(&self, topic: &str) -> Result<Topic, Problem> {
        let limit = self.gateway.settings().limits.topic_bytes;
        let topic = Topic::parse(topic, limit);
        topic.map_err(|invalid| Problem::update(None, &invalid))
    }

    /// A topic with a state that the client may change: a free one, or its own.
    fn topic_with_state(&self, topic: &str) -> Result<Topic, Problem> {
        let parsed = self.parse_topic(topic)?;
        if parsed == Topic::of_client(self.cell.id()) {
            return Ok(parsed);
        }
        handle::free_topic(&self.gateway, topic)
    }

    /// A topic that clients may join: a free one, or a job that exists.
    fn topic_to_join(&self, topic: &str) -> Result<Topic, Problem> {
        let topic = self.parse_topic(topic)?;
        match topic.job_id() {
            Some(id) if self.gateway.tracker().knows(id) => Ok(topic),
            Some(_) => Err(Problem::not_found("there is no such job")),
            None => handle::free_topic(&self.gateway, topic.as_str()),
        }
    }

    fn check(&self, who: Who, topic: &Topic, what: &str) -> Result<(), Problem> {
        let is_to_hear = matches!(what, "join" | "be a member of");
        let is_allowed = match who {
            Who::Anyone => true,
            Who::Granted if is_to_hear => self.visitor.may_subscribe(topic) || topic.is_job(),
            Who::Granted => self.visitor.may_publish(topic),
            Who::Server => false,
        };
        if is_allowed {
            return Ok(());
        }
        let topic: String = topic.as_str().chars().take(200).collect();
        let detail = match who {
            Who::Server => format!("only the server may {what} `{topic}` ([[topics]])"),
            _ => format!("the token does not grant to {what} `{topic}`"),
        };
        Err(self.visitor.not_granted(detail))
    }
}

/// The results of a batch, one for each action.
fn results(slots: &[Slot], dids: &[Did]) -> Vec<Value> {
    let mut dids = dids.iter();
    let result = |slot: &Slot| match slot {
        Slot::Known(result) => result.clone(),
        Slot::Step => match dids.next() {
            Some(Did::Sent(id)) => json!({ "id": id.as_str() }),
            Some(Did::Set { rev }) => json!({ "rev": rev }),
            Some(Did::Conflict(view)) => {
                refused(&Problem::state_changed(StatusCode::CONFLICT, view))
            }
            Some(Did::Refused(refusal)) => refused(&refusal.clone().into()),
            None => json!({}),
        },
    };
    slots.iter().map(result).collect()
}

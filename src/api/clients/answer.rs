//! What a client gets for a join: the state, the members, and the newest messages.

use std::sync::Arc;

use serde_json::{Value, json, value::RawValue};
use tidegate_core::{
    clients::Membership,
    event::{Event, Lane, Position, Topic},
    history::{Budget, HistoryError, Search},
    matching::{Interest, JoinedTopic, Matchers, Rights},
    state::Members,
    transport::json as event_json,
};
use tracing::warn;

use super::actor::Actor;

/// What remains of the size of one answer.
pub(super) struct Room {
    bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: 1 << 20 }
    }
}

/// The result of a join as it is kept. The answer is made anew each time.
pub(super) fn join_marker(topic: &Topic, last: usize) -> Value {
    json!({ "joined": { "topic": topic.as_str(), "last": last } })
}

/// The topic and the number of messages of a kept join.
pub(super) fn joined(result: &Value) -> Option<(Topic, usize)> {
    let joined = result.get("joined")?;
    let topic = Topic::kept(joined.get("topic")?.as_str()?);
    let last = joined.get("last")?.as_u64()?;
    Some((topic, usize::try_from(last).unwrap_or(0)))
}

impl Actor {
    /// What a client that has joined a topic gets: the state and the members as they are, and the
    /// newest messages up to the position after which its stream has them.
    pub(super) async fn snapshot(&self, topic: &Topic, last: usize, room: &mut Room) -> Value {
        let membership = self.cell.held().client.topics.get(topic).cloned();
        let view = self.gateway.states().view(topic);
        let mut snapshot = json!({
            "topic": topic.as_str(),
            "rev": view.rev,
            "state": view.state,
        });
        match &view.members {
            Members::Listed(members) => {
                let mut members = serde_json::to_value(members).unwrap_or_default();
                self.add_itself(&mut members, membership.as_ref());
                snapshot["members"] = members;
            }
            Members::Counted(count) => snapshot["count"] = json!(count),
        }
        let since = membership.and_then(|it| it.since);
        let events = match since {
            Some(since) if 0 < last => self.backlog(topic, last, since, room).await,
            _ => Ok(Vec::new()),
        };
        let events = events.unwrap_or_else(|error| {
            warn!(%error, "the newest messages of a topic cannot be read");
            Vec::new()
        });
        let events: Vec<Box<RawValue>> = events
            .iter()
            .filter_map(|event| std::str::from_utf8(event_json::event(event)).ok())
            .filter_map(|text| RawValue::from_string(text.to_owned()).ok())
            .collect();
        snapshot["events"] = serde_json::to_value(events).unwrap_or_default();
        snapshot
    }

    /// The client sees itself from its join on, also before the others are told.
    fn add_itself(&self, members: &mut Value, membership: Option<&Membership>) {
        let data = membership.and_then(|it| it.data.as_ref());
        if let (Some(members), Some(data)) = (members.as_object_mut(), data) {
            let user = self.cell.held().client.user.clone();
            members.insert(self.cell.id().id(), json!({ "user": user, "data": data }));
        }
    }

    /// The newest `last` messages of a topic up to `end`, oldest first.
    async fn backlog(
        &self,
        topic: &Topic,
        last: usize,
        end: Position,
        room: &mut Room,
    ) -> Result<Vec<Arc<Event>>, HistoryError> {
        const PAGE: Budget = Budget { events: 64, bytes: 64 * 1024 };
        let history = self.gateway.hub().history();
        let joined = JoinedTopic { topic: topic.clone(), since: Position::START };
        let interest = Interest::new(Matchers::default(), None, Rights::PublicOnly)
            .of_clients([*self.cell.id()], [joined])
            .only(Lane::Ordinary);
        let interest = Arc::new(interest);
        let mut search = Search::new(last, end, usize::MAX);
        while !search.is_over {
            let _place = self.gateway.searches().acquire().await.ok();
            search = history.step_back(search, &interest).await?;
            tokio::task::yield_now().await;
        }
        let (mut after, mut events) = (search.after, Vec::new());
        while after < end {
            let page = history.read_after(after, &interest, PAGE).await?;
            let is_before = |event: &Arc<Event>| event.position <= end;
            events.extend(page.events.into_iter().filter(is_before));
            if page.scanned_to <= after {
                break;
            }
            after = page.scanned_to;
        }
        // The newest that there is room for.
        let mut kept: Vec<Arc<Event>> = Vec::new();
        for event in events.into_iter().rev().take(last) {
            let bytes = event.weight();
            if room.bytes < bytes {
                break;
            }
            room.bytes -= bytes;
            kept.push(event);
        }
        kept.reverse();
        Ok(kept)
    }
}

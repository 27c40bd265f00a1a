//! One client, as the server moves it and speaks to it.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_core::{
    clients::{Cell, JoinedBy, Membership},
    event::{Topic, Update},
    state::{Did, StateError, Step, Work},
};
use tracing::warn;

use crate::gateway::{Gateway, member};

/// Why a client has left a topic without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// The server or a backend removed it.
    Server,
    /// Its access token does not grant the topic any more.
    AccessToken,
}

impl Removed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::AccessToken => "token",
        }
    }
}

/// Makes a client join a topic, or changes what it shows of itself there. The client is told.
///
/// # Errors
/// If it is not stored.
pub(crate) async fn join(
    gateway: &Gateway,
    cell: &Arc<Cell>,
    topic: &Topic,
    data: Option<Value>,
) -> Result<(), StateError> {
    let _lane = cell.lane().await;
    let rev = gateway.states().view(topic).rev;
    let told = json!({ "topic": topic.as_str(), "rev": rev });
    let membership = |before: Option<&Membership>| Membership {
        since: before.and_then(|it| it.since),
        listens: true,
        data: data.clone().or_else(|| before.and_then(|it| it.data.clone())),
        by: JoinedBy::Server,
    };
    let joined = membership(cell.held().client.topics.get(topic));
    change(gateway, cell, topic, Some(joined), "tidegate.joined", &told).await
}

/// Makes a client leave a topic. The client is told why.
///
/// # Errors
/// If it is not stored.
pub(crate) async fn leave(
    gateway: &Gateway,
    cell: &Arc<Cell>,
    topic: &Topic,
    why: Removed,
) -> Result<(), StateError> {
    let _lane = cell.lane().await;
    if !cell.held().client.topics.contains_key(topic) {
        return Ok(());
    }
    let told = json!({ "topic": topic.as_str(), "reason": why.as_str() });
    change(gateway, cell, topic, None, "tidegate.left", &told).await
}

/// Changes the membership of a client in a topic. Its lane is held.
async fn change(
    gateway: &Gateway,
    cell: &Arc<Cell>,
    topic: &Topic,
    membership: Option<Membership>,
    kind: &'static str,
    told: &Value,
) -> Result<(), StateError> {
    let before = cell.held().client.topics.clone();
    {
        let topics = &mut cell.held().client.topics;
        match membership {
            Some(membership) => topics.insert(topic.clone(), membership),
            None => topics.remove(topic),
        };
    }
    listen(gateway, cell).await;
    let clients = gateway.clients().clone();
    let beside = {
        let (clients, cell) = (clients.clone(), cell.clone());
        move |_: &[Did]| vec![clients.write(&cell, &cell.client())].into()
    };
    let update = Update::for_client(cell.id(), kind, told);
    let work = Work { steps: vec![Step::Send(update)], beside: Some(Box::new(beside)) };
    match gateway.states().store(work).await {
        Ok(stored) => {
            clients.wrote(cell, Some(stored.revision));
            tell_members(gateway, cell, &before);
            Ok(())
        }
        Err(error) => {
            cell.held().client.topics = before;
            clients.wrote(cell, None);
            listen(gateway, cell).await;
            Err(error)
        }
    }
}

/// Makes the stream of a client follow its topics.
pub(crate) async fn listen(gateway: &Gateway, cell: &Arc<Cell>) {
    match cell.group() {
        Some(group) => {
            group.refresh(gateway.hub()).await;
        }
        // Its next stream begins earlier, and hears each topic from here on.
        None => cell.begin_at(gateway.hub().tail().newest()),
    }
}

/// Tells the members of the topics that a client has joined, left or changed itself in.
pub(crate) fn tell_members(
    gateway: &Gateway,
    cell: &Cell,
    before: &std::collections::BTreeMap<Topic, Membership>,
) {
    let after = cell.client();
    let states = gateway.states();
    for (topic, membership) in &after.topics {
        let was_seen = before.get(topic).and_then(|it| it.data.as_ref());
        if membership.data.as_ref() == was_seen {
            continue;
        }
        let seen = member(after.user.as_deref(), membership);
        if let Err(error) = states.tell(topic, cell.id(), seen.as_ref()) {
            warn!(%error, "a member is not shown");
        }
    }
    for (topic, membership) in before {
        if membership.data.is_some() && !after.topics.contains_key(topic) {
            // A removal is never refused.
            let _ = states.tell(topic, cell.id(), None);
        }
    }
}

//! What is asked before a client may do something.

use std::sync::Arc;

use serde_json::Value;
use tidegate_core::{clients::Cell, event::Topic};
use tracing::warn;

use super::{Client, Running};
use crate::{
    gateway::Gateway,
    http::problem::Problem,
    realtime::{client, handle},
};

/// What a client wants to do. A guard returns it as it may be done.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Ask {
    /// Join a topic.
    Join {
        /// The topic.
        topic: String,
        /// What the client shows of itself, an object; `None` if it is not seen.
        shown: Option<Value>,
    },
    /// Send a message.
    Send {
        /// The topic.
        topic: String,
        /// The type of the message.
        kind: Option<String>,
        /// The data.
        data: Value,
    },
    /// Change the state of a topic.
    Set {
        /// The topic.
        topic: String,
        /// The merge patch.
        patch: Value,
    },
}

impl Gateway {
    /// Whether someone is asked about this topic, so that the data has to be read.
    pub(crate) fn is_guarded(&self, topic: &Topic) -> bool {
        self.running().is_some_and(|it| it.guards_of(topic).next().is_some())
    }

    /// Asks the guards of a topic, one after the other. Each gets what the one before allowed.
    ///
    /// # Errors
    /// The problem with which one of them refuses.
    pub(crate) async fn ask(
        &self,
        cell: &Arc<Cell>,
        topic: &Topic,
        mut ask: Ask,
    ) -> Result<Ask, Problem> {
        let Some(running) = self.running() else { return Ok(ask) };
        for guard in running.guards_of(topic) {
            let is_same = std::mem::discriminant(&ask);
            let guarded = guard(Client::new(self, cell), ask);
            ask = unless_panicked(guarded).await?;
            if std::mem::discriminant(&ask) != is_same {
                return Err(Problem::internal("a guard has answered another question"));
            }
        }
        Ok(ask)
    }

    /// Admits a client before its first action. It is asked for once.
    ///
    /// # Errors
    /// The problem with which the application refuses it.
    pub(crate) async fn admit(&self, cell: &Arc<Cell>) -> Result<(), Problem> {
        if cell.held().client.is_admitted {
            return Ok(());
        }
        let _admission = cell.admission().await;
        if cell.held().client.is_admitted {
            return Ok(());
        }
        if let Some(on_connect) = self.running().and_then(|it| it.app.on_connect.as_ref()) {
            unless_panicked(on_connect(Client::new(self, cell))).await?;
        }
        self.join_user_topic(cell).await?;
        cell.held().client.is_admitted = true;
        Ok(())
    }

    /// Makes a client of a user join the topic of that user, if the settings name one.
    async fn join_user_topic(&self, cell: &Arc<Cell>) -> Result<(), Problem> {
        let template = &self.settings().clients.user_topic;
        let user = cell.held().client.user.clone();
        let Some(user) = user.filter(|_| !template.is_empty()) else { return Ok(()) };
        let topic = handle::free_topic(self, &template.replace("{user}", &user))?;
        Ok(client::join(self, cell, &topic, None).await?)
    }

    /// Tells the application that a client has ended.
    pub(crate) fn dismissed(&self, cell: &Arc<Cell>) {
        let Some(Running { app, .. }) = self.running() else { return };
        let Some(on_disconnect) = &app.on_disconnect else { return };
        let visit = on_disconnect(Client::new(self, cell));
        self.clients().spawn(async move {
            if let Err(problem) = unless_panicked(visit).await {
                warn!(%problem, "what is to be done after a client's end has failed");
            }
        });
    }
}

/// Makes a panic of a handler a problem without its text.
pub(super) async fn unless_panicked<T: Send + 'static>(
    work: super::Working<T>,
) -> Result<T, Problem> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Problem::internal("the application has failed")),
    }
}

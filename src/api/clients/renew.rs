//! A new access token under an open stream.

use tidegate_core::{clients::JoinedBy, event::Topic};
use tracing::warn;

use super::actor::Actor;
use crate::{
    realtime::client::{self, Removed},
    settings::Who,
};

impl Actor {
    /// Makes the rights of this request those of the client's stream, if they are other ones. The
    /// stream ends with the new token, and topics that it does not grant are left.
    pub(super) async fn renew(&self) {
        let is_same = {
            let mut held = self.cell.held();
            std::mem::replace(&mut held.rights_tag, self.visitor.tag) == self.visitor.tag
        };
        if is_same {
            return;
        }
        let stream = self.cell.held().stream.clone();
        if let Some(stream) = stream {
            let hub = self.gateway.hub();
            stream.group.refresh_with(hub, self.visitor.rights.clone()).await;
            let ends = self.visitor.expires.map_or(stream.until, |it| it.min(stream.until));
            stream.group.steer().expire(ends);
        }
        self.leave_what_is_not_granted().await;
    }

    async fn leave_what_is_not_granted(&self) {
        let is_lost = |topic: &Topic| {
            self.gateway.rules().of(topic).join == Who::Granted
                && !self.visitor.may_subscribe(topic)
                && !topic.is_job()
        };
        let lost: Vec<Topic> = {
            let held = self.cell.held();
            let joined = held.client.topics.iter().filter(|(_, it)| it.by == JoinedBy::Grant);
            joined.map(|(topic, _)| topic).filter(|it| is_lost(it)).cloned().collect()
        };
        for topic in lost {
            let why = Removed::AccessToken;
            if let Err(error) = client::leave(&self.gateway, &self.cell, &topic, why).await {
                warn!(%error, "a client could not be removed from a topic");
            }
        }
    }
}

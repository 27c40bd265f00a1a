//! One stream for several clients: the tabs of a browser that share one.

use serde_json::{Value, json};
use tidegate_core::event::ClientKey;

use super::actor::Actor;
use crate::http::problem::Problem;

impl Actor {
    /// Makes the client's stream carry other clients as well.
    ///
    /// # Errors
    /// If the client has no stream, or if one of the others belongs to another user.
    pub(super) async fn carry(&self, others: &[ClientKey]) -> Result<Value, Problem> {
        let stream = self.cell.held().stream.clone();
        let stream = stream
            .ok_or_else(|| Problem::conflict("the client has no stream that could carry others"))?;
        let clients = self.gateway.clients();
        for other in others {
            let met = clients.meet(other, self.visitor.user.as_deref(), self.address);
            let (cell, _) = met.map_err(Problem::not_met)?;
            clients.carry(&cell, &stream);
        }
        stream.group.refresh(self.gateway.hub()).await;
        Ok(json!({}))
    }

    /// Makes the client's stream no longer carry these clients.
    ///
    /// # Errors
    /// If the client has no stream.
    pub(super) async fn drop_carried(&self, others: &[ClientKey]) -> Result<Value, Problem> {
        let stream = self.cell.held().stream.clone();
        let stream = stream
            .ok_or_else(|| Problem::conflict("the client has no stream that could carry others"))?;
        let clients = self.gateway.clients();
        for other in others.iter().filter(|it| *it != self.cell.id()) {
            if let Some(cell) = clients.find(other) {
                clients.drop_carried(&cell, &stream);
            }
        }
        stream.group.refresh(self.gateway.hub()).await;
        Ok(json!({}))
    }
}

//! From checked parameters to a subscription: the start is looked up, and the subscriber is let in if there is room.

use std::time::Duration;

use actix_web::{HttpRequest, http::header::HeaderValue};
use tracing::error;

use super::params::Params;
use crate::{
    delivery::{Feed, Gap, Shard, Terms},
    event::Position,
    gateway::Gateway,
    history::{Missing, TokenKey},
    problem::Problem,
    transport::Transport,
};

/// A subscriber that may come in.
pub(super) struct Admitted {
    /// What is served comes behind this.
    pub(super) after: Position,
    /// What the headers tell of the cursor, if there was one.
    pub(super) cursor_echo: Option<HeaderValue>,
    /// What it has to be told first.
    pub(super) gap: Option<Gap>,
    /// What was dropped so far, of which nothing else has to be said.
    n_dropped: u64,
}

/// Looks up where the subscriber begins, and whether there is room for it.
pub(super) async fn admit(gateway: &Gateway, params: &Params) -> Result<Admitted, Problem> {
    let limits = &gateway.settings().limits;
    let open: u64 = gateway.hub().totals().open.iter().sum();
    if limits.subscribers as u64 <= open {
        let detail = format!("there are {} subscribers, which is the limit", limits.subscribers);
        return Err(Problem::unavailable("subscribers", detail).with_limit(limits.subscribers));
    }
    let history = gateway.hub().history();
    let start = params.start(history.token_key(), limits.id_bytes);
    let located = history.locate(start, &params.interest).await.map_err(|error| {
        error!(%error, "a cursor cannot be looked up");
        Problem::unavailable("history", error.to_string())
    })?;
    let cursor = params.cursor.as_ref().map(|it| it.text.as_str());
    let gap = located.missing.map(|missing| Gap {
        cursor: cursor.unwrap_or_default().chars().take(limits.id_bytes).collect(),
        missing,
        after: located.after,
    });
    Ok(Admitted {
        after: located.after,
        cursor_echo: cursor.map(|cursor| echo(cursor, located.missing)),
        gap,
        n_dropped: located.n_dropped,
    })
}

/// The id behind which the response begins (draft-08, "Reconciliation"): what was asked for, if it was found.
fn echo(cursor: &str, missing: Option<Missing>) -> HeaderValue {
    let earliest = HeaderValue::from_static("earliest");
    match missing {
        None if !cursor.is_empty() => {
            HeaderValue::from_bytes(cursor.as_bytes()).unwrap_or(earliest)
        }
        _ => earliest,
    }
}

impl Admitted {
    /// From where the client can go on before it has been told anything: a gap has to be told again.
    pub(super) fn resume_point(&self, key: &TokenKey) -> String {
        match &self.gap {
            Some(gap) if !gap.cursor.is_empty() => gap.cursor.clone(),
            _ => key.seal(self.after),
        }
    }

    /// Begins the subscription, on the shard of the thread that serves `request`.
    pub(super) fn subscribe(self, request: &HttpRequest, params: &Params, terms: Terms) -> Feed {
        let shard = request.app_data::<Shard>().expect("the gateway's routes carry a shard");
        let feed = shard.subscribe(params.interest.clone(), self.after, self.gap, terms);
        feed.knowing(self.n_dropped)
    }
}

/// The terms of a stream: each lasts a little less than the setting, so that not all end at once.
pub(crate) fn stream_terms(gateway: &Gateway, transport: Transport) -> Terms {
    const SHORTEST: f64 = 0.8;
    let delivery = &gateway.settings().delivery;
    let share = SHORTEST + (1.0 - SHORTEST) * fastrand::f64();
    let lifetime: Duration = delivery.lifetime.mul_f64(share);
    Terms { transport, heartbeat: Some(delivery.heartbeat), lifetime }
}

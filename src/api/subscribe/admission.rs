//! From checked parameters to a subscription: looks up the start, and admits the subscriber if
//! there is room.

use std::time::{Duration, Instant};

use actix_web::{
    HttpRequest,
    http::{Method, header::HeaderValue},
};
use tidegate_core::{
    delivery::{Seat, Subscription, Terms},
    event::{Invalid, Position},
    history::{CursorKey, HistoryError, Located, Missing, Search, Start},
    matching::SubscribedPatterns,
    subscriptions::{Newcomer, Signs},
    transport::{Gap, Transport},
};
use tracing::error;

use super::params::Params;
use crate::{
    gateway::Gateway,
    http::{client_address, problem::Problem},
    settings::UnknownIds,
};

/// A subscriber that has been admitted.
pub(super) struct Admitted {
    /// The position after which it is served.
    pub(super) after: Position,
    /// The response header for the cursor, if the client sent one.
    pub(super) cursor_echo: Option<HeaderValue>,
    /// A gap to report first.
    pub(super) gap: Option<Gap>,
    /// What was dropped so far; it needs no further notice.
    n_dropped: u64,
    seat: Seat,
}

/// Takes a seat for the subscriber, before any other work for it. `is_stranger` means that it lacks
/// an access token where one is required.
pub(crate) fn seat(
    request: &HttpRequest,
    gateway: &Gateway,
    is_stranger: bool,
) -> Result<Seat, Problem> {
    let address = client_address(request, gateway.settings());
    let seat = gateway.seats().take(address).map_err(Problem::full)?;
    if !is_stranger {
        return Ok(seat);
    }
    let place = gateway.strangers().take(address).map_err(Problem::strangers_full)?;
    Ok(seat.guarding(place))
}

/// Takes the resources that a subscriber's matchers need: first from the budgets of its address,
/// then from the total.
fn room_for_matchers(
    request: &HttpRequest,
    gateway: &Gateway,
    params: &Params,
    seat: Seat,
) -> Result<Seat, Problem> {
    /// Bytes of matchers included in every seat.
    const INCLUDED: usize = 1024;
    let matchers = params.interest.matchers();
    let bytes = matchers.weight().saturating_sub(INCLUDED);
    if bytes == 0 && matchers.patterns().is_empty() {
        return Ok(seat);
    }
    let address = client_address(request, gateway.settings());
    let (mut costs, mut weight) =
        (gateway.pattern_costs().share(address), gateway.matcher_bytes().share(address));
    weight.grow(bytes).map_err(Problem::matchers_full)?;
    costs.grow(matchers.cost()).map_err(Problem::patterns_full)?;
    let all = gateway.settings().limits.matchers_total_cost;
    let patterns = SubscribedPatterns::take(&params.interest, all).map_err(|_| {
        Problem::parameter(&Invalid::NoRoom { field: params.pattern_field, limit: all })
    })?;
    Ok(seat.guarding((costs, weight, patterns)))
}

/// Looks up where the subscriber with this `seat` begins.
pub(super) async fn admit(
    request: &HttpRequest,
    gateway: &Gateway,
    params: &Params,
    seat: Seat,
) -> Result<Admitted, Problem> {
    let limits = &gateway.settings().limits;
    let seat = room_for_matchers(request, gateway, params, seat)?;
    let history = gateway.hub().history();
    // A response to HEAD has no events, so a search would be wasted.
    let n_newest = params.n_newest().filter(|_| request.method() != Method::HEAD);
    let located = match n_newest {
        Some(count) => search(gateway, params, count).await,
        None => {
            history.locate(params.start(history.cursor_key(), limits.id_bytes), &params.interest)
        }
        .await
        .map_err(|error| unreadable(&error)),
    }?;
    let cursor = params.cursor.as_ref().map(|it| it.text.as_str());
    let cursor_echo = cursor.map(|cursor| echo(cursor, located.missing));
    let Located { mut after, mut missing, n_dropped } = located;
    if missing == Some(Missing::Unknown)
        && gateway.settings().mercure.unknown_ids == UnknownIds::None
    {
        (after, missing) = (history.last(), None);
    }
    let gap = missing.map(|missing| Gap {
        cursor: cursor.unwrap_or_default().chars().take(limits.id_bytes).collect(),
        missing,
        after,
    });
    Ok(Admitted { after, cursor_echo, gap, n_dropped, seat })
}

/// Searches for the newest events, up to a limit. Ends early when the request ends or the gateway
/// stops.
async fn search(gateway: &Gateway, params: &Params, count: usize) -> Result<Located, Problem> {
    let (hub, interest) = (gateway.hub(), &params.interest);
    let history = hub.history();
    let located = history.locate(Start::Now, interest).await.map_err(|error| unreadable(&error))?;
    // With exact topics the index yields only their events, so no limit is needed. A limit would
    // also reveal how many of them the subscriber may not see.
    let is_indexed = interest.exact_topics().is_some();
    let bound = if is_indexed { usize::MAX } else { gateway.settings().limits.search_events };
    let mut search = Search::new(count, located.after, bound);
    while !search.is_over {
        if hub.is_draining() {
            return Err(Problem::unavailable("stopping", "the gateway is stopping"));
        }
        if search.is_at_bound() {
            return Ok(Located {
                after: search.after,
                missing: Some(Missing::Searched(bound)),
                ..located
            });
        }
        // Held for one step, so that many searches alternate. The semaphore is never closed.
        let _place = gateway.searches().acquire().await.ok();
        search = history.step_back(search, interest).await.map_err(|error| unreadable(&error))?;
        // In memory a step completes at once; other tasks of this thread have to run too.
        tokio::task::yield_now().await;
    }
    Ok(Located { after: search.after, ..located })
}

fn unreadable(error: &HistoryError) -> Problem {
    error!(%error, "a cursor cannot be looked up");
    Problem::unavailable("history", error.to_string())
}

/// The id after which the response begins (draft-08, "Reconciliation"): the requested cursor if it
/// was found, else `earliest`.
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
    /// Adds it to the list of subscriptions, if there is one, for as long as it has its seat.
    /// `session` is the number of its poll session.
    pub(super) fn join(
        mut self,
        request: &HttpRequest,
        gateway: &Gateway,
        params: &Params,
        session: Option<u64>,
    ) -> Result<Self, Problem> {
        let Some(registry) = gateway.subscriptions() else { return Ok(self) };
        let signs = Signs {
            subject: params.profile.subject.as_deref(),
            key: params.client.as_deref(),
            session: session.map(|number| (number, gateway.settings().poll.session_lease)),
        };
        let payload_for = |matcher: &str| params.profile.payload_for(matcher);
        if let Some(newcomer) = Newcomer::new(params.interest.matchers(), signs, payload_for) {
            let mut share = gateway.listed().share(client_address(request, gateway.settings()));
            share.grow(params.interest.matchers().count()).map_err(Problem::listed_full)?;
            let presence = registry.join(newcomer).map_err(Problem::listed_out)?;
            self.seat = self.seat.guarding((share, presence));
        }
        Ok(self)
    }

    /// Where the client can resume before it has received anything. A gap has to be reported again.
    pub(super) fn resume_point(&self, key: &CursorKey) -> String {
        match &self.gap {
            Some(gap) if !gap.cursor.is_empty() => gap.cursor.clone(),
            _ => key.seal(self.after),
        }
    }

    /// The subscription for the shard.
    pub(super) fn subscription(self, params: &Params, terms: Terms) -> Subscription {
        let Self { after, gap, n_dropped, seat, .. } = self;
        Subscription { interest: params.interest.clone(), after, gap, n_dropped, terms, seat }
    }
}

/// The terms of a stream. Lifetimes are randomly up to a fifth shorter than the setting, so that
/// streams do not all end at once. None outlasts its access token.
pub(crate) fn stream_terms(
    gateway: &Gateway,
    transport: Transport,
    expires: Option<Instant>,
) -> Terms {
    const SHORTEST: f64 = 0.8;
    let delivery = &gateway.settings().delivery;
    let share = SHORTEST + (1.0 - SHORTEST) * fastrand::f64();
    let lifetime: Duration = delivery.lifetime.mul_f64(share);
    let lifetime = within(lifetime, expires);
    Terms { transport, heartbeat: Some(delivery.heartbeat), lifetime }
}

/// The shorter of `time` and the time until shortly before `expires`. The margin is needed because
/// deadlines fire late, and a subscription must not outlast its access token.
pub(super) fn within(time: Duration, expires: Option<Instant>) -> Duration {
    const MARGIN: Duration = Duration::from_millis(100);
    let until = Instant::now() + MARGIN;
    expires.map_or(time, |it| time.min(it.saturating_duration_since(until)))
}

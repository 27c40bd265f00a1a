//! From a request to an admitted subscription: rights, a seat, parameters, room, and the start.

use std::time::{Duration, Instant};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{Method, header::HeaderValue},
};
use bytes::{Bytes, BytesMut};
use tidegate_core::{
    delivery::{Feed, Seat, Shard, Subscription, Terms},
    event::{Invalid, Position},
    history::{HistoryError, Located, Missing, Search, Start, locate_current},
    matching::SubscribedPatterns,
    subscriptions::{Newcomer, Signs},
    transport::{Gap, StreamWriter, Transport},
};
use tracing::error;

use super::{
    hello::{self, ClientStream},
    params::{Params, TransportParams},
    stream,
};
use crate::{
    gateway::Gateway,
    http::{access, access::Subscriber, client_address, headers, problem::Problem},
    settings::UnknownIds,
};

/// An admitted subscription. Its endpoint adds the head of a response and a writer.
pub(super) struct Admitted<'a, P> {
    request: &'a HttpRequest,
    gateway: Gateway,
    pub(super) params: Params,
    /// The parameters that only its transport has.
    pub(super) own: P,
    /// The position after which it is served.
    after: Position,
    /// The response header for the cursor, if the client sent one.
    cursor_echo: Option<HeaderValue>,
    /// A gap to report first.
    gap: Option<Gap>,
    /// What was dropped so far; it needs no further notice.
    n_dropped: u64,
    seat: Seat,
    /// The stream of a client, if the request says hello.
    pub(super) client_stream: Option<ClientStream>,
}

/// Admits the subscriber of a request whose parameters are all in its URL.
///
/// # Errors
/// If the request is refused.
pub(super) async fn admit<P: TransportParams>(
    request: &HttpRequest,
) -> Result<Admitted<'_, P>, Problem> {
    let subscriber = access::subscriber(request).await?;
    admit_as(request, &subscriber, &[]).await
}

/// Admits `subscriber`, whose parameters are in the URL of `request` and in `body`. Takes the seat
/// first, and compiles patterns last.
///
/// # Errors
/// If the request is refused.
pub(super) async fn admit_as<'a, P: TransportParams>(
    request: &'a HttpRequest,
    subscriber: &Subscriber,
    body: &[u8],
) -> Result<Admitted<'a, P>, Problem> {
    let gateway = Gateway::of(request);
    let seat = seat(request, &gateway, subscriber.is_stranger())?;
    let (mut params, own) = Params::parse(request, body, &gateway, subscriber)?;
    let seat = room_for_matchers(request, &gateway, &params, seat)?;
    let client_stream = hello::meet(request, &gateway, &params, subscriber).await?;
    if let Some(stream) = &client_stream {
        params.interest = stream.group().steer().interest();
    }
    let began = client_stream.as_ref().map(ClientStream::began);
    let located = locate(request, &gateway, &params, began).await?;
    let cursor = params.cursor.as_ref().map(|it| it.text.as_str());
    let cursor_echo = cursor.map(|cursor| echo(cursor, located.missing));
    let Located { mut after, mut missing, n_dropped } = located;
    if missing == Some(Missing::Unknown)
        && gateway.settings().mercure.unknown_ids == UnknownIds::None
    {
        (after, missing) = (gateway.hub().history().last(), None);
    }
    let id_bytes = gateway.settings().limits.id_bytes;
    let gap = missing.map(|missing| Gap {
        cursor: cursor.unwrap_or_default().chars().take(id_bytes).collect(),
        missing,
        after,
    });
    Ok(Admitted {
        request,
        gateway,
        params,
        own,
        after,
        cursor_echo,
        gap,
        n_dropped,
        seat,
        client_stream,
    })
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

/// Looks up where the subscriber begins.
async fn locate(
    request: &HttpRequest,
    gateway: &Gateway,
    params: &Params,
    began: Option<Position>,
) -> Result<Located, Problem> {
    // A response to HEAD has no events, so a search would be wasted.
    if let Some(count) = params.n_newest().filter(|_| request.method() != Method::HEAD) {
        return search(gateway, params, count).await;
    }
    let history = gateway.hub().history();
    let start = params.start(history.cursor_key(), gateway.settings().limits.id_bytes, began);
    let located = locate_current(history, start, &params.interest).await;
    located.map_err(|error| unreadable(&error))
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

impl<P> Admitted<'_, P> {
    /// Adds the headers of a stream to the head of its response.
    fn add_headers(&self, response: &mut HttpResponseBuilder) {
        headers::streamed(response);
        self.add_cursor_echo(response);
    }

    /// Adds the headers that report where the response begins.
    pub(super) fn add_cursor_echo(&self, response: &mut HttpResponseBuilder) {
        headers::cursor_echo(response, self.cursor_echo.clone());
    }

    /// Answers with the head that a stream would have, and subscribes to nothing.
    pub(super) fn probe(self, mut response: HttpResponseBuilder) -> HttpResponse {
        self.add_headers(&mut response);
        response.body(Bytes::new())
    }

    /// Answers with a stream that begins with `head`.
    ///
    /// # Errors
    /// If there is no room on the list of subscriptions.
    pub(super) fn stream(
        self,
        mut response: HttpResponseBuilder,
        head: &[u8],
        writer: StreamWriter,
    ) -> Result<HttpResponse, Problem> {
        self.add_headers(&mut response);
        let mut head = BytesMut::from(head);
        if let Some(data) = self.hello() {
            let retry = Some(stream::retry_later(&self.gateway));
            let token = self.resume_point();
            head.extend_from_slice(&writer.named_with(hello::HELLO, &data, &token, retry));
        }
        let head = head.freeze();
        let terms = stream_terms(&self.gateway, writer.transport(), self.params.expires);
        let mut style = stream::style(&self.gateway, writer);
        style.is_old_dialect = self.params.is_old_dialect;
        let mut joined = self.join(None)?;
        joined.attach(terms.transport, joined.gateway.settings().delivery.lifetime);
        let request = joined.request;
        let (subscription, _, _) = joined.subscription(terms);
        Ok(stream::respond(request, response, head, subscription, style))
    }

    /// The data of the event that a client gets first.
    pub(super) fn hello(&self) -> Option<String> {
        let has_resumed = self.params.cursor.is_some() && self.gap.is_none();
        self.client_stream.as_ref().map(|it| it.hello(&self.gateway, has_resumed))
    }

    /// Subscribes a transport that replies instead of streaming, for at most `time`. `session` is
    /// the number of its poll session.
    ///
    /// # Errors
    /// If there is no room on the list of subscriptions.
    pub(super) fn feed(
        self,
        transport: Transport,
        session: u64,
        time: Duration,
    ) -> Result<(Feed, Params, P), Problem> {
        let terms = Terms { transport, heartbeat: None, lifetime: time };
        let mut joined = self.join(Some(session))?;
        joined.attach(transport, time);
        let shard = joined.request.app_data::<Shard>();
        let shard = shard.expect("`Gateway::configure` adds a shard to its routes").clone();
        let (subscription, params, own) = joined.subscription(terms);
        Ok((shard.subscribe(subscription), params, own))
    }

    /// Makes it the stream of its clients, for as long as it has its seat.
    fn attach(&mut self, transport: Transport, time: Duration) {
        let Some(stream) = &self.client_stream else { return };
        let attached = stream.attach(&self.gateway, transport, time);
        self.seat.guard(attached);
    }

    /// Adds it to the list of subscriptions, if there is one, for as long as it has its seat.
    fn join(mut self, session: Option<u64>) -> Result<Self, Problem> {
        let Self { gateway, params, .. } = &self;
        let Some(registry) = gateway.subscriptions() else { return Ok(self) };
        let signs = Signs {
            subject: params.profile.subject.as_deref(),
            key: params.client.as_deref(),
            session: session.map(|number| (number, gateway.settings().poll.session_lease)),
        };
        let payload_for = |matcher: &str| params.profile.payload_for(matcher);
        if let Some(newcomer) = Newcomer::new(params.interest.asked(), signs, payload_for) {
            let address = client_address(self.request, gateway.settings());
            let mut share = gateway.listed().share(address);
            share.grow(params.interest.asked().count()).map_err(Problem::listed_full)?;
            let presence = registry.join(newcomer).map_err(Problem::listed_out)?;
            self.seat = self.seat.guarding((share, presence));
        }
        Ok(self)
    }

    /// Returns the cursor token for where it begins, unless a gap has to be reported first: the
    /// token is after it.
    pub(super) fn beginning(&self) -> Option<String> {
        self.gap.is_none().then(|| self.gateway.hub().history().cursor_key().seal(self.after))
    }

    /// Returns where the client can resume before it has received anything. A gap has to be
    /// reported again.
    pub(super) fn resume_point(&self) -> String {
        match &self.gap {
            Some(gap) if !gap.cursor.is_empty() => gap.cursor.clone(),
            _ => self.gateway.hub().history().cursor_key().seal(self.after),
        }
    }

    /// The subscription for the shard.
    fn subscription(self, terms: Terms) -> (Subscription, Params, P) {
        let Self { params, own, after, gap, n_dropped, seat, client_stream, .. } = self;
        let interest = params.interest.clone();
        let steer = client_stream.map(|it| it.group().steer().clone());
        (Subscription { interest, after, gap, n_dropped, terms, seat, steer }, params, own)
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

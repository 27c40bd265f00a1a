//! Long poll: `GET /poll`.
//!
//! A reply has the available events, or waits for one. Its `cursor` is the cursor token for the
//! position reached, and `next` is the address of the next poll. The polls of one session are one
//! subscriber.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, MessageBody},
    http::{
        StatusCode,
        header::{CONTENT_DISPOSITION, ETAG},
    },
};
use bytes::Bytes;
use tidegate_core::{
    delivery::{Feed, Item, SessionPoll},
    transport::{EndReason, Transport, json, subscription},
};

use super::{
    admission::{self, Admitted},
    callback::check_callback,
    hello::HELLO,
    names::Parameter,
    params::{Params, TransportParams},
    query::Query,
};
use crate::{
    gateway::Gateway,
    http::{access, form, headers, preferred_wait, problem::Problem},
    listen::Peer,
    settings::PollSettings,
};

/// The events of one reply.
struct Batch {
    events: Vec<Bytes>,
    bytes: usize,
    /// Whether there may be more events.
    more: bool,
}

/// The parameters of polls.
struct PollParams {
    wait: Option<Duration>,
    session: Option<String>,
    callback: Option<String>,
}

impl TransportParams for PollParams {
    const NAMES: &'static [Parameter] = &[
        Parameter {
            name: "wait",
            is_lasting: true,
            misspelled: &["Wait", "waits", "wait_seconds"],
        },
        Parameter {
            name: "session",
            is_lasting: false,
            misspelled: &["Session", "sessions", "session_id", "sessionid", "sessionId"],
        },
        Parameter {
            name: "callback",
            is_lasting: true,
            misspelled: &["Callback", "callbacks", "call_back", "jsonp"],
        },
    ];

    fn read(query: &Query, gateway: &Gateway) -> Result<Self, Problem> {
        let settings = &gateway.settings().poll;
        let callback = query.one("callback");
        if let Some(callback) = callback {
            if !settings.jsonp {
                let detail = "`callback` needs JSONP, which is off (`poll.jsonp`)";
                return Err(Problem::field("callback", detail));
            }
            check_callback(callback)?;
        }
        Ok(Self {
            wait: query.one("wait").map(|wait| seconds(wait, settings.max_wait)).transpose()?,
            session: query.one("session").map(ToOwned::to_owned),
            callback: callback.map(ToOwned::to_owned),
        })
    }
}

/// Answers a poll, at once or when there is an event.
///
/// # Errors
/// If the request is refused.
pub(crate) async fn poll_events(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    let settings = &gateway.settings().poll;
    let admitted = admit(&request).await?;
    let (wait, preferred) = wait(&request, &admitted.own, settings);
    let wait = admission::within(wait, admitted.params.expires);
    let mut response = HttpResponse::Ok();
    headers::uncached(&mut response);
    admitted.add_cursor_echo(&mut response);
    let hello = first_words(&admitted);
    let mut session_poll = gateway.sessions().begin(admitted.own.session.as_deref());
    let (mut feed, params, own) = admitted.feed(Transport::Poll, session_poll.number(), wait)?;
    let peer = Peer::of(&request);
    let mut batch =
        collect(hello, &mut feed, &mut session_poll, &peer, wait, &params, settings).await;

    if preferred {
        let applied = format!("wait={}", wait.as_secs());
        response.insert_header(("preference-applied", applied)).insert_header(("vary", "prefer"));
    }
    // A conditional request without new events is answered 304, with the tag that it sent.
    if let (true, Some(cursor)) = (batch.events.is_empty() && !batch.more, &params.cursor)
        && cursor.is_etag
    {
        response.status(StatusCode::NOT_MODIFIED);
        response.insert_header((ETAG, format!("\"{}\"", cursor.text)));
        return Ok(response.finish());
    }
    let cursor = feed.token();
    let next = next(&gateway, &params, &session_poll, &cursor);
    response.insert_header((ETAG, format!("\"{cursor}\"")));
    let mut pieces = batch.take_pieces();
    let end = serde_json::json!({ "cursor": cursor, "next": next, "more": batch.more });
    match &own.callback {
        None => {
            response.content_type("application/json");
            // No `&` is escaped, so that the address can be copied out of the reply. A browser
            // takes the reply for nothing but JSON, because of `nosniff`.
            pieces.push_back(after_events(&end.to_string()));
        }
        Some(callback) => {
            pieces.push_back(after_events(&json::script_safe(&end)));
            response.content_type("application/javascript; charset=utf-8");
            response.insert_header((CONTENT_DISPOSITION, "attachment; filename=\"poll.js\""));
            pieces.push_front(format!("/**/{callback}(").into());
            pieces.push_back(Bytes::from_static(b");"));
        }
    }
    let size = pieces.iter().map(|piece| piece.len() as u64).sum();
    Ok(response.body(Reply { pieces, size, _feed: feed, _session_poll: session_poll }))
}

/// What a client gets first: in its first poll, and when the gateway has forgotten it.
fn first_words(admitted: &Admitted<'_, PollParams>) -> Option<Bytes> {
    let is_first = admitted.params.cursor.is_none();
    admitted.client_stream.as_ref().filter(|it| is_first || it.is_new)?;
    let data = admitted.hello()?;
    Some(json::named(HELLO, &data, &admitted.resume_point(), None).into())
}

/// Answers with the head that a reply would have, without waiting. `HEAD` subscribes to nothing.
///
/// # Errors
/// If the request would be refused.
pub(crate) async fn probe_poll(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let admitted = admit(&request).await?;
    let mut response = HttpResponse::Ok();
    headers::uncached(&mut response);
    admitted.add_cursor_echo(&mut response);
    Ok(response.content_type("application/json").finish())
}

async fn admit(request: &HttpRequest) -> Result<Admitted<'_, PollParams>, Problem> {
    let is_script = form::has(request.query_string(), "callback");
    let subscriber =
        if is_script { access::anonymous(request) } else { access::subscriber(request).await? };
    admission::admit_as(request, &subscriber, &[]).await
}

/// Reads the parameter `wait`. It is a demand: above the maximum it is an error.
fn seconds(wait: &str, longest: Duration) -> Result<Duration, Problem> {
    let seconds = form::whole_number(wait).and_then(|it| u64::try_from(it).ok());
    let wait = seconds
        .map(Duration::from_secs)
        .ok_or_else(|| Problem::field("wait", "`wait` is not a whole number of seconds"))?;
    if longest < wait {
        let limit = longest.as_secs();
        let detail = format!("`wait` is longer than {limit} seconds");
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        return Err(Problem::field("wait", detail).with_limit(limit));
    }
    Ok(wait)
}

/// How long to wait, and whether a preference was applied (RFC 7240, section 4.3). A preference is
/// only capped.
fn wait(request: &HttpRequest, own: &PollParams, settings: &PollSettings) -> (Duration, bool) {
    match (own.wait, preferred_wait(request)) {
        (Some(wait), _) => (wait, false),
        (None, Some(preferred)) => (preferred.min(settings.max_wait), true),
        (None, None) => (settings.wait, false),
    }
}

/// Collects the available events. If there are none, waits for one, for the end of the poll, or
/// until the peer ends its side.
async fn collect(
    first: Option<Bytes>,
    feed: &mut Feed,
    session_poll: &mut SessionPoll,
    peer: &Peer,
    wait: Duration,
    params: &Params,
    settings: &PollSettings,
) -> Batch {
    let mut batch = Batch { events: first.into_iter().collect(), bytes: 0, more: false };
    loop {
        if settings.batch_events <= batch.events.len() || settings.batch_bytes <= batch.bytes {
            batch.more = true;
            return batch;
        }
        let is_waiting = batch.events.is_empty() && !wait.is_zero() && !peer.has_ended();
        let item = if is_waiting {
            tokio::select! {
                item = feed.next() => Some(item),
                () = session_poll.replaced() => None,
                // The peer may still read, so the reply is sent with what there is.
                () = peer.clone().ended() => continue,
            }
        } else {
            feed.next_waiting().await
        };
        let object = match item {
            Some(Item::Event(event)) if params.is_old_dialect => {
                json::event(subscription::in_old_dialect(&event)).clone()
            }
            Some(Item::Event(event)) => json::event(params.interest.shown(&event)).clone(),
            Some(Item::Gap(gap)) => json::gap_event(&gap, feed.cursor_key()).into(),
            Some(Item::Heartbeat(_)) => continue,
            Some(Item::End(EndReason::Replaced(stream))) => {
                let data = json::script_safe(&serde_json::json!({ "stream": stream.to_string() }));
                let replaced = json::named("tidegate.replaced", &data, &feed.token(), None);
                batch.events.push(replaced.into());
                return batch;
            }
            Some(Item::End(_)) | None => {
                batch.more = feed.is_behind();
                return batch;
            }
        };
        batch.bytes += object.len();
        batch.events.push(object);
    }
}

/// A reply being written. It shares the encoded events, and its client counts as a subscriber until
/// all of it is written.
struct Reply {
    pieces: VecDeque<Bytes>,
    size: u64,
    _feed: Feed,
    _session_poll: SessionPoll,
}

impl MessageBody for Reply {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.size)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(self.pieces.pop_front().map(Ok))
    }
}

impl Batch {
    /// Takes the events, as the begin of a reply.
    fn take_pieces(&mut self) -> VecDeque<Bytes> {
        let mut pieces = VecDeque::with_capacity(2 * self.events.len() + 4);
        pieces.push_back(Bytes::from_static(b"{\"events\":["));
        for (at, event) in std::mem::take(&mut self.events).into_iter().enumerate() {
            if 0 < at {
                pieces.push_back(Bytes::from_static(b","));
            }
            pieces.push_back(event);
        }
        pieces
    }
}

/// Continues a reply behind its events with the fields of an object.
fn after_events(object: &str) -> Bytes {
    format!("],{}", object.trim_start_matches('{')).into()
}

/// The address of the next poll: the same parameters and session, from the new cursor on. It is
/// relative to the address of this one, which a proxy may have changed on the way, unless the
/// settings say what clients see.
fn next(gateway: &Gateway, params: &Params, session_poll: &SessionPoll, cursor: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(params.lasting_query.clone());
    query.append_pair("last_event_id", cursor).append_pair("session", &session_poll.session());
    let query = query.finish();
    match &gateway.settings().server.public_url {
        Some(url) => format!("{}/poll?{query}", url.as_str().trim_end_matches('/')),
        None => format!("poll?{query}"),
    }
}

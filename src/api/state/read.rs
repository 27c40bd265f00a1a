//! `GET /state`: what a topic has now, and the cursor from which a stream has every later change.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, ETAG, X_CONTENT_TYPE_OPTIONS},
};
use serde::Serialize;
use tidegate_core::{
    event::{ClientKey, Topic},
    matching::{Matcher, Matchers},
    state::{MemberView, Members, StateObject},
};

use super::request;
use crate::{
    gateway::Gateway,
    http::{access, etag::KnownTags, problem::Problem},
};

/// The maximum and the default number of members on one page.
const LONGEST_PAGE: usize = 1000;
const PAGE: usize = 100;

/// What `GET /state` answers. Members that are too many to list have only a count.
#[derive(Serialize)]
struct Shown<'a> {
    topic: &'a str,
    rev: u64,
    state: StateObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<MemberView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    /// The value of `after` for the next page of members, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    cursor: String,
}

/// A page of members that a request asks for.
struct Page {
    after: Option<ClientKey>,
    limit: usize,
}

/// `GET /state`, and `HEAD`.
pub(super) async fn show_state(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let subscriber = access::subscriber(&request).await?;
    let gateway = Gateway::of(&request);
    let topic = request::topic(&request, &gateway).map_err(|it| subscriber.refuse(it))?;
    let matcher = Matcher::exact(topic.as_str(), gateway.settings().limits.topic_bytes)
        .map_err(|invalid| subscriber.refuse(Problem::parameter(&invalid)))?;
    let states = gateway.states();
    if !request::may_see(&request, &gateway, subscriber.user.as_deref(), &topic)? {
        subscriber.check_matchers(&Matchers::new([matcher]))?;
        if (states.options().terms)(&topic).private {
            subscriber.check(&topic)?;
        }
    }
    let page = page(&request)?;
    let shown = show(&gateway, &topic, page.as_ref());
    let tag = request::tag(&gateway, shown.rev);
    let is_known = KnownTags::of(&request).contain(&tag);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, tag))
        .insert_header((CACHE_CONTROL, "private, no-cache"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    Ok(if is_known { response.finish() } else { response.json(shown) })
}

fn show<'t>(gateway: &Gateway, topic: &'t Topic, page: Option<&Page>) -> Shown<'t> {
    // Before the view: the view has every change up to this position.
    let hub = gateway.hub();
    let cursor = hub.history().cursor_key().seal(hub.tail().newest());
    let states = gateway.states();
    let view = states.view(topic);
    let mut shown = Shown {
        topic: topic.as_str(),
        rev: view.rev,
        state: view.state,
        members: None,
        count: None,
        next: None,
        cursor,
    };
    match (page, view.members) {
        (Some(page), _) => {
            let page = states.members(topic, page.after.as_ref(), page.limit);
            (shown.members, shown.count) = (Some(page.members), Some(page.count));
            shown.next = page.next;
        }
        (None, Members::Listed(members)) => shown.members = Some(members),
        (None, Members::Counted(count)) => shown.count = Some(count),
    }
    shown
}

/// Reads which members are asked for: `None` for all of them, if they are not too many.
fn page(request: &HttpRequest) -> Result<Option<Page>, Problem> {
    match request::parameter(request, "members")?.as_deref() {
        None => return Ok(None),
        Some("page") => {}
        Some(_) => {
            let detail = "`members` takes one value, `page`, for a page of the members";
            return Err(Problem::field("members", detail));
        }
    }
    let after = match request::parameter(request, "after")? {
        None => None,
        Some(id) => {
            let detail = "`after` is no id of a client; take it from `next`";
            Some(ClientKey::from_id(&id).ok_or_else(|| Problem::field("after", detail))?)
        }
    };
    let limit = match request::parameter(request, "limit")? {
        None => PAGE,
        Some(limit) => {
            limit.parse().ok().filter(|it| (1..=LONGEST_PAGE).contains(it)).ok_or_else(|| {
                Problem::field("limit", format!("`limit` is not 1 to {LONGEST_PAGE}"))
            })?
        }
    };
    Ok(Some(Page { after, limit }))
}

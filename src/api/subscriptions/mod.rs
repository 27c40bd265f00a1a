//! `GET /.well-known/mercure/subscriptions…`: the current subscriptions.

mod asked;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LINK, VARY},
    web::{self, ServiceConfig},
};
use serde::Serialize;
use tidegate_core::{
    event::{EventId, Position, Topic},
    subscriptions::{Listed, Names, Registry, document, name},
    transport::subscription::{OLD_CONTEXT, SubscriptionDocument},
};

use self::asked::{Asked, Filter};
use crate::{
    auth::Dialect,
    gateway::Gateway,
    http::{
        accept::preferred, access, etag::KnownTags, metadata, own_path, problem::Problem, resource,
    },
};

/// Where the gateway serves the list. A proxy may map it to another path.
const SERVED_AT: &str = "/.well-known/mercure/subscriptions";

const JSON: &str = "application/json";
const JSON_LD: &str = "application/ld+json";

/// Adds the routes.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config.service(
        resource("/.well-known/mercure/subscriptions{rest:.*}", "GET, HEAD, OPTIONS")
            .route(web::get().to(show_subscriptions))
            .route(web::head().to(show_subscriptions)),
    );
}

/// Shows all subscriptions, those with one matcher, or a single one.
async fn show_subscriptions(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let gateway = Gateway::of(&request);
    let nothing = || Problem::not_found("there is nothing at this address");
    let registry = gateway.subscriptions().ok_or_else(nothing)?;
    let subscriber = access::subscriber(&request).await?;
    // As written by the client: grants name the path with its escapes (draft-08, "Subscription
    // API").
    let rest = own_path(&request).strip_prefix(SERVED_AT).ok_or_else(nothing)?;
    let names = gateway.settings().subscription_names();
    let path = format!("{}{rest}", names.root);
    subscriber.check(&Topic::of_subscription(&path))?;
    let asked = Asked::parse(rest, names.has_old)?;
    let is_old = names.has_old
        && match asked {
            Asked::All => {
                subscriber.profile.dialect == Some(Dialect::Old) || wants_json_ld(&request)
            }
            Asked::OldTopic(_) | Asked::OldOne(..) => true,
            Asked::Matcher(..) | Asked::One(..) => false,
        };
    let filter = Filter::parse(&request)?;
    let view = View::new(&request, &gateway, registry, is_old, &names, &path);
    if view.is_known(&request) {
        return Ok(view.head(HttpResponse::NotModified()).finish());
    }
    let prefixes = asked.prefixes(&filter);
    if let Asked::One(..) | Asked::OldOne(..) = asked {
        let listed = prefixes.iter().find_map(|key| registry.get(key));
        return Ok(view.one(&listed.ok_or_else(|| {
            Problem::not_found("there is no such subscription, or not any more")
        })?));
    }
    if filter.is_count {
        let count = prefixes.iter().map(|it| registry.count(it)).sum();
        return Ok(view.count(count));
    }
    Ok(view.list(&prefixes, &filter))
}

fn wants_json_ld(request: &HttpRequest) -> bool {
    preferred(request, &[JSON, JSON_LD]) == Some(JSON_LD)
}

/// The list for one client.
struct View<'a> {
    request: &'a HttpRequest,
    registry: &'a Registry,
    is_old: bool,
    names: &'a Names,
    path: &'a str,
    /// The cursor token from which a client that has the list can receive events. Read before the
    /// list, so that no event is missed.
    cursor: String,
    etag: String,
    hub: String,
}

#[derive(Serialize)]
struct Collection<'a, D> {
    #[serde(rename = "@context", skip_serializing_if = "Option::is_none")]
    context: Option<&'static str>,
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "lastEventID", skip_serializing_if = "Option::is_none")]
    last_event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriptions: Option<Vec<D>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

/// A single document of the old dialect, with the cursor token.
#[derive(Serialize)]
struct WithCursor<'a, D> {
    #[serde(flatten)]
    document: D,
    #[serde(rename = "lastEventID")]
    last_event_id: &'a str,
}

impl<'a> View<'a> {
    fn new(
        request: &'a HttpRequest,
        gateway: &Gateway,
        registry: &'a Registry,
        is_old: bool,
        names: &'a Names,
        path: &'a str,
    ) -> Self {
        // The nonce identifies the process: the version starts anew with each.
        let version = format!("{}-{}", gateway.nonce(), registry.version());
        let history = gateway.hub().history();
        let cursor = match history.last() {
            Position::START => EventId::EARLIEST.to_owned(),
            last => history.cursor_key().seal(last),
        };
        // The reply in the old dialect also has the cursor token.
        let etag = match is_old {
            true => format!("\"{version}-{cursor}\""),
            false => format!("\"{version}\""),
        };
        let hub = metadata::hub_url(request, gateway.settings()).into();
        Self { request, registry, is_old, names, path, cursor, etag, hub }
    }

    /// Whether the client already has this version.
    fn is_known(&self, request: &HttpRequest) -> bool {
        KnownTags::of(request).contain(&self.etag)
    }

    fn head(&self, mut response: HttpResponseBuilder) -> HttpResponseBuilder {
        let link = format!(
            "<{}>; rel=\"mercure\"; last-event-id=\"{}\"; type=\"mercure\"; content-type=\"{JSON}\"",
            self.hub, self.cursor
        );
        response.append_header((LINK, link));
        response.insert_header((ETAG, self.etag.as_str()));
        response.insert_header((CACHE_CONTROL, "private, max-age=0, must-revalidate"));
        response.insert_header((VARY, "accept, authorization, cookie"));
        response
    }

    fn reply(&self, next: Option<&str>, document: &impl Serialize) -> HttpResponse {
        let mut response = self.head(HttpResponse::Ok());
        if let Some(next) = next {
            response.append_header((LINK, format!("<{next}>; rel=\"next\"")));
        }
        response.insert_header((CONTENT_TYPE, if self.is_old { JSON_LD } else { JSON }));
        response.body(
            serde_json::to_string(document)
                .expect("documents have no map, and no field whose `Serialize` fails"),
        )
    }

    fn document<'d>(&self, listed: &'d Listed) -> SubscriptionDocument<'d> {
        document(self.names, listed.matched(), listed.subscriber(), true)
    }

    /// The path of a subscription in the old dialect.
    fn old_path(&self, listed: &Listed) -> String {
        let matched = listed.matched();
        let old = name::old_key(&matched.matcher, listed.subscriber());
        let key = || name::key(matched.kind, &matched.matcher, listed.subscriber());
        self.names.path(&old.unwrap_or_else(key))
    }

    fn one(&self, listed: &Listed) -> HttpResponse {
        let document = self.document(listed);
        if !self.is_old {
            return self.reply(None, &document);
        }
        let id = self.old_path(listed);
        let document = document.to_old(&id, Some(OLD_CONTEXT));
        self.reply(None, &WithCursor { document, last_event_id: &self.cursor })
    }

    fn count(&self, count: usize) -> HttpResponse {
        self.reply(None, &Collection::<()> { count: Some(count), ..self.collection() })
    }

    fn list(&self, prefixes: &[String], filter: &Filter) -> HttpResponse {
        let mut found: Vec<Listed> = Vec::new();
        let mut has_more = false;
        for prefix in prefixes {
            let room = filter.limit - found.len();
            let (some, more) = self.registry.list(prefix, filter.after.as_deref(), room);
            found.extend(some);
            if more {
                has_more = true;
                break;
            }
        }
        let next = found.last().filter(|_| has_more).map(|last| self.next(last));
        let documents: Vec<SubscriptionDocument<'_>> =
            found.iter().map(|it| self.document(it)).collect();
        let next = next.as_deref();
        if !self.is_old {
            let subscriptions = Some(documents);
            return self.reply(next, &Collection { subscriptions, next, ..self.collection() });
        }
        let paths: Vec<String> = found.iter().map(|it| self.old_path(it)).collect();
        let both = documents.iter().zip(&paths);
        let subscriptions = Some(both.map(|(document, id)| document.to_old(id, None)).collect());
        self.reply(next, &Collection { subscriptions, next, ..self.collection() })
    }

    fn collection<D>(&self) -> Collection<'_, D> {
        Collection {
            context: self.is_old.then_some(OLD_CONTEXT),
            id: self.path,
            kind: if self.is_old { "Subscriptions" } else { "subscriptions" },
            last_event_id: self.is_old.then_some(self.cursor.as_str()),
            subscriptions: None,
            count: None,
            next: None,
        }
    }

    /// The path of the next page.
    fn next(&self, last: &Listed) -> String {
        let matched = last.matched();
        let key = name::key(matched.kind, &matched.matcher, last.subscriber());
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let pairs = url::form_urlencoded::parse(self.request.query_string().as_bytes());
        // Leaves out an access token in the URL.
        query.extend_pairs(pairs.filter(|(name, _)| name != "after" && name != "authorization"));
        format!("{}?{}", self.path, query.append_pair("after", &key).finish())
    }
}

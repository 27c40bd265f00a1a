//! `Idempotency-Key` (IETF HTTP API draft): a repeated request gets the same reply and changes
//! nothing.

use actix_web::{HttpRequest, HttpResponse};
use tidegate_core::{
    history::KeyedReply,
    ledger::{Fingerprint, Reply},
};

use super::problem::Problem;
use crate::gateway::Gateway;

/// Makes the stored form of a reply once it is known.
pub(crate) type Keeper = Box<dyn Fn(&Reply) -> KeyedReply + Send + Sync>;

/// Returns the key of a request, if it has one.
pub(crate) fn key(request: &HttpRequest, limit: usize) -> Result<Option<String>, Problem> {
    const NAME: &str = "Idempotency-Key";
    let Some(value) = request.headers().get(NAME) else { return Ok(None) };
    match value.to_str() {
        Ok("") | Err(_) => {
            Err(Problem::field(NAME, format!("`{NAME}` is not printable ASCII text")))
        }
        Ok(key) if limit < key.len() => {
            let detail =
                format!("`{NAME}` is longer than {limit} bytes (limits.idempotency_key_bytes)");
            Err(Problem::field(NAME, detail).with_limit(limit))
        }
        Ok(key) => Ok(Some(key.to_owned())),
    }
}

/// The outcome of a request with a key.
pub(crate) enum Answered {
    /// The request was carried out.
    Now(Reply),
    /// Nothing was done, because the key has this reply, in its stored form.
    Before(Box<[u8]>),
}

/// Answers a request by `work`, or with the stored reply if a request with this key was answered
/// before. `work` submits what the keeper returns together with its changes.
///
/// # Errors
/// If the key cannot be used, or `work` fails, which frees the key.
pub(crate) async fn once<F>(
    gateway: Gateway,
    key: Option<(String, Fingerprint)>,
    work: impl FnOnce(Option<Keeper>) -> F + 'static,
) -> Result<Reply, Problem>
where
    F: Future<Output = Result<Answered, Problem>> + 'static,
{
    let Some((key, fingerprint)) = key else {
        return match work(None).await? {
            Answered::Now(reply) => Ok(reply),
            Answered::Before(_) => Err(Problem::conflict("a request without a key was repeated")),
        };
    };
    let claim = gateway.ledger().claim(key, fingerprint)?;
    // A separate task, so that the work is completed even if the client disconnects.
    let answering = actix_web::rt::spawn(async move {
        match work(Some(Box::new(claim.keeper()))).await {
            Ok(Answered::Now(reply)) => Ok(reply),
            Ok(Answered::Before(kept)) => Ok(claim.recognize(&kept)?),
            // A repeated request may fail for a reason that its first time did not have.
            Err(problem) => match gateway.hub().history().reply(claim.key()).await {
                Ok(Some(kept)) => Ok(claim.recognize(&kept)?),
                _ => Err(problem),
            },
        }
    });
    let stopping = |_| Problem::unavailable("stopping", "the gateway is stopping");
    answering.await.map_err(stopping)?
}

/// Answers with a reply.
pub(crate) fn respond(reply: &Reply) -> HttpResponse {
    HttpResponse::Ok().content_type(reply.content_type()).body(reply.body().clone())
}

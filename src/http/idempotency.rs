//! `Idempotency-Key` (IETF HTTP API draft): a repeated request gets the same reply and changes
//! nothing.

use actix_web::{HttpRequest, HttpResponse};
use tidegate_core::{
    history::KeyedReply,
    ledger::{Claim, Fingerprint, Reply},
};

use super::problem::Problem;
use crate::gateway::Gateway;

/// Makes the stored form of a reply once it is known.
pub(crate) type Keeper = Box<dyn FnOnce(&Reply) -> KeyedReply + Send>;

/// Returns the key of a request, if it has one.
pub(crate) fn key(request: &HttpRequest, limit: usize) -> Result<Option<String>, Problem> {
    const NAME: &str = "Idempotency-Key";
    let Some(value) = request.headers().get(NAME) else { return Ok(None) };
    match value.to_str() {
        Ok("") | Err(_) => {
            Err(Problem::field(NAME, format!("`{NAME}` is not printable ASCII text")))
        }
        Ok(key) if limit < key.len() => {
            Err(Problem::field(NAME, format!("`{NAME}` is longer than {limit} bytes")))
        }
        Ok(key) => Ok(Some(key.to_owned())),
    }
}

/// Answers a request by `work`, or with the stored reply if a request with this key was answered
/// before. `work` commits what the keeper returns together with its changes.
///
/// # Errors
/// If the key cannot be used, or `work` fails, which frees the key.
pub(crate) async fn once<F>(
    gateway: Gateway,
    key: Option<(String, Fingerprint)>,
    work: impl FnOnce(Option<Keeper>) -> F + 'static,
) -> Result<Reply, Problem>
where
    F: Future<Output = Result<Reply, Problem>> + 'static,
{
    let Some((key, fingerprint)) = key else { return work(None).await };
    let claim = match gateway.ledger().claim(key, fingerprint)? {
        Claim::Answered(reply) => return Ok(reply),
        Claim::Granted(claim) => claim,
    };
    // A separate task, so that the reply is stored even if the client disconnects.
    let answering = actix_web::rt::spawn(async move {
        let reply = match claim.recall(gateway.hub().history()).await? {
            Some(reply) => reply,
            None => work(Some(Box::new(claim.keeper()))).await?,
        };
        claim.fulfil(reply.clone());
        Ok(reply)
    });
    let stopping = |_| Problem::unavailable("stopping", "the gateway is stopping");
    answering.await.map_err(stopping)?
}

/// Answers with a reply.
pub(crate) fn respond(reply: &Reply) -> HttpResponse {
    HttpResponse::Ok().content_type(reply.content_type()).body(reply.body().clone())
}

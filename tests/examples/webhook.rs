//! Webhooks: the end of a job is posted to the configured address, signed, and retried if
//! necessary.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    gateway::Gateway,
    receiver::{Receiver, Request},
    support::{client, in_time},
};

const SECRET: &str = "open sesame";
const PREVIOUS: &str = "what it was before";

/// A gateway that notifies `receiver` of the ends of jobs of the type `told`.
async fn gateway(receiver: &Receiver) -> Gateway {
    let url = &receiver.url;
    Gateway::start(&format!(
        "[jobs.types.other]\n[jobs.types.told]\nwebhook = '{url}/ended?a=b'\nwebhook_asked = '{url}/asked'\nwebhook_secret = '{SECRET}'\nwebhook_previous_secret = '{PREVIOUS}'"
    ))
    .await
}

/// Creates and finishes a job. Returns its id.
async fn finish(gateway: &Gateway, kind: &str, report: &str, body: Value) -> String {
    let job = gateway.create(kind, Value::Null).await;
    let claim = client().post(gateway.url("/jobs/claim")).json(&json!({ "types": [kind] }));
    let claimed = in_time("a job", claim.send()).await.expect("an answer");
    let claimed: Value = claimed.json().await.expect("JSON");
    let lease = claimed["lease"].as_str().expect("a lease");
    let request = client().post(format!("{job}/{report}")).header("tidegate-lease", lease);
    let response = in_time("an answer", request.json(&body).send()).await.expect("an answer");
    assert_eq!(response.status(), 200);
    claimed["job"]["id"].as_str().expect("an id").to_owned()
}

/// HMAC-SHA256 in hexadecimal.
fn hmac(secret: &str, signed: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(signed.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks a notification as its receiver should.
fn check(request: &Request) -> Value {
    let header = |name: &str| request.headers[name].as_str();
    let timestamp: i64 = header("tidegate-timestamp").parse().expect("seconds");
    assert!((Timestamp::now().as_second() - timestamp).abs() < 30, "{timestamp}");
    let of_body = hmac(SECRET, &format!("{timestamp}.{}", request.body));
    assert_eq!(header("tidegate-signature"), format!("v1={of_body}"));
    let key = header("idempotency-key");
    let of_all =
        [SECRET, PREVIOUS].map(|it| hmac(it, &format!("{timestamp}.{key}.{}", request.body)));
    assert_eq!(header("tidegate-signatures"), format!("v2={},v2={}", of_all[0], of_all[1]));
    assert_eq!(header("content-type"), "application/json");
    serde_json::from_str(&request.body).expect("JSON")
}

#[tokio::test]
async fn the_ends_of_jobs_are_told_with_a_signature() {
    let mut receiver = Receiver::start(|_, _| "204 No Content\r\n\r\n".to_owned()).await;
    let gateway = gateway(&receiver).await;
    finish(&gateway, "other", "complete", json!({})).await;
    let id = finish(&gateway, "told", "complete", json!({ "result": 7 })).await;
    let request = receiver.request().await;
    let notice = check(&request);
    assert_eq!(request.path, "/ended?a=b");
    assert!(request.headers["idempotency-key"].starts_with(&format!("{id}-")));
    assert_eq!(notice["type"], "told");
    assert_eq!((&notice["id"], &notice["state"]), (&json!(id), &json!("succeeded")));
    let status = gateway.get(&gateway.url(&format!("/jobs/{id}"))).await;
    let mut status: Value = status.json().await.expect("JSON");
    status["now"] = notice["status"]["now"].clone();
    assert_eq!(notice["status"], status);

    let failure = json!({ "problem": { "title": "No" }, "retryable": true });
    let id = finish(&gateway, "told", "fail", failure.clone()).await;
    // Another attempt follows, so this is not the end.
    gateway.post(&gateway.url(&format!("/jobs/{id}/cancel"))).await;
    let notice = check(&receiver.request().await);
    assert_eq!((&notice["id"], &notice["state"]), (&json!(id), &json!("cancelled")));

    let failure = json!({ "problem": { "title": "No" }, "retryable": false });
    let id = finish(&gateway, "told", "fail", failure).await;
    let notice = check(&receiver.request().await);
    assert_eq!((&notice["id"], &notice["state"]), (&json!(id), &json!("failed")));
    assert_eq!(notice["status"]["error"]["title"], "No");
    assert!(receiver.is_quiet());
}

#[tokio::test]
async fn questions_of_jobs_are_told_to_their_own_address() {
    let mut receiver = Receiver::start(|_, _| "204 No Content\r\n\r\n".to_owned()).await;
    let gateway = gateway(&receiver).await;
    let fields = json!([{ "name": "yes", "type": "confirm" }]);
    let question = json!({ "ask": "a", "title": "Deploy?", "fields": fields });
    let id = finish(&gateway, "told", "ask", question).await;
    let request = receiver.request().await;
    let notice = check(&request);
    assert_eq!(request.path, "/asked");
    assert_eq!((&notice["id"], &notice["state"]), (&json!(id), &json!("waiting")));
    assert_eq!(notice["status"]["question"]["title"], "Deploy?");
    let address = gateway.url(&format!("/jobs/{id}/answers/a"));
    let answer = client().post(address).json(&json!({ "yes": true }));
    let answered = in_time("an answer", answer.send()).await.expect("an answer");
    assert_eq!(answered.status(), 200);
    gateway.post(&gateway.url(&format!("/jobs/{id}/cancel"))).await;
    assert!(receiver.is_quiet(), "an answer is told to no address");
}

#[tokio::test]
async fn what_was_not_taken_is_told_again() {
    let mut receiver = Receiver::start(|number, _| match number {
        0 => "500 Internal Server Error\r\n\r\nno".to_owned(),
        // A connection that breaks.
        1 => String::new(),
        _ => "200 OK\r\n\r\n".to_owned(),
    })
    .await;
    let gateway = gateway(&receiver).await;
    finish(&gateway, "told", "complete", json!({})).await;
    let first = receiver.request().await;
    for _ in 0..2 {
        let again = receiver.request().await;
        assert_eq!(check(&again), check(&first));
        assert_eq!(again.headers["idempotency-key"], first.headers["idempotency-key"]);
    }
    finish(&gateway, "told", "complete", json!({})).await;
    let next = receiver.request().await;
    assert_ne!(next.headers["idempotency-key"], first.headers["idempotency-key"]);
    assert!(receiver.is_quiet());
}

#[tokio::test]
async fn redirects_and_refusals_are_the_end_of_it() {
    let mut elsewhere = Receiver::start(|_, _| "200 OK\r\n\r\n".to_owned()).await;
    let url = elsewhere.url.clone();
    let mut receiver = Receiver::start(move |number, _| match number {
        0 => format!("307 Temporary Redirect\r\nlocation: {url}/\r\n\r\n"),
        1 => "400 Bad Request\r\n\r\n".to_owned(),
        _ => "200 OK\r\n\r\n".to_owned(),
    })
    .await;
    let gateway = gateway(&receiver).await;
    for _ in 0..3 {
        let id = finish(&gateway, "told", "complete", json!({})).await;
        assert_eq!(check(&receiver.request().await)["id"], json!(id));
    }
    assert!(elsewhere.is_quiet() && receiver.is_quiet());
}

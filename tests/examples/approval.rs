//! The approval example: work inside the program asks, and the answer decides how it goes on.

use reqwest::{Response, redirect::Policy};
use serde_json::{Value, json};
use tidegate_testkit::deadline::found;

use crate::support::{App, client, in_time};

/// Begins a deployment. Returns the address of its job, once it asks.
async fn begin(app: &App) -> String {
    let stay = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build();
    let request = stay.expect("a client").post(app.url("/deploy")).send();
    let reply = in_time("a redirect", request).await.expect("an answer");
    assert_eq!(reply.status(), 303);
    let job = app.url("/") + reply.headers()["location"].to_str().expect("text");
    until(&job, "waiting").await;
    job
}

async fn until(job: &str, state: &str) -> Value {
    let reached = found(async || {
        let reply = client().get(job).send().await.expect("an answer");
        let status: Value = reply.json().await.expect("JSON");
        (status["state"] == state).then_some(status)
    });
    in_time(state, reached).await
}

async fn answer(job: &str, values: Value) -> Response {
    let status = until(job, "waiting").await;
    let ask = status["question"]["ask"].as_str().expect("a name").to_owned();
    let request = client().post(format!("{job}/answers/{ask}")).json(&values);
    in_time("an answer", request.send()).await.expect("an answer")
}

#[tokio::test]
async fn an_approved_deployment_goes_on_and_another_one_does_not() {
    let app = App::start("approval").await;
    let (good, bad) = (begin(&app).await, begin(&app).await);
    assert_eq!(answer(&good, json!({ "go": true })).await.status(), 400, "when?");
    assert_eq!(answer(&good, json!({ "go": true, "when": "now" })).await.status(), 200);
    assert_eq!(answer(&bad, json!({ "go": false, "when": "now" })).await.status(), 200);
    until(&good, "succeeded").await;
    let result = client().get(format!("{good}/result")).send().await.expect("an answer");
    assert_eq!(result.text().await.expect("text"), "\"4f2c is deployed now\"");
    let failed = until(&bad, "failed").await;
    assert_eq!(failed["error"]["detail"], "it was not approved");
}

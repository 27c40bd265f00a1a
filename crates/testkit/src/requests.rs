//! Requests that tests send to a gateway.

use reqwest::{Body, RequestBuilder, Response};

use crate::{deadline::in_time, gateway::Gateway};

/// The media type of forms.
const FORM: &str = "application/x-www-form-urlencoded";

/// The path of the hub.
const HUB: &str = "/.well-known/mercure";

impl Gateway {
    /// Returns the full URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the URL of the hub.
    pub fn hub(&self) -> String {
        self.url(HUB)
    }

    /// Gets a path.
    pub async fn get(&self, path: &str) -> Response {
        send(self.client.get(self.url(path))).await
    }

    /// Publishes a form and returns the reply.
    pub async fn post(&self, form: &[(&str, &str)]) -> Response {
        self.post_to("/events", None, form).await
    }

    /// Publishes a form at the hub's own address with an access token and returns the reply.
    pub async fn post_as(&self, token: &str, form: &[(&str, &str)]) -> Response {
        self.post_to(HUB, Some(token), form).await
    }

    /// Publishes a form at the hub's own address without an access token and returns the reply.
    pub async fn post_to_hub(&self, form: &[(&str, &str)]) -> Response {
        self.post_to(HUB, None, form).await
    }

    async fn post_to(&self, path: &str, token: Option<&str>, form: &[(&str, &str)]) -> Response {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.client.post(self.url(path)).header("content-type", FORM).body(body);
        send(if let Some(token) = token { request.bearer_auth(token) } else { request }).await
    }

    /// Publishes JSON and returns the reply.
    pub async fn post_json(&self, body: impl Into<Body>) -> Response {
        let request = self.client.post(self.url("/events"));
        send(request.header("content-type", "application/json").body(body)).await
    }
}

async fn send(request: RequestBuilder) -> Response {
    in_time("a reply", request.send()).await.expect("a reply")
}

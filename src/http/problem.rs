//! The only conversion of errors to HTTP responses: problem documents (RFC 9457).

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, CONTENT_RANGE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_core::{
    event::Invalid, history::HistoryError, hub::PublishError, ledger::KeyError, state::View,
};

use super::form::NotUtf8;
use crate::gateway::Refused;

/// A refused request: what the client learns, and the words that the log and the metrics use.
///
/// A handler of the embedding application can return it as its error:
///
/// ```
/// use tidegate::{event::Draft, gateway::Gateway, problem::Problem};
///
/// async fn add(gateway: &Gateway, title: String) -> Result<String, Problem> {
///     if title.is_empty() {
///         return Err(Problem::field("title", "the item has no title"));
///     }
///     let draft = Draft { topics: vec!["items".into()], data: title, ..Draft::default() };
///     Ok(gateway.publish(draft).await?.as_str().to_owned())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Problem(Box<Details>);

#[derive(Debug, Clone)]
struct Details {
    status: StatusCode,
    reason: &'static str,
    title: &'static str,
    detail: String,
    field: Option<String>,
    limit: Option<usize>,
    /// What is wrong with several fields, by name.
    errors: Vec<FieldError>,
    /// What only the log contains, and the id that connects the refusal with it.
    cause: Option<Cause>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Further members of the document.
    members: Map<String, Value>,
}

#[derive(Debug, Clone)]
struct Cause {
    text: String,
    /// A random `urn:uuid:`.
    instance: String,
}

/// What is wrong with one of several fields.
#[derive(Debug, Clone, Serialize)]
struct FieldError {
    field: String,
    detail: String,
}

#[derive(Serialize)]
struct ProblemDocument<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        reason: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        let headers = Vec::new();
        Self(Box::new(Details {
            status,
            reason,
            title,
            detail,
            field: None,
            limit: None,
            errors: Vec::new(),
            cause: None,
            headers,
            members: Map::new(),
        }))
    }

    /// 400: the request as a whole is malformed.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "Malformed request", detail)
    }

    /// 400: one field or parameter breaks a rule. `detail` names it as well.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_field", "Invalid field", detail)
            .with_field(field.into())
    }

    /// 400: several fields break rules, each with its own detail.
    pub(crate) fn fields(errors: Vec<(String, String)>) -> Self {
        let told = errors.iter().map(|(field, detail)| format!("`{field}`: {detail}"));
        let told = told.collect::<Vec<_>>().join("; ");
        let first = errors.first().map(|(field, _)| field.clone()).unwrap_or_default();
        let mut problem = Self::field(first, told);
        let error = |(field, detail)| FieldError { field, detail };
        problem.0.errors = errors.into_iter().map(error).collect();
        problem
    }

    /// 413: a field of an update, or a whole request, exceeds its limit.
    pub fn too_large(field: impl Into<String>, limit: usize, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large", detail)
            .with_field(field.into())
            .with_limit(limit)
    }

    /// 413 or 400: a field of an update exceeds its limit or breaks another rule. `at` is its index
    /// in an array.
    #[must_use]
    pub(crate) fn update(at: Option<usize>, invalid: &Invalid) -> Self {
        let (field, detail) = match at {
            None => (invalid.field().to_owned(), invalid.to_string()),
            Some(at) => (format!("[{at}].{}", invalid.field()), format!("[{at}]: {invalid}")),
        };
        match invalid.limit() {
            Some(limit) => Self::too_large(field, limit, detail),
            None => Self::field(field, detail),
        }
    }

    /// 400 or 503: a parameter of a subscriber's request breaks a rule or exceeds a limit, or (503)
    /// the gateway is full.
    #[must_use]
    pub(crate) fn parameter(invalid: &Invalid) -> Self {
        if let Invalid::NoRoom { field, limit } = invalid {
            let problem = Self::unavailable("patterns", invalid.to_string());
            return problem.with_field((*field).to_owned()).with_limit(*limit);
        }
        let problem = Self::field(invalid.field(), invalid.to_string());
        match invalid.limit() {
            Some(limit) => problem.with_limit(limit),
            None => problem,
        }
    }

    /// 401: a required access token is missing (RFC 6750, section 3.1: no error code). `metadata`
    /// is the URL of the document that says where to get one. `kept_cookie` is the cookie that
    /// browsers do not send, because the address is plain HTTP.
    pub(crate) fn access_token_missing(metadata: &str, kept_cookie: Option<&str>) -> Self {
        let mut detail =
            "this needs a token: a header `Authorization: Bearer` or a cookie".to_owned();
        if let Some(name) = kept_cookie {
            detail += &format!(
                "; browsers store and send the cookie `{name}` over HTTPS only, and this request \
                 came over plain HTTP (auth.cookie names another one)"
            );
        }
        Self::new(StatusCode::UNAUTHORIZED, "token_missing", "Unauthorized", detail)
            .with_challenge("", metadata)
    }

    /// 401: the access token is invalid for another reason. Only the log says why.
    pub(crate) fn access_token_invalid(metadata: &str, cause: String) -> Self {
        let detail =
            "the token is not valid; the log of the gateway says why, under this `instance`";
        Self::new(StatusCode::UNAUTHORIZED, "token_invalid", "Unauthorized", detail)
            .with_challenge("error=\"invalid_token\", ", metadata)
            .with_cause(cause)
    }

    /// 401: the access token has expired. Its signature was valid, so its bearer may know.
    pub(crate) fn access_token_expired(metadata: &str, cause: String) -> Self {
        let detail = "the token has expired; send a new one";
        let error = "error=\"invalid_token\", error_description=\"The access token expired\", ";
        Self::new(StatusCode::UNAUTHORIZED, "token_invalid", "Unauthorized", detail)
            .with_challenge(error, metadata)
            .with_cause(cause)
    }

    /// 400: the access token cannot be read, because of how it was sent.
    pub(crate) fn access_token_unpresentable(metadata: &str, detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "token_presentation", "Malformed request", detail)
            .with_challenge("error=\"invalid_request\", ", metadata)
    }

    /// 403: the access token is valid, but does not grant this.
    pub(crate) fn not_granted(metadata: &str, detail: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_granted", "Forbidden", detail)
            .with_challenge("error=\"insufficient_scope\", ", metadata)
    }

    /// 403: pages of this origin may not do this.
    pub(crate) fn foreign_origin(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "foreign_origin", "Origin not allowed", detail)
    }

    /// 404: there is no such resource.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// 405: the resource supports only the methods in `allow`.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("the methods of this resource are {allow}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Method not allowed", detail)
            .with_header(ALLOW, HeaderValue::from_static(allow))
    }

    /// 406: the resource cannot send anything that the client accepts.
    pub fn not_acceptable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", "Not acceptable", detail)
    }

    /// 408: the body did not arrive in time.
    pub(crate) fn timeout(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "Request timeout", detail)
    }

    /// 409: something else is still in progress: a request with the same key, or the job itself.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail).with_retry_after(1)
    }

    /// 409: the state of the resource does not allow it.
    pub(crate) fn state(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, reason, "Conflict", detail)
    }

    /// 412 or 409: the state of a topic does not have the revision that a change names. The
    /// document has the revision that it has, and the state.
    #[must_use]
    pub(crate) fn state_changed(status: StatusCode, view: &View) -> Self {
        let detail = format!("the state has revision {}, not the one that was named", view.rev);
        let problem = Self::new(status, "state_changed", "The state has changed", detail);
        let state = serde_json::to_value(&view.state).unwrap_or_default();
        problem.with("rev", view.rev).with("state", state)
    }

    /// 410: the resource no longer exists.
    pub fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "gone", "Gone", detail)
    }

    /// 416: the range sent does not adjoin the existing `length` bytes.
    pub(crate) fn range(length: u64, detail: impl Into<String>) -> Self {
        let range = HeaderValue::try_from(format!("bytes */{length}"));
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "log_hole", "Range not satisfiable", detail)
            .with_header(CONTENT_RANGE, range.unwrap_or(HeaderValue::from_static("bytes */*")))
    }

    /// 415: the resource does not accept this media type.
    pub fn media_type(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media_type",
            "Unsupported media type",
            detail,
        )
    }

    /// 421: the host name is not one of this gateway's.
    pub(crate) fn misdirected(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", "Unknown host", detail)
    }

    /// 422: an idempotency key was already used for a different request.
    pub(crate) fn key_reused(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key_reused", "Key reused", detail)
    }

    /// 500: a fault of the gateway or of the application.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// 409: the client itself has cancelled what it asked for.
    pub(crate) fn cancelled(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "cancelled", "Cancelled", detail)
    }

    /// 500: it is not known whether a call was carried out.
    pub(crate) fn interrupted(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "interrupted", "Interrupted", detail)
    }

    /// 504: a call was not answered in time.
    pub fn no_reply(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "no_reply", "No reply", detail)
    }

    /// The problem that a client or a backend replied, with its status and its words.
    pub(crate) fn replied(document: &Value) -> Self {
        const LONGEST: usize = 2000;
        let status = document.get("status").and_then(Value::as_u64);
        let status = status.and_then(|it| u16::try_from(it).ok());
        let status = status.filter(|it| (400..600).contains(it));
        let status = status.and_then(|it| StatusCode::from_u16(it).ok());
        let words = document.get("detail").or_else(|| document.get("title"));
        let words = words.and_then(Value::as_str).unwrap_or("refused without a reason");
        let detail: String = words.chars().take(LONGEST).collect();
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, "replied", "Refused", detail)
    }

    /// 503: temporarily unavailable.
    pub fn unavailable(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, "Unavailable", detail)
            .with_retry_after(1)
    }

    /// Adds the exceeded limit.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.0.limit = Some(limit);
        self
    }

    /// Adds a further member to the document.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// The problem document.
    #[must_use]
    pub(crate) fn document(&self) -> Value {
        serde_json::to_value(self.as_document()).unwrap_or_default()
    }

    fn as_document(&self) -> ProblemDocument<'_> {
        ProblemDocument {
            kind: format!("urn:tidegate:problem:{}", self.0.reason.replace('_', "-")),
            title: self.0.title,
            status: self.0.status.as_u16(),
            detail: &self.0.detail,
            field: self.0.field.as_deref(),
            limit: self.0.limit,
            errors: &self.0.errors,
            instance: self.cause().map(|(_, instance)| instance),
            members: &self.0.members,
        }
    }

    fn with_field(mut self, field: String) -> Self {
        self.0.field = Some(field);
        self
    }

    /// Adds a member to the document.
    /// Returns the reason of the refusal, as a word for metrics and logs.
    #[must_use]
    pub(crate) fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// Whether the refusal is only for lack of a subscriber's seat.
    #[must_use]
    pub(crate) fn is_for_lack_of_room(&self) -> bool {
        matches!(self.0.reason, "subscribers" | "subscribers_per_address" | "strangers")
    }

    /// Returns the cause that only the log may contain, and the id by which the client knows the
    /// refusal.
    pub(crate) fn cause(&self) -> Option<(&str, &str)> {
        self.0.cause.as_ref().map(|it| (it.text.as_str(), it.instance.as_str()))
    }

    fn with_cause(mut self, text: String) -> Self {
        let instance = uuid::Uuid::new_v4().urn().to_string();
        self.0.cause = Some(Cause { text, instance });
        self
    }

    /// Non-empty `parameters` end with a comma.
    fn with_challenge(self, parameters: &str, metadata: &str) -> Self {
        let challenge = format!("Bearer {parameters}resource_metadata=\"{metadata}\"");
        let bare = HeaderValue::from_static("Bearer");
        self.with_header(WWW_AUTHENTICATE, HeaderValue::try_from(challenge).unwrap_or(bare))
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    pub(super) fn with_retry_after(self, seconds: u64) -> Self {
        self.with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }
}

impl From<NotUtf8> for Problem {
    fn from(error: NotUtf8) -> Self {
        Self::field(error.0.clone(), error.to_string())
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let reason = match error {
            PublishError::Overloaded => "overloaded",
            PublishError::History(error) => return error.into(),
            PublishError::Stopped => "stopping",
        };
        Self::unavailable(reason, error.to_string())
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        let (reason, advice) = match error {
            HistoryError::Unavailable(_) => ("history", "nothing was stored"),
            HistoryError::Unknown(_) => ("outcome_unknown", "it may be stored or not"),
            HistoryError::Stopped => return PublishError::Stopped.into(),
        };
        let detail =
            format!("{error}; {advice}: send the request again, with the same Idempotency-Key");
        Self::unavailable(reason, detail)
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Reused => Self::key_reused(error.to_string()),
            KeyError::InProgress => Self::conflict(error.to_string()),
            KeyError::Unreadable => Self::unavailable("history", error.to_string()),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(invalid) => Self::update(None, &invalid),
            Refused::Publish(error) => error.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.0.status);
        for header in &self.0.headers {
            response.insert_header(header.clone());
        }
        response.insert_header(("cache-control", "no-store"));
        response.insert_header(("x-content-type-options", "nosniff"));
        let body = serde_json::to_string(&self.as_document()).unwrap_or_default();
        response.content_type("application/problem+json").body(body)
    }
}

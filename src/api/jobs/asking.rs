//! Questions of jobs: workers ask them and wait for the answers, which people give on the page.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, REFERRER_POLICY},
    },
    web,
};
use serde_json::{Map, Value, json};
use tidegate_core::{
    event::Topic,
    jobs::{BadField, Job, JobError, Question, Refusal, read_answer, values_of_form},
};

use super::{
    page::{self, Attempt, Viewer},
    parameter, request, root, status,
    worker::report_on,
};
use crate::{
    gateway::Gateway,
    http::{accept::preferred, access, body, form, guard, preferred_wait, problem::Problem},
    listen::Peer,
    pages::NO_REFERRER,
    settings::Answers,
};

/// How much longer an answer may be as a form: every byte may be escaped.
const ESCAPED: usize = 3;

/// Bytes allowed around the values of an answer: names, quotes, line ends.
const ENVELOPE: usize = 4096;

/// `POST /jobs/{id}/ask`: a worker's question.
pub(super) async fn ask_job(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    access::publisher(&request).await?.check(&[Topic::of_job(&id)])?;
    let gateway = Gateway::of(&request);
    let lease = request::lease(&request)?;
    let limit = gateway.settings().jobs.ask_bytes;
    let question: Question = request::read(&request, payload, limit).await?;
    let name = question.name.clone();
    let job = gateway.tracker().ask(&id, lease, question).await?;
    Ok(told(&job, &name))
}

/// `GET /jobs/{id}/answers/{ask}`: a worker waits for the answer.
pub(super) async fn await_answer(
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, ask) = path.into_inner();
    access::publisher(&request).await?.check(&[Topic::of_job(&id)])?;
    let gateway = Gateway::of(&request);
    let longest = gateway.settings().jobs.max_wait;
    let lease = request::lease(&request)?;
    let wait = match parameter(&request, "wait")? {
        Some(seconds) => {
            let wait = seconds
                .parse()
                .map_err(|_| Problem::field("wait", "`wait` is not a whole number of seconds"))?;
            Some(std::time::Duration::from_secs(wait))
        }
        None => preferred_wait(&request),
    };
    let waiting = Peer::of(&request).waits(wait.unwrap_or_default().min(longest));
    let job = gateway.tracker().listen(&id, lease, ask.clone(), waiting).await?;
    Ok(told(&job, &ask))
}

/// Makes the response to a worker that asks or waits.
fn told(job: &Job, ask: &str) -> HttpResponse {
    let mut told = report_on(job);
    told["ask"] = json!(ask);
    told["answer"] = json!(job.answered(ask));
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(told)
}

/// `POST /jobs/{id}/answers/{ask}`: an answer, as a form or JSON. A form without scripts is
/// redirected to the page, or gets the page with what was wrong.
pub(super) async fn answer_job(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    guard::check_origin(&request)?;
    let (id, ask) = path.into_inner();
    let gateway = Gateway::of(&request);
    let job = gateway.tracker().job(&id).await?;
    if gateway.settings().jobs.answers_of(&job.kind) == Answers::Granted {
        access::publisher(&request).await?.check(&[Topic::of_answers(&id)])?;
    }
    let values = read(&request, payload, &gateway).await?;
    let wants_page = preferred(&request, &["application/json", "text/html"]) == Some("text/html");
    let outcome = submit(&request, &gateway, &job, &ask, values.clone()).await;
    match outcome {
        Ok(_) if wants_page => {
            let page = format!("{}/jobs/{id}", root(&request, &gateway));
            Ok(HttpResponse::SeeOther()
                .insert_header((LOCATION, page))
                .insert_header((REFERRER_POLICY, NO_REFERRER))
                .finish())
        }
        Ok(job) => Ok(status(&request, &mut HttpResponse::Ok(), &gateway, &job)),
        Err(refused) if wants_page => {
            let (status, attempt) = match refused {
                Refused::Fields(bad) => {
                    let job = gateway.tracker().job(&id).await?;
                    let typed = values.texts(&job, &ask);
                    (StatusCode::BAD_REQUEST, Attempt { typed, bad, note: None })
                }
                Refused::State(error @ (Refusal::Answered | Refusal::AskOver)) => {
                    let note = Some(late(&error));
                    (StatusCode::CONFLICT, Attempt { note, ..Attempt::default() })
                }
                other => return Err(other.into()),
            };
            let job = gateway.tracker().job(&id).await?;
            let viewer = Viewer::of(&request, &gateway, &job).await;
            page::with_attempt(&job, viewer, gateway.tracker().now().time, &attempt, status)
        }
        Err(refused) => Err(refused.into()),
    }
}

fn late(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Answered => "Another answer came first; it is shown below. Yours was not taken.",
        _ => "The question is over. Your answer was not taken.",
    }
}

/// An answer as it was sent.
#[derive(Debug, Clone)]
enum Given {
    Form(Vec<(String, String)>),
    Json(Map<String, Value>),
}

impl Given {
    /// Returns what was typed, for the page. Only values of the question's fields are shown again.
    fn texts(&self, job: &Job, ask: &str) -> Vec<(String, String)> {
        let Some(asked) = job.question(ask) else { return Vec::new() };
        let is_field =
            |(name, _): &(String, String)| asked.question.fields.iter().any(|it| it.name == *name);
        match self {
            Self::Form(pairs) => pairs.iter().filter(|it| is_field(it)).cloned().collect(),
            Self::Json(_) => Vec::new(),
        }
    }
}

/// Reads the body of an answer.
async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    gateway: &Gateway,
) -> Result<Given, Problem> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind = kind.and_then(|it| it.split(';').next()).unwrap_or_default().trim();
    let is_form = match kind.to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => true,
        "application/json" => false,
        _ => {
            let detail = "an answer is application/json or application/x-www-form-urlencoded";
            return Err(Problem::media_type(detail));
        }
    };
    let limit = ESCAPED * gateway.settings().jobs.answer_bytes + ENVELOPE;
    let body = body::receive(request, payload, limit).await?;
    if is_form {
        return Ok(Given::Form(form::pairs(&body).collect::<Result<_, _>>()?));
    }
    serde_json::from_slice(&body)
        .map(Given::Json)
        .map_err(|error| Problem::malformed(format!("the body: {error}")))
}

/// Why an answer was not taken.
enum Refused {
    Fields(Vec<BadField>),
    State(Refusal),
    Other(JobError),
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Fields(bad) => {
                Self::fields(bad.into_iter().map(|it| (it.field, it.detail)).collect())
            }
            Refused::State(refusal) => JobError::Refused(refusal).into(),
            Refused::Other(error) => error.into(),
        }
    }
}

async fn submit(
    request: &HttpRequest,
    gateway: &Gateway,
    job: &Job,
    ask: &str,
    given: Given,
) -> Result<Job, Refused> {
    let asked = job.question(ask).ok_or(Refused::State(Refusal::NotAsked))?;
    let given = match given {
        Given::Form(pairs) => values_of_form(&asked.question, pairs),
        Given::Json(values) => values,
    };
    let longest = gateway.settings().jobs.answer_bytes;
    let values = read_answer(&asked.question, given, longest).map_err(Refused::Fields)?;
    // Without a valid token the answerer is unknown.
    let by = access::visitor(request).await.ok().and_then(|it| it.user).map(String::from);
    let answered = gateway.tracker().answer(&job.id, ask.to_owned(), values, by).await;
    answered.map_err(|error| match error {
        JobError::Refused(refusal) => Refused::State(refusal),
        other => Refused::Other(other),
    })
}

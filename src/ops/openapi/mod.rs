//! `GET /openapi.json`: every address with its parameters, bodies and answers, for programs.
//!
//! The table of operations is kept by hand, beside the handlers that it describes. A debug build
//! panics at an answer that the table lacks, so tests find what is missing.

mod of_clients;
mod of_events;
mod of_jobs;
mod of_operators;
mod of_questions;
mod of_state;
mod operations;
#[cfg(test)]
mod page;
mod schema_parts;
mod schemas;
mod schemas_of_jobs;

use std::sync::LazyLock;

use actix_web::{
    HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode},
    middleware::Next,
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use utoipa::openapi::{
    Components, ComponentsBuilder, Content, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi,
    OpenApiBuilder, Paths, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
    SecurityRequirement, ServerBuilder,
    path::{OperationBuilder, ParameterBuilder},
    request_body::RequestBodyBuilder,
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    tag::TagBuilder,
};

use self::{
    operations::{Answer, COMMON, Operation, PROBLEM, TAGS},
    schemas::{named, parameter_schema, schemas},
};
use crate::http::{etag::revalidated, guard::QUERY};

/// The document and its entity tag, made once.
static DOCUMENT: LazyLock<(Bytes, String)> = LazyLock::new(|| {
    let json = document().to_json().expect("its maps have text as keys");
    let hash = Sha256::digest(&json);
    let tag = hash[..8].iter().fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
    (json.into(), format!("\"{tag}\""))
});

/// Handles `GET /openapi.json`, for all clients.
pub(crate) async fn describe(request: HttpRequest) -> HttpResponse {
    let (json, tag) = &*DOCUMENT;
    revalidated(&request, "application/json", tag, json.clone())
}

/// Panics at an answer that the document does not describe. For debug builds.
///
/// # Errors
/// Those of the wrapped service.
pub(crate) async fn assert_described<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let response = next.call(request).await?;
    let (method, status) = (response.request().method(), response.status());
    if let Some(pattern) = response.request().match_pattern() {
        assert!(
            describes(method, &pattern, status),
            "src/ops/openapi describes no {status} of {method} {pattern}"
        );
    }
    Ok(response)
}

/// Whether the table has this answer. An application may serve the routes below a path of its own.
fn describes(method: &Method, pattern: &str, status: StatusCode) -> bool {
    let known = all().filter(|it| pattern.ends_with(it.pattern));
    let longest = known.clone().map(|it| it.pattern.len()).max();
    let of_path: Vec<_> = known.filter(|it| Some(it.pattern.len()) == longest).collect();
    if of_path.is_empty() {
        return false;
    }
    let method = match method.as_str() {
        // For every path: the methods, or a preflight request.
        "OPTIONS" => return [200, 204, 400].contains(&status.as_u16()),
        "HEAD" | QUERY => "GET",
        other => other,
    };
    let mut same_method = of_path.iter().filter(|it| it.method == method).peekable();
    // What is not listed is answered so.
    let is_other = same_method.peek().is_none() && status == StatusCode::METHOD_NOT_ALLOWED;
    is_other || is_in(COMMON, status) || same_method.any(|it| is_in(it.answers, status))
}

/// Returns all operations.
fn all() -> impl Iterator<Item = &'static Operation> + Clone {
    let events = of_events::OPERATIONS.iter().chain(of_state::OPERATIONS);
    let jobs = of_jobs::OPERATIONS.iter().chain(of_questions::OPERATIONS);
    let of_work = of_clients::OPERATIONS.iter().chain(jobs);
    events.chain(of_work).chain(of_operators::OPERATIONS)
}

fn is_in(answers: &[Answer], status: StatusCode) -> bool {
    answers.iter().any(|it| it.status == status.as_u16())
}

fn document() -> OpenApi {
    let mut paths = Paths::new();
    for operation in all() {
        let method = match operation.method {
            "GET" => HttpMethod::Get,
            "PATCH" => HttpMethod::Patch,
            "PUT" => HttpMethod::Put,
            "DELETE" => HttpMethod::Delete,
            _ => HttpMethod::Post,
        };
        paths.add_path_operation(operation.path, vec![method], described(operation));
    }
    let tags = TAGS
        .iter()
        .map(|(name, what)| TagBuilder::new().name(*name).description(Some(*what)).build());
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0");
    let info = InfoBuilder::new()
        .title("tidegate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(env!("CARGO_PKG_DESCRIPTION")))
        .license(Some(license.identifier(Some("MIT OR Apache-2.0")).build()));
    let nothing = SecurityRequirement::default();
    let token = |name: &str| SecurityRequirement::new(name, Vec::<String>::new());
    OpenApiBuilder::new()
        .info(info.build())
        // Relative to the document, so it is right behind every proxy.
        .servers(Some([ServerBuilder::new().url(".").build()]))
        .tags(Some(tags))
        .paths(paths)
        .components(Some(components()))
        .security(Some([token("bearer"), token("cookie"), nothing]))
        .build()
}

fn components() -> Components {
    let cookie = ApiKeyValue::with_description(
        "__Secure-mercure_access_token",
        "The name is `auth.cookie`. A write also needs an allowed `Origin`.",
    );
    ComponentsBuilder::new()
        .schemas_from_iter(schemas())
        .security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)))
        .build()
}

fn described(operation: &Operation) -> utoipa::openapi::path::Operation {
    let mut made = OperationBuilder::new()
        .tag(operation.tag)
        .operation_id(Some(operation.id))
        .summary(Some(operation.summary))
        .description(Some(operation.description));
    for parameter in operation.parameters.iter().copied().flatten() {
        let required = if parameter.is_required { Required::True } else { Required::False };
        made = made.parameter(
            ParameterBuilder::new()
                .name(parameter.name)
                .parameter_in(parameter.place.clone())
                .required(required)
                .description(Some(parameter.what))
                .schema(Some(parameter_schema(parameter.kind))),
        );
    }
    if !operation.bodies.is_empty() {
        let mut body = RequestBodyBuilder::new().required(Some(Required::True));
        for (media_type, schema) in operation.bodies {
            body = body.content(*media_type, content(schema));
        }
        made = made.request_body(Some(body.build()));
    }
    for answer in operation.answers.iter().chain(COMMON) {
        made = made.response(answer.status.to_string(), answered(answer));
    }
    made.build()
}

fn answered(answer: &Answer) -> Response {
    let mut response = ResponseBuilder::new().description(answer.what);
    for (media_type, schema) in answer.contents {
        response = response.content(*media_type, content(schema));
    }
    if answer.is_problem {
        response = response.content(PROBLEM, content("Problem"));
    }
    response.build()
}

/// Content of a schema, or of text if there is none with this name.
fn content(schema: &str) -> Content {
    let schema: RefOr<Schema> = match named(schema) {
        true => Ref::from_schema_name(schema).into(),
        false => parameter_schema("string"),
    };
    Content::new(Some(schema))
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App,
        middleware::from_fn,
        test::{TestRequest, call_service, init_service},
        web,
    };
    use serde_json::Value;

    use super::*;

    #[actix_web::test]
    #[should_panic(expected = "describes no 418 I'm a teapot of GET /jobs/{id}")]
    async fn an_answer_that_is_not_described_does_not_get_through() {
        let scope = web::scope("")
            .service(web::resource("/jobs/{id}").to(async || HttpResponse::ImATeapot()))
            .wrap(from_fn(assert_described));
        let app = init_service(App::new().service(scope)).await;
        call_service(&app, TestRequest::get().uri("/jobs/1").to_request()).await;
    }

    #[test]
    fn the_document_is_consistent() {
        let json: Value = serde_json::from_slice(&DOCUMENT.0).expect("JSON");
        let text = json.to_string();
        let schemas = json["components"]["schemas"].as_object().expect("schemas");
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().expect("a name");
            assert!(schemas.contains_key(name), "{name}");
        }
        for name in schemas.keys() {
            assert!(text.contains(&format!("#/components/schemas/{name}\"")), "unused: {name}");
        }
        for operation in all() {
            let of_path = &json["paths"][operation.path][operation.method.to_lowercase()];
            assert_eq!(of_path["operationId"], operation.id, "each operation once");
            for name in operation.path.split('{').skip(1).filter_map(|it| it.split('}').next()) {
                let listed = of_path["parameters"].as_array().expect("a list");
                assert!(listed.iter().any(|it| it["name"] == name && it["in"] == "path"), "{name}");
            }
        }
    }

    #[test]
    fn answers_are_looked_up_by_the_longest_pattern() {
        let has = |method: &str, pattern, status| {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            describes(&method, pattern, StatusCode::from_u16(status).expect("a status"))
        };
        assert!(has("GET", "/jobs/{id}", 200) && has("HEAD", "/push/jobs/{id}", 410));
        assert!(!has("GET", "/jobs/{id}", 401) && has("GET", "/jobs", 401));
        assert!(has("DELETE", "/poll", 405) && !has("DELETE", "/poll", 200));
        assert!(!has("GET", "/elsewhere", 200));
    }
}

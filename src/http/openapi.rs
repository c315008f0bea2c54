//! `/openapi.json`, made from the table of routes.
//!
//! What a route is comes from its row, what it means from `about`, what its fields and answers look like from `schema`; the
//! shape of the document is `utoipa`'s.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::link::{Link, LinkBuilder};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, PathsBuilder};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ComponentsBuilder, Object, ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required};

use super::about::{About, about};
use super::answer::Failure;
use super::routes::{Handler, ROUTES, Route, Verb};
use super::schema::{self, Kind};
use crate::domain::Refusal;
use crate::engine::{KEY_BYTES_MAX, KEY_FIELD};

const JSON: &str = "application/json";
/// The scheme of the token, which has the name of its header.
const TOKEN: &str = "token";
/// What may come in place of any route's own answer.
const TRANSPORT: [u16; 5] = [400, 408, 413, 431, 503];
/// The groups of routes, and what belongs there.
const TAGS: [(&str, &str); 5] = [
    ("auth", "Accounts and tokens."),
    ("seller", "Stores, books, and the orders in them."),
    ("buyer", "Orders, payments, funds."),
    ("search", "Books by words."),
    ("operation", "For those who operate the service."),
];
const DESCRIPTION: &str = "A bookstore: accounts, stores, books, orders, payments.

Every route of the API is a `POST` with a JSON object in and out. The outcome code is the HTTP status and the field `code`; \
511 to 530 are business answers, no failures of the service. Every refusal leaves no trace, but a 503 that says `outcome \
unknown`. Money is an integer number of fen (1/100 yuan). `null` in an optional field means that it is missing; unknown \
fields are ignored. Routes with a password are authorised by it, others by the header `token` that `login` gives.

Every answer has the header `x-request-id`, by which the log of the service knows the request: the one of the request if it \
had one of 1 to 128 visible ASCII characters without quotes and backslashes, else a new one.";

impl Route {
    /// The name of the operation: `/buyer/new_order` is `buyer_new_order`.
    fn operation_id(&self) -> String {
        self.path.trim_start_matches('/').replace(['/', '.'], "_")
    }

    fn tag(&self) -> &'static str {
        let first = self.path.split('/').nth(1).unwrap_or_default();
        TAGS.iter().map(|(name, _)| *name).find(|name| *name == first).unwrap_or("operation")
    }

    /// Every code but 200 that the route can answer.
    fn codes(&self, about: &About) -> Vec<u16> {
        let mut codes = [&TRANSPORT[..], about.codes].concat();
        if !self.fields.is_empty() {
            codes.push(530);
        }
        // Who opens an account has no password yet that could be guessed.
        if self.handler != Handler::Register && self.fields.iter().any(|field| field.kind == Kind::Password) {
            codes.push(429);
        }
        if self.takes_key() {
            codes.push(422);
        }
        codes.sort_unstable();
        codes.dedup();
        codes
    }
}

/// The exact text of a business answer, with `{…}` for what stands there.
fn message(code: u16) -> Option<String> {
    let id = |name: &str| format!("{{{name}}}");
    let all = [
        Refusal::Unauthorized,
        Refusal::KeyReused,
        Refusal::NoUser(id("user_id")),
        Refusal::UserExists(id("user_id")),
        Refusal::NoStore(id("store_id")),
        Refusal::StoreExists(id("store_id")),
        Refusal::NoBook(id("book_id").into()),
        Refusal::BookExists(id("book_id").into()),
        Refusal::StockLow(id("book_id").into()),
        Refusal::NoOrder(id("order_id")),
        Refusal::InsufficientFunds(id("order_id")),
        Refusal::NotPaid(id("order_id")),
        Refusal::NotCancelable(id("order_id")),
        Refusal::NoStoreForUser(id("user_id")),
        Refusal::NotFound(id("keyword")),
        Refusal::NoStoreToSearch(id("store_id")),
        Refusal::NotFoundInStore { keyword: id("keyword"), store_id: id("store_id") },
        Refusal::OrderCanceled(id("order_id")),
        Refusal::OrderPaid(id("order_id")),
        Refusal::OrderConfirmed(id("order_id")),
        Refusal::OrderShipped(id("order_id")),
        Refusal::invalid("{field}", "{why}"),
    ];
    all.into_iter().find(|refusal| refusal.code() == code).map(|refusal| refusal.to_string())
}

/// What a code means and a message that comes with it.
fn meaning(code: u16) -> (&'static str, String) {
    let (meaning, text) = match code {
        400 => (
            "The request is malformed; of `pay_to_platform` also `order is already settled, order id {order_id}`",
            "malformed request body",
        ),
        401 => ("Wrong password or token, or something of somebody else", ""),
        408 => ("The request took too long", "request timeout: the body took too long"),
        413 => ("The body is too large", "body too large, at most 1048576 bytes"),
        422 => ("The idempotency key was used by this user on this route with other fields", ""),
        429 => ("Too much of it for now; nothing was done", "too many wrong passwords, try again in 60 s"),
        431 => ("The headers are too large", "headers too large"),
        503 => (
            "Overloaded or draining, and nothing was done; or `outcome unknown`, without `Retry-After`: it may have been done",
            "overloaded: too much to do; nothing was done",
        ),
        511 => ("No such user", ""),
        512 => ("The user id is taken", ""),
        513 => ("No such store; what would change it does not find a closed one either", ""),
        514 => ("The store id is taken", ""),
        515 => ("The store has no such book", ""),
        516 => ("The store has this book already", ""),
        517 => ("Fewer copies than asked for", ""),
        518 => ("No such order", ""),
        519 => ("The balance of who has to pay does not cover the order", ""),
        520 => ("The order is not paid, or canceled", ""),
        521 => ("The order is past the state in which this can be done", ""),
        522 => ("The user owns no store, or not this one", ""),
        523 => ("No book with these words", ""),
        524 => ("No such store to search in", ""),
        525 => ("No book with these words in the store", ""),
        526 => ("The order is canceled", ""),
        527 => ("The order is paid already", ""),
        528 => ("The order is confirmed already", ""),
        529 => ("The order is shipped already", ""),
        _ => ("A field that is wrong in itself or against the state, or any other failure", ""),
    };
    (meaning, if text.is_empty() { message(code).unwrap_or_default() } else { text.to_owned() })
}

/// The name of a refusal's shape.
fn refusal_name(failure: Failure) -> String {
    match schema::in_place(failure) {
        Some((member, _)) => format!("Refusal.{member}"),
        None => "Refusal".into(),
    }
}

/// The name of an answer among the components: equal answers of several routes are told once.
fn answer_name(code: u16, failure: Failure) -> String {
    refusal_name(failure).replace("Refusal", &code.to_string())
}

fn refused(code: u16, failure: Failure) -> Response {
    let (meaning, text) = meaning(code);
    // The one route with this failure value has no password.
    let text = match (code, failure) {
        (429, Failure::OrderId) => "too many pending orders, try again in 60 s".into(),
        _ => text,
    };
    let mut example = json!({"code": code, "message": text});
    if let (Some((name, value)), Value::Object(members)) = (schema::in_place(failure), &mut example) {
        members.insert(name, value);
    }
    let content =
        ContentBuilder::new().schema(Some(Ref::from_schema_name(refusal_name(failure)))).example(Some(example));
    let response = ResponseBuilder::new().description(meaning).content(JSON, content.build());
    let header =
        |kind, what: &str| HeaderBuilder::new().schema(Some(Object::with_type(kind))).description(Some(what)).build();
    let response = match code {
        401 => response.header("WWW-Authenticate", header(Type::String, "always `Token`")),
        429 | 503 => response.header("Retry-After", header(Type::Integer, "seconds after which to try again")),
        _ => response,
    };
    response.build()
}

fn succeeded(route: &Route, about: &About) -> Response {
    let response = ResponseBuilder::new().description("Done");
    let text = |what: &str| {
        ContentBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::String).description(Some(what))))
            .build()
    };
    let response = match route.handler {
        Handler::Metrics => {
            response.content("application/openmetrics-text; version=1.0.0; charset=utf-8", text("one counter a line"))
        }
        Handler::OpenApi => {
            let document = ObjectBuilder::new().required("openapi").required("paths");
            response.content(JSON, ContentBuilder::new().schema(Some(document)).build())
        }
        _ => response.content(
            JSON,
            ContentBuilder::new()
                .schema(Some(schema::success(route.failure, route.handler == Handler::AllStoreOrders)))
                .build(),
        ),
    };
    about
        .next
        .iter()
        .fold(response, |response, next| {
            let Some(target) = ROUTES.iter().find(|route| route.handler == *next) else { return response };
            response.link(target.operation_id(), RefOr::T(link(route, target)))
        })
        .build()
}

/// How the target is called with what the route was given and has answered.
fn link(route: &Route, target: &Route) -> Link {
    let answered = schema::in_place(route.failure).map(|(member, _)| member);
    let from = |name: &str| -> Option<Value> {
        if answered.as_deref() == Some(name) {
            return Some(format!("$response.body#/{name}").into());
        }
        if route.fields.iter().any(|field| field.name == name) {
            return Some(format!("$request.body#/{name}").into());
        }
        let is_listed = route.handler == Handler::AddBook;
        match name {
            "book_id" if is_listed => Some("$request.body#/book_info/id".into()),
            "books" if is_listed => Some(json!([{"id": "$request.body#/book_info/id", "count": 1}])),
            "oldPassword" => Some("$request.body#/password".into()),
            _ => None,
        }
    };
    let body: Map<_, _> =
        target.fields.iter().filter_map(|field| Some((field.name.to_owned(), from(field.name)?))).collect();
    let link = LinkBuilder::new().operation_id(target.operation_id()).request_body(Some(body));
    if !target.wants_token() {
        return link.build();
    }
    let token = if answered.as_deref() == Some(TOKEN) { "$response.body#/token" } else { "$request.header.token" };
    link.parameter("header.token", token).build()
}

fn request_body(route: &Route) -> Option<RequestBody> {
    if route.fields.is_empty() {
        return None;
    }
    let object = route.fields.iter().fold(ObjectBuilder::new(), |object, field| {
        let object = object.property(field.name, field.schema());
        if field.required { object.required(field.name) } else { object }
    });
    let example: Map<_, _> = route.fields.iter().map(|field| (field.name.to_owned(), field.example())).collect();
    let content = ContentBuilder::new().schema(Some(object)).example(Some(example.into()));
    Some(RequestBodyBuilder::new().required(Some(Required::True)).content(JSON, content.build()).build())
}

fn description(route: &Route, about: &About) -> String {
    let mut order: Vec<_> = about.codes.iter().map(u16::to_string).collect();
    if !route.fields.is_empty() {
        order.insert(0, "530 (a field)".into());
    }
    match order.len() {
        0 | 1 => about.rule.to_owned(),
        _ => format!("{}\n\nOrder of checks: {}.", about.rule, order.join(" → ")),
    }
}

fn operation(route: &Route, about: &About) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(route.operation_id()))
        .tag(route.tag())
        .summary(Some(about.title))
        .description(Some(description(route, about)))
        .request_body(request_body(route))
        .response("200", succeeded(route, about));
    for code in route.codes(about) {
        operation = operation.response(code.to_string(), Ref::from_response_name(answer_name(code, route.failure)));
    }
    if route.takes_key() {
        let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(KEY_BYTES_MAX));
        let why =
            "A repeat with the same key has no second effect and gets the same answer; with other fields it is a 422.";
        let key = ParameterBuilder::new()
            .name(KEY_FIELD)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .schema(Some(key.pattern(Some("^[!-~]+$"))))
            .description(Some(why));
        operation = operation.parameter(key);
    }
    if route.wants_token() {
        operation = operation.security(SecurityRequirement::new(TOKEN, [""; 0]));
    }
    operation
}

/// The routes of the document, with what it tells of them.
fn described() -> impl Iterator<Item = (&'static Route, About)> {
    ROUTES.iter().filter_map(|route| Some((route, about(route.handler)?)))
}

fn make() -> OpenApi {
    let mut paths = PathsBuilder::new();
    let mut components = schema::named()
        .into_iter()
        .fold(ComponentsBuilder::new(), |components, (name, schema)| components.schema(name, schema));
    let mut answers = BTreeMap::new();
    for (route, about) in described() {
        let method = match route.verb {
            Verb::Get => HttpMethod::Get,
            Verb::Post => HttpMethod::Post,
        };
        paths = paths.path(route.path, PathItem::new(method, operation(route, &about)));
        components = components.schema(refusal_name(route.failure), schema::refusal(route.failure));
        for code in route.codes(&about) {
            answers.entry(answer_name(code, route.failure)).or_insert_with(|| refused(code, route.failure));
        }
    }
    let components = answers.into_iter().fold(components, |all, (name, answer)| all.response(name, answer));
    let token = ApiKeyValue::with_description(
        TOKEN,
        "What `/auth/login` answers. With `--mode compat` it may be empty, but on logout.",
    );
    let components = components.security_scheme(TOKEN, SecurityScheme::ApiKey(ApiKey::Header(token)));
    let license = LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).identifier(Some(env!("CARGO_PKG_LICENSE")));
    let info = InfoBuilder::new()
        .title(env!("CARGO_PKG_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license.build()));
    let tags = TAGS.map(|(name, what)| TagBuilder::new().name(name).description(Some(what)).build());
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).tags(Some(tags)).build()
}

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| make().to_json().unwrap_or_default().into());

/// The document, made once.
pub(super) fn document() -> Bytes {
    DOCUMENT.clone()
}

/// The document as a person reads it.
pub(crate) fn pretty() -> String {
    make().to_pretty_json().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::routes::Authority;
    use super::*;

    #[test]
    fn every_route_is_in_the_document() {
        let json: Value = serde_json::from_slice(&document()).unwrap();
        for route in ROUTES {
            let is_described = !route.handler.is_page() && route.authority != Authority::Operator;
            assert_eq!(json["paths"][route.path].is_object(), is_described, "{}", route.path);
        }
        assert_eq!(json["paths"]["/buyer/new_order"]["post"]["parameters"][0]["name"], KEY_FIELD);
        assert_eq!(json["paths"]["/seller/ship"]["post"]["security"], json!([{"token": []}]));
        assert_eq!(json["paths"]["/buyer/payment"]["post"]["security"], Value::Null);
    }

    #[test]
    fn every_code_has_its_text() {
        for (route, about) in described() {
            for code in route.codes(&about) {
                assert!(!meaning(code).1.is_empty(), "{} {code}", route.path);
            }
        }
    }

    #[test]
    fn what_comes_next_has_all_it_needs_but_what_is_new() {
        let new = ["add_value", "add_stock_level", "price", "newPassword", "store_id", "book_info", "password"];
        for (route, about) in described() {
            for next in about.next {
                let target = ROUTES.iter().find(|target| target.handler == *next).unwrap();
                let link = serde_json::to_value(link(route, target)).unwrap();
                for field in target.fields.iter().filter(|field| field.required && !new.contains(&field.name)) {
                    assert!(
                        link["requestBody"][field.name] != Value::Null,
                        "{} → {}: {}",
                        route.path,
                        target.path,
                        field.name
                    );
                }
                if target.wants_token() {
                    assert!(route.wants_token() || route.handler == Handler::Login, "{} → {}", route.path, target.path);
                }
            }
        }
    }

    /// What was asked for lies among the sources, so that a change of the API is seen where it is judged.
    #[test]
    fn the_committed_document_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == format!("{}\n", pretty()),
            "docs/openapi.json is not what the code gives; renew it: cargo run -- openapi > docs/openapi.json"
        );
    }
}

//! `/openapi.json`, made from the table of routes.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::Failure;
use super::routes::{ROUTES, Route, Verb};
use crate::engine::{KEYWORD_BYTES_MAX, PAGE_SIZE_MAX};

/// A field of a request's body.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Id,
    Password,
    Text,
    /// A signed 64-bit integer.
    Integer,
    /// An integer of 0 or more.
    Amount,
    /// The lines of an order.
    Lines,
    BookInfo,
    Keyword,
    Flag,
    /// A page, from 1.
    Page,
    /// Elements of a page, 1 to 100.
    PageSize,
}

/// A field that must be there.
pub(super) const fn need(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

/// A field that may be missing or `null`.
pub(super) const fn may(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

impl Kind {
    fn schema(self) -> Value {
        match self {
            Kind::Id => json!({"type": "string", "minLength": 1, "maxLength": 256}),
            Kind::Password => json!({"type": "string", "format": "password", "minLength": 1, "maxLength": 1024}),
            Kind::Text => json!({"type": "string"}),
            Kind::Integer => json!({"type": "integer", "format": "int64"}),
            Kind::Amount => json!({"type": "integer", "format": "int64", "minimum": 0}),
            Kind::Lines => json!({"type": "array", "items": {
                "type": "object",
                "required": ["id", "count"],
                "properties": {
                    "id": Kind::Id.schema(),
                    "count": {"oneOf": [
                        {"type": "integer", "format": "int64", "minimum": 1},
                        {"type": "string", "pattern": "^[0-9]{1,18}$"},
                    ]},
                },
            }}),
            Kind::Keyword => json!({"type": "string", "minLength": 1, "maxLength": KEYWORD_BYTES_MAX}),
            Kind::Flag => json!({"type": "boolean", "default": false}),
            Kind::Page => json!({"type": "integer", "format": "int64", "minimum": 1, "default": 1}),
            Kind::PageSize => json!({"type": "integer", "minimum": 1, "maximum": PAGE_SIZE_MAX, "default": 20}),
            Kind::BookInfo => json!({
                "type": "object",
                "required": ["id", "title", "price"],
                "properties": {
                    "id": Kind::Id.schema(),
                    "title": {"type": "string", "minLength": 1},
                    "price": {"type": "integer", "format": "int64", "minimum": 0, "description": "fen"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "pictures": {"type": "array", "items": {"type": "string", "format": "byte"}},
                },
                "additionalProperties": true,
            }),
        }
    }
}

/// The results that a route gives beside code and message.
fn results_of(failure: Failure) -> Vec<(&'static str, Value)> {
    let order = json!({"type": "object", "properties": {
        "order_id": {"type": "string"}, "user_id": {"type": "string"}, "store_id": {"type": "string"},
        "status": {"type": "string"}, "total_price": {"type": "integer", "format": "int64"},
        "created_time": {"type": "string", "format": "date-time"}, "is_paid": {"type": "boolean"},
        "is_shipped": {"type": "boolean"}, "is_received": {"type": "boolean"}, "order_completed": {"type": "boolean"},
        "books": {"type": "array", "items": {"type": "object", "properties": {
            "id": {"type": "string"}, "count": {"type": "integer"}, "price": {"type": "integer"},
        }}},
    }});
    let list = json!({"type": "array", "items": order});
    match failure {
        Failure::Nothing => vec![],
        Failure::Token => vec![("token", json!({"type": "string"}))],
        Failure::OrderId => vec![("order_id", json!({"type": "string", "format": "uuid"}))],
        Failure::OrderStatus => {
            let words = ["pending", "paid", "shipped", "received", "completed", "canceled", "None"];
            vec![("order_status", json!({"type": "string", "enum": words}))]
        }
        Failure::Orders => {
            vec![("orders", json!({"oneOf": [list, {"type": "object", "additionalProperties": list}]}))]
        }
        Failure::StockLevel => vec![("stock_level", Kind::Integer.schema())],
        Failure::OrderCount => vec![("order_count", Kind::Integer.schema())],
        Failure::Balance => vec![("balance", Kind::Integer.schema())],
        Failure::Book => vec![("book_info", Kind::BookInfo.schema()), ("stock_level", Kind::Integer.schema())],
        Failure::Books | Failure::BooksAsMessage => vec![
            ("books", found_books()),
            ("total", Kind::Integer.schema()),
            ("page", Kind::Integer.schema()),
            ("page_size", Kind::Integer.schema()),
        ],
    }
}

/// Books without pictures, each with its store and stock level.
fn found_books() -> Value {
    let mut book = Kind::BookInfo.schema();
    if let Some(properties) = book["properties"].as_object_mut() {
        properties.remove("pictures");
        properties.insert("store_id".into(), Kind::Id.schema());
        properties.insert("stock_level".into(), Kind::Integer.schema());
    }
    json!({"type": "array", "items": book})
}

fn answer_schema(failure: Failure) -> Value {
    let mut properties = Map::new();
    properties.insert("code".into(), json!({"type": "integer"}));
    let message = if failure == Failure::BooksAsMessage { found_books() } else { json!({"type": "string"}) };
    properties.insert("message".into(), message);
    for (name, schema) in results_of(failure) {
        properties.insert(name.into(), schema);
    }
    json!({"type": "object", "required": ["code", "message"], "properties": properties})
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "responses": {
            "200": {
                "description": "ok",
                "content": {"application/json": {"schema": answer_schema(route.failure)}},
            },
            "default": {
                "description": "the outcome code is the status and the field `code`; 511 to 530 are business answers",
                "content": {"application/json": {"schema": answer_schema(Failure::Nothing)}},
            },
        },
    });
    if !route.fields.is_empty() {
        let properties: Map<_, _> =
            route.fields.iter().map(|field| (field.name.to_owned(), field.kind.schema())).collect();
        let required: Vec<_> = route.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
        let schema = json!({"type": "object", "required": required, "properties": properties});
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    if route.wants_token() {
        operation["parameters"] =
            json!([{"name": "token", "in": "header", "required": true, "schema": {"type": "string"}}]);
    }
    operation
}

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let paths: Map<_, _> = ROUTES
        .iter()
        .map(|route| {
            let verb = match route.verb {
                Verb::Get => "get",
                Verb::Post => "post",
            };
            (route.path.to_owned(), json!({verb: operation(route)}))
        })
        .collect();
    let info = json!({"title": "bookstore", "version": env!("CARGO_PKG_VERSION")});
    Bytes::from(json!({"openapi": "3.0.3", "info": info, "paths": paths}).to_string())
});

/// The document, made once.
pub(super) fn document() -> Bytes {
    DOCUMENT.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Config, Engine};
    use crate::http::HttpConfig;
    use crate::http::routes::Call;
    use crate::http::server::Shared;

    fn sample(kind: Kind) -> Value {
        match kind {
            Kind::Id | Kind::Password | Kind::Text => json!("x"),
            Kind::Integer | Kind::Amount => json!(1),
            Kind::Lines => json!([{"id": "b", "count": 1}]),
            Kind::BookInfo => json!({"id": "b", "title": "t", "price": 1}),
            Kind::Keyword => json!("x"),
            Kind::Flag => json!(false),
            Kind::Page | Kind::PageSize => json!(1),
        }
    }

    async fn message(shared: &Shared, route: &Route, body: &Map<String, Value>) -> String {
        let body = Value::Object(body.clone()).to_string();
        let peer = None;
        let reply = route.run(Call { shared, body: body.as_bytes(), token: "", peer }).await;
        let json: Value = serde_json::from_slice(reply.json_body()).unwrap();
        json["message"].as_str().unwrap().to_owned()
    }

    /// The handlers and the table must agree on the fields, else the document lies.
    #[tokio::test]
    async fn the_fields_are_those_of_the_handlers() {
        let shared = Shared::new(Engine::open(Config::memory()).await.unwrap(), HttpConfig::default());
        for route in ROUTES.iter().filter(|route| !route.fields.is_empty()) {
            let full: Map<_, _> =
                route.fields.iter().map(|field| (field.name.to_owned(), sample(field.kind))).collect();
            let accepted = message(&shared, route, &full).await;
            assert!(!accepted.starts_with("invalid parameter"), "{}: {accepted}", route.path);
            for field in route.fields {
                let mut body = full.clone();
                body.insert(field.name.into(), Value::Null);
                let missing = format!("invalid parameter {}: is missing", field.name);
                assert_eq!(message(&shared, route, &body).await == missing, field.required, "{}", route.path);
                body.insert(field.name.into(), if field.kind == Kind::Flag { json!(1) } else { json!(true) });
                let wrong = message(&shared, route, &body).await;
                assert!(wrong.starts_with(&format!("invalid parameter {}: ", field.name)), "{}: {wrong}", route.path);
            }
        }
    }

    #[test]
    fn every_route_is_in_the_document() {
        let json: Value = serde_json::from_slice(&document()).unwrap();
        for route in ROUTES {
            assert!(json["paths"][route.path].is_object(), "{}", route.path);
        }
        assert_eq!(json["paths"]["/seller/ship"]["post"]["parameters"][0]["name"], "token");
    }
}

//! `/openapi.json`, made from the table of routes.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::Failure;
use super::routes::{ROUTES, Route, Verb};

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

/// The result that a route gives beside code and message.
fn result_of(failure: Failure) -> Option<(&'static str, Value)> {
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
        Failure::Nothing => None,
        Failure::Token => Some(("token", json!({"type": "string"}))),
        Failure::OrderId => Some(("order_id", json!({"type": "string", "format": "uuid"}))),
        Failure::OrderStatus => Some((
            "order_status",
            json!({"type": "string", "enum": ["pending", "paid", "shipped", "received", "completed", "canceled", "None"]}),
        )),
        Failure::Orders => Some(("orders", json!({"oneOf": [list, {"type": "object", "additionalProperties": list}]}))),
        Failure::StockLevel => Some(("stock_level", Kind::Integer.schema())),
        Failure::OrderCount => Some(("order_count", Kind::Integer.schema())),
        Failure::Balance => Some(("balance", Kind::Integer.schema())),
    }
}

fn answer_schema(failure: Failure) -> Value {
    let mut properties = Map::new();
    properties.insert("code".into(), json!({"type": "integer"}));
    properties.insert("message".into(), json!({"type": "string"}));
    if let Some((name, schema)) = result_of(failure) {
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
                body.insert(field.name.into(), json!(true));
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

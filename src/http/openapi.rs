//! `/openapi.json`, made from the table of routes.

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::Failure;
use super::routes::{ROUTES, Route, Verb};
use super::schema::Kind;
use crate::engine::{KEY_BYTES_MAX, KEY_FIELD};

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
    let list = json!({"type": "array", "items": order.clone()});
    match failure {
        Failure::Nothing => vec![],
        Failure::Token => vec![("token", json!({"type": "string"}))],
        Failure::OrderId => vec![("order_id", json!({"type": "string", "format": "uuid"}))],
        Failure::OrderStatus => {
            let words = ["pending", "paid", "shipped", "received", "completed", "canceled", "None"];
            vec![("order_status", json!({"type": "string", "enum": words}))]
        }
        Failure::Order => {
            let mut order = order;
            add_way(&mut order["properties"]);
            vec![("order", order)]
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

/// What a single order tells beside what a list of orders does.
fn add_way(order: &mut Value) {
    let time = |nullable: bool| json!({"type": "string", "format": "date-time", "nullable": nullable});
    let step = json!({"type": "object", "nullable": true, "required": ["time", "by"], "properties": {
        "time": time(false), "by": {"type": "string", "enum": ["buyer", "seller", "deadline"]},
    }});
    let steps = ["placed", "paid", "shipped", "extended", "confirmed", "canceled"];
    let history: Map<_, _> = steps.into_iter().map(|name| (name.to_owned(), step.clone())).collect();
    order["paid_to"] = json!({"type": "string", "enum": ["seller", "platform"], "nullable": true});
    order["deadline"] = time(false);
    order["confirm_deadline"] = time(true);
    order["history"] = json!({"type": "object", "properties": history});
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
    let mut headers = vec![];
    if route.wants_token() {
        headers.push(json!({"name": "token", "in": "header", "required": true, "schema": {"type": "string"}}));
    }
    if route.takes_key() {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX, "pattern": "^[!-~]+$"});
        let why = "a repeat with the same key has no second effect; with other fields it is a 422";
        let key = json!({"name": KEY_FIELD, "in": "header", "required": false, "schema": schema, "description": why});
        headers.push(key);
    }
    if !headers.is_empty() {
        operation["parameters"] = Value::Array(headers);
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

    #[test]
    fn every_route_is_in_the_document() {
        let json: Value = serde_json::from_slice(&document()).unwrap();
        for route in ROUTES {
            assert!(json["paths"][route.path].is_object(), "{}", route.path);
        }
        assert_eq!(json["paths"]["/buyer/new_order"]["post"]["parameters"][1]["name"], KEY_FIELD);
        assert_eq!(json["paths"]["/seller/ship"]["post"]["parameters"][0]["name"], "token");
    }
}

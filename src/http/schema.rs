//! The fields of requests, as the table of routes and `/openapi.json` tell them.

use serde_json::{Value, json};

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
    /// As JSON Schema.
    pub(super) fn schema(self) -> Value {
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

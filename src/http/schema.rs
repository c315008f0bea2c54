//! The fields of requests and of answers, as the table of routes and `/openapi.json` tell them.

use serde_json::{Map, Value, json};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat,
    SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};

use super::answer::Failure;
use super::fields::{ID_BYTES_MAX, PASSWORD_BYTES_MAX};
use crate::engine::{KEYWORD_BYTES_MAX, PAGE_SIZE_MAX};

/// No control characters, which an id must not have.
const ID_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";
/// A `count` that is sent as a string.
const COUNT_PATTERN: &str = "^0{0,17}[1-9][0-9]{0,17}$";
const COUNT_DIGITS_MAX: usize = 18;

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

impl Field {
    /// As JSON Schema.
    pub(super) fn schema(&self) -> RefOr<Schema> {
        let of_type = |kind| match self.required {
            true => SchemaType::new(kind),
            false => or_null(kind),
        };
        let whole = || integer().schema_type(of_type(Type::Integer));
        let text = || ObjectBuilder::new().schema_type(of_type(Type::String));
        let object = match self.kind {
            // One that may be missing may be empty as well.
            Kind::Id if !self.required => {
                text().max_length(Some(ID_BYTES_MAX)).description(Some("as any id, or empty"))
            }
            Kind::Id => id(),
            Kind::Password => text()
                .format(known(KnownFormat::Password))
                .min_length(Some(1))
                .max_length(Some(PASSWORD_BYTES_MAX))
                .description(Some(format!("1 to {PASSWORD_BYTES_MAX} bytes of UTF-8"))),
            Kind::Text => text(),
            Kind::Integer => whole(),
            Kind::Amount if !self.required => whole().minimum(Some(0)).default(Some(json!(0))),
            Kind::Amount => whole().minimum(Some(0)),
            Kind::Lines => {
                let lines = ArrayBuilder::new().items(Ref::from_schema_name("Line")).min_items(Some(1));
                return lines.description(Some("at most 1,000 lines unless the operator has set another limit")).into();
            }
            Kind::BookInfo => return Ref::from_schema_name("BookInfo").into(),
            Kind::Keyword => text()
                .min_length(Some(1))
                .max_length(Some(KEYWORD_BYTES_MAX))
                .description(Some(format!("1 to {KEYWORD_BYTES_MAX} bytes of UTF-8"))),
            Kind::Flag => ObjectBuilder::new().schema_type(of_type(Type::Boolean)).default(Some(json!(false))),
            Kind::Page => whole().minimum(Some(1)).default(Some(json!(1))),
            Kind::PageSize => whole().minimum(Some(1)).maximum(Some(PAGE_SIZE_MAX)).default(Some(json!(20))),
        };
        object.into()
    }

    /// A value that fits.
    pub(super) fn example(&self) -> Value {
        match (self.name, self.kind) {
            ("user_id", _) => json!("anna"),
            ("store_id", _) => json!("corner"),
            ("book_id", _) => json!("1000067"),
            ("order_id", _) => json!("018bcfe5-687b-7000-8000-000000000001"),
            ("newPassword", _) => json!("an0ther"),
            ("terminal", _) => json!("phone"),
            ("search_scope", _) => json!("title"),
            ("add_value", _) => json!(100_000),
            ("price", _) => json!(3_880),
            (_, Kind::Id | Kind::Text) => json!("text"),
            (_, Kind::Password) => json!("pa55word"),
            (_, Kind::Integer | Kind::Amount) => json!(10),
            (_, Kind::Lines) => json!([{"id": "1000067", "count": 2}]),
            (_, Kind::BookInfo) => json!({"id": "1000067", "title": "美丽心灵", "price": 3_880, "tags": ["传记"]}),
            (_, Kind::Keyword) => json!("心灵"),
            (_, Kind::Flag) => json!(false),
            (_, Kind::Page) => json!(1),
            (_, Kind::PageSize) => json!(20),
        }
    }
}

/// The schemas that others refer to by name.
pub(super) fn named() -> Vec<(&'static str, RefOr<Schema>)> {
    vec![
        ("Line", line().into()),
        ("BookInfo", book_info().into()),
        ("FoundBook", found_book().into()),
        ("Order", order().into()),
        ("OrderWithWay", order_with_way().into()),
        ("Step", step().into()),
    ]
}

/// What a route gives with a 200; lists of orders for each store, or one.
pub(super) fn success(failure: Failure, by_store: bool) -> Object {
    let ok = text().enum_values(Some(["ok"])).into();
    let message = if failure == Failure::BooksAsMessage { list_of("FoundBook") } else { ok };
    let code = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([200]));
    let mut members = vec![("code", code.into()), ("message", message)];
    match failure {
        Failure::Nothing => {}
        Failure::Token => members.push(("token", text().into())),
        Failure::OrderId => members.push(("order_id", order_id())),
        Failure::OrderStatus => members.push(("order_status", status())),
        Failure::Order => members.push(("order", Ref::from_schema_name("OrderWithWay").into())),
        Failure::Orders if by_store => {
            let lists = AdditionalProperties::RefOr(list_of("Order"));
            members.push(("orders", ObjectBuilder::new().additional_properties(Some(lists)).into()));
        }
        Failure::Orders => members.push(("orders", list_of("Order"))),
        Failure::StockLevel => members.push(("stock_level", amount())),
        Failure::OrderCount => members.push(("order_count", amount())),
        Failure::Balance => members.push(("balance", amount())),
        Failure::Book => members.extend([
            ("book_info", Ref::from_schema_name("BookInfo").into()),
            ("stock_level", amount()),
            ("is_listed", flag_that("it can be ordered and found")),
        ]),
        Failure::Books | Failure::BooksAsMessage => members.extend([
            ("books", list_of("FoundBook")),
            ("total", amount()),
            ("page", integer().minimum(Some(1)).into()),
            ("page_size", integer().minimum(Some(1)).into()),
        ]),
    }
    with(ObjectBuilder::new(), members).build()
}

/// What a route gives in place of its result with any other answer: the member and its value.
pub(super) fn in_place(failure: Failure) -> Option<(String, Value)> {
    let member = format!("{{{}}}", failure.member().trim_start_matches(','));
    let member: Map<String, Value> = serde_json::from_str(&member).ok()?;
    member.into_iter().next()
}

/// The shape of any answer but a 200.
pub(super) fn refusal(failure: Failure) -> Object {
    let code = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(400)).maximum(Some(599));
    let object = with(ObjectBuilder::new(), vec![("code", code.into()), ("message", text().into())]);
    let Some((name, value)) = in_place(failure) else { return object.build() };
    let kind = if value.is_string() { Type::String } else { Type::Integer };
    let schema = ObjectBuilder::new().schema_type(kind).enum_values(Some([value]));
    with(object, vec![(name.as_str(), schema.into())]).build()
}

/// Adds properties that are always there.
fn with(object: ObjectBuilder, properties: Vec<(&str, RefOr<Schema>)>) -> ObjectBuilder {
    properties.into_iter().fold(object, |object, (name, schema)| object.property(name, schema).required(name))
}

fn known(format: KnownFormat) -> Option<SchemaFormat> {
    Some(SchemaFormat::KnownFormat(format))
}

fn id() -> ObjectBuilder {
    text()
        .min_length(Some(1))
        .max_length(Some(ID_BYTES_MAX))
        .pattern(Some(ID_PATTERN))
        .description(Some(format!("1 to {ID_BYTES_MAX} bytes of UTF-8 without control characters")))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn integer() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).format(known(KnownFormat::Int64))
}

fn amount() -> RefOr<Schema> {
    integer().minimum(Some(0)).into()
}

fn or_null(kind: Type) -> SchemaType {
    SchemaType::from_iter([kind, Type::Null])
}

fn flag_that(what: &str) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::Boolean).description(Some(what)).into()
}

fn order_id() -> RefOr<Schema> {
    text().format(Some(SchemaFormat::Custom("uuid".into()))).into()
}

fn time() -> RefOr<Schema> {
    text().format(known(KnownFormat::DateTime)).description(Some("RFC 3339, UTC")).into()
}

fn status() -> RefOr<Schema> {
    text().enum_values(Some(["pending", "paid", "shipped", "received", "completed", "canceled"])).into()
}

fn list_of(name: &str) -> RefOr<Schema> {
    ArrayBuilder::new().items(Ref::from_schema_name(name)).into()
}

fn line() -> ObjectBuilder {
    let digits = text().pattern(Some(COUNT_PATTERN)).max_length(Some(COUNT_DIGITS_MAX));
    let count = OneOfBuilder::new().item(integer().minimum(Some(1))).item(digits);
    let object = ObjectBuilder::new().description(Some("A book and how many copies, as a number or as digits"));
    with(object, vec![("id", id().into()), ("count", count.into())])
}

/// A `book_info` but for its pictures.
fn book() -> ObjectBuilder {
    let price = integer().minimum(Some(0)).description(Some("fen (1/100 yuan)"));
    let object = with(
        ObjectBuilder::new(),
        vec![("id", id().into()), ("title", text().min_length(Some(1)).into()), ("price", price.into())],
    );
    let texts = [
        "author",
        "publisher",
        "original_title",
        "translator",
        "pub_year",
        "currency_unit",
        "binding",
        "isbn",
        "author_intro",
        "book_intro",
        "content",
    ];
    let object = texts
        .into_iter()
        .fold(object, |object, name| object.property(name, ObjectBuilder::new().schema_type(or_null(Type::String))));
    object
        .property("pages", integer().schema_type(or_null(Type::Integer)))
        .property("tags", ArrayBuilder::new().schema_type(or_null(Type::Array)).items(text()))
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
}

fn book_info() -> ObjectBuilder {
    let pictures = ArrayBuilder::new().schema_type(or_null(Type::Array)).items(text().content_encoding("base64"));
    let object = book().property("pictures", pictures);
    object.description(Some("A book; keys that are not named here are kept and given back"))
}

fn found_book() -> ObjectBuilder {
    let object = book().description(Some("A book without its pictures, in one store"));
    with(object, vec![("store_id", id().into()), ("stock_level", amount())])
}

fn order() -> ObjectBuilder {
    let line = vec![("id", id().into()), ("count", integer().minimum(Some(1)).into()), ("price", amount())];
    let line = with(ObjectBuilder::new(), line);
    let lines = ArrayBuilder::new().items(line);
    let total = integer().minimum(Some(0)).description(Some("fen"));
    let paid = flag_that("paid, shipped or completed");
    let members = vec![
        ("order_id", order_id()),
        ("user_id", id().into()),
        ("store_id", id().into()),
        ("status", status()),
        ("total_price", total.into()),
        ("created_time", time()),
        ("is_paid", paid),
        ("is_shipped", flag_that("`ship` answered 200")),
        ("is_received", flag_that("confirmed")),
        ("order_completed", flag_that("confirmed")),
        ("books", lines.into()),
    ];
    with(ObjectBuilder::new(), members)
}

/// What a single order tells beside what a list of orders does.
fn order_with_way() -> ObjectBuilder {
    let steps = ["placed", "paid", "shipped", "extended", "confirmed", "canceled"];
    let way = steps.into_iter().map(|name| {
        let step = OneOfBuilder::new().item(Ref::from_schema_name("Step")).item(Object::with_type(Type::Null));
        (name, step.into())
    });
    let history = with(ObjectBuilder::new(), way.collect());
    let words = [json!("seller"), json!("platform"), Value::Null];
    let paid_to = ObjectBuilder::new().schema_type(or_null(Type::String)).enum_values(Some(words));
    let confirmed = ObjectBuilder::new().schema_type(or_null(Type::String)).format(known(KnownFormat::DateTime));
    let confirmed = confirmed.description(Some("when it is confirmed by itself"));
    let members = vec![
        ("paid_to", paid_to.into()),
        ("deadline", time()),
        ("confirm_deadline", confirmed.into()),
        ("history", history.into()),
    ];
    with(order(), members).description(Some("An order and when what happened to it, and by whom"))
}

fn step() -> ObjectBuilder {
    let by = text().enum_values(Some(["buyer", "seller", "deadline"]));
    with(ObjectBuilder::new(), vec![("time", time()), ("by", by.into())])
}

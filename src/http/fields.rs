//! Typed extraction of a body's fields.
//!
//! A body is first split into its known fields as raw JSON text, then each field is parsed by itself, so that a
//! failure names its field and the first bad one is the answer. Unknown fields are ignored; of a field that
//! comes twice the last one counts. Nothing here recurses, so deep nesting cannot overflow the stack.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::Refusal;
use crate::engine::{KEYWORD_BYTES_MAX, has_control};

/// Bytes of an id.
pub(super) const ID_BYTES_MAX: usize = 256;
/// Bytes of a password.
pub(super) const PASSWORD_BYTES_MAX: usize = 1_024;
/// Digits of a `count` that is sent as a string.
const COUNT_DIGITS_MAX: usize = 18;
/// Levels of lists and objects in a `book_info`. Clients' JSON readers have such a limit, too.
const NESTING_MAX: usize = 64;

/// A field as it stands in the body, `None` when it is missing.
pub(crate) type Raw<'a> = Option<&'a RawValue>;
/// A value, or a 530 that names its field.
pub(crate) type Extracted<T> = Result<T, Refusal>;

/// A key of an object, borrowed unless it holds escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Defines an object with known fields. Derived code would not do: it takes lists for objects and refuses
/// repeated fields.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($field:ident = $key:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name<'a> { $(pub(super) $field: Option<&'a RawValue>),+ }

        impl<'de> Deserialize<'de> for $name<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ObjectVisitor;
                impl<'de> Visitor<'de> for ObjectVisitor {
                    type Value = $name<'de>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        let mut object = $name::default();
                        while let Some(Key(key)) = map.next_key()? {
                            match &*key {
                                $($key => object.$field = Some(map.next_value()?),)+
                                _ => { map.next_value::<IgnoredAny>()?; }
                            }
                        }
                        Ok(object)
                    }
                }
                deserializer.deserialize_map(ObjectVisitor)
            }
        }
    };
}

object! {
    /// The fields of every route but those below.
    Common {
        user_id = "user_id", store_id = "store_id", order_id = "order_id", book_id = "book_id",
        password = "password", old_password = "oldPassword", new_password = "newPassword", terminal = "terminal",
        add_value = "add_value", add_stock_level = "add_stock_level", price = "price",
    }
}
object! {
    /// The body of `add_book`.
    AddBook { user_id = "user_id", store_id = "store_id", book_info = "book_info", stock_level = "stock_level" }
}
object! {
    /// The known fields of a `book_info`.
    BookInfo {
        id = "id", title = "title", price = "price", author = "author", publisher = "publisher",
        original_title = "original_title", translator = "translator", pub_year = "pub_year",
        currency_unit = "currency_unit", binding = "binding", isbn = "isbn", author_intro = "author_intro",
        book_intro = "book_intro", content = "content", pages = "pages", tags = "tags", pictures = "pictures",
    }
}
object! {
    /// The body of `new_order`.
    NewOrder { user_id = "user_id", store_id = "store_id", books = "books" }
}
object! {
    /// The body of a search.
    SearchBody {
        keyword = "keyword", search_scope = "search_scope", search_in_store = "search_in_store", store_id = "store_id",
        page = "page", page_size = "page_size",
    }
}
object! {
    /// An element of `books`.
    Line { id = "id", count = "count" }
}

/// Splits a body into its fields.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Extracted<T> {
    let text = std::str::from_utf8(body).map_err(|_invalid| Refusal::invalid("body", "must be UTF-8"))?;
    serde_json::from_str(text).map_err(|error| {
        let is_object = text.trim_start().starts_with('{');
        if is_object { Refusal::invalid("body", format!("malformed JSON: {error}")) } else { not_an_object("body") }
    })
}

fn not_an_object(field: &'static str) -> Refusal {
    Refusal::invalid(field, "must be a JSON object")
}

/// A field that must be there. `null` is as good as missing.
pub(crate) fn required<'a>(raw: Raw<'a>, field: &'static str) -> Extracted<&'a RawValue> {
    given(raw).ok_or_else(|| Refusal::invalid(field, "is missing"))
}

/// `null` in an optional field means absent.
fn given(raw: Raw<'_>) -> Raw<'_> {
    raw.filter(|raw| raw.get() != "null")
}

/// A string of any content.
pub(crate) fn text<'a>(raw: &'a RawValue, field: &'static str) -> Extracted<Cow<'a, str>> {
    let quoted = raw.get();
    let inner = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or_else(|| Refusal::invalid(field, "must be a string"))?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(quoted)
        .map(Cow::Owned)
        .map_err(|error| Refusal::invalid(field, format!("must be a string of Unicode: {error}")))
}

/// A string that is not empty, of any length.
pub(crate) fn required_text<'a>(raw: Raw<'a>, field: &'static str) -> Extracted<Cow<'a, str>> {
    let text = text(required(raw, field)?, field)?;
    if text.is_empty() { Err(Refusal::invalid(field, "must not be empty")) } else { Ok(text) }
}

/// An id: 1 to 256 bytes without control characters.
pub(crate) fn id<'a>(raw: Raw<'a>, field: &'static str) -> Extracted<Cow<'a, str>> {
    let id = required_text(raw, field)?;
    if id.len() > ID_BYTES_MAX {
        return Err(Refusal::invalid(field, format!("must be at most {ID_BYTES_MAX} bytes long")));
    }
    if has_control(&id) {
        return Err(Refusal::invalid(field, "must not contain control characters"));
    }
    Ok(id)
}

/// A password: 1 to 1,024 bytes.
pub(crate) fn password<'a>(raw: Raw<'a>, field: &'static str) -> Extracted<Cow<'a, str>> {
    let password = required_text(raw, field)?;
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Refusal::invalid(field, format!("must be at most {PASSWORD_BYTES_MAX} bytes long")));
    }
    Ok(password)
}

/// A string that may be missing, `null` or empty.
pub(super) fn optional_text<'a>(raw: Raw<'a>, field: &'static str) -> Extracted<Cow<'a, str>> {
    given(raw).map_or(Ok(Cow::Borrowed("")), |raw| text(raw, field))
}

/// An id that may be missing, `null` or empty; if it is there it keeps the rules.
pub(super) fn optional_id<'a>(raw: Raw<'a>, field: &'static str) -> Extracted<()> {
    if !optional_text(given(raw), field)?.is_empty() {
        id(raw, field)?;
    }
    Ok(())
}

/// A signed 64-bit integer, written as one.
pub(crate) fn integer(raw: Raw<'_>, field: &'static str) -> Extracted<i64> {
    to_integer(required(raw, field)?, field)
}

fn to_integer(raw: &RawValue, field: &'static str) -> Extracted<i64> {
    let text = raw.get();
    // JSON has no leading zeros and no plus sign, so what is left to be refused are fractions, exponents,
    // other types and what does not fit.
    text.parse().map_err(|_refused| {
        let is_integer = text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit());
        Refusal::invalid(field, if is_integer { "must fit into 64 bits" } else { "must be an integer" })
    })
}

/// An integer of 0 or more.
pub(crate) fn amount(raw: &RawValue, field: &'static str) -> Extracted<i64> {
    let amount = to_integer(raw, field)?;
    if amount < 0 { Err(Refusal::invalid(field, "must be 0 or more")) } else { Ok(amount) }
}

/// An integer of 0 or more that is 0 when missing.
pub(crate) fn optional_amount(raw: Raw<'_>, field: &'static str) -> Extracted<i64> {
    given(raw).map_or(Ok(0), |raw| amount(raw, field))
}

/// What is looked for: 1 to 1,024 bytes of any content.
pub(super) fn keyword<'a>(raw: Raw<'a>) -> Extracted<Cow<'a, str>> {
    const FIELD: &str = "keyword";
    let keyword = required_text(raw, FIELD)?;
    if keyword.len() > KEYWORD_BYTES_MAX {
        return Err(Refusal::invalid(FIELD, format!("must be at most {KEYWORD_BYTES_MAX} bytes long")));
    }
    Ok(keyword)
}

/// `true` or `false`, which it is when missing.
pub(super) fn flag(raw: Raw<'_>, field: &'static str) -> Extracted<bool> {
    match given(raw).map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::invalid(field, "must be true or false")),
    }
}

/// An integer from 1, with a default and perhaps an upper limit.
pub(super) fn number_from_1(raw: Raw<'_>, field: &'static str, default: u64, max: Option<u64>) -> Extracted<u64> {
    let Some(raw) = given(raw) else { return Ok(default) };
    let number = u64::try_from(to_integer(raw, field)?).unwrap_or(0);
    match max {
        Some(max) if !(1..=max).contains(&number) => Err(Refusal::invalid(field, format!("must be 1 to {max}"))),
        None if number == 0 => Err(Refusal::invalid(field, "must be 1 or more")),
        _ => Ok(number),
    }
}

/// Copies: 1 or more, a number or a string of 1 to 18 digits.
pub(crate) fn count(raw: Raw<'_>) -> Extracted<i64> {
    const FIELD: &str = "count";
    let raw = required(raw, FIELD)?;
    let count = if raw.get().starts_with('"') {
        let digits = text(raw, FIELD)?;
        if !(1..=COUNT_DIGITS_MAX).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::invalid(FIELD, format!("must be 1 to {COUNT_DIGITS_MAX} digits")));
        }
        digits.parse().map_err(|_refused| Refusal::invalid(FIELD, "must be an integer"))?
    } else {
        to_integer(raw, FIELD)?
    };
    if count < 1 { Err(Refusal::invalid(FIELD, "must be 1 or more")) } else { Ok(count) }
}

/// The lines of an order, each with its id and count.
pub(super) fn lines<'a>(raw: Raw<'a>, lines_max: usize, may_be_empty: bool) -> Extracted<Vec<(Cow<'a, str>, i64)>> {
    const FIELD: &str = "books";
    let raw = required(raw, FIELD)?;
    if !raw.get().starts_with('[') {
        return Err(Refusal::invalid(FIELD, "must be a list"));
    }
    let lines: Vec<Line<'a>> = serde_json::from_str(raw.get())
        .map_err(|_mismatch| Refusal::invalid(FIELD, "must be a list of objects {id, count}"))?;
    if lines.is_empty() && !may_be_empty {
        return Err(Refusal::invalid(FIELD, "must not be empty"));
    }
    if lines.len() > lines_max {
        return Err(Refusal::invalid(FIELD, format!("must have at most {lines_max} lines")));
    }
    lines.into_iter().map(|line| Ok((id(line.id, "id")?, count(line.count)?))).collect()
}

/// A `book_info` that was checked.
pub(crate) struct Book<'a> {
    pub(crate) id: Cow<'a, str>,
    pub(crate) price: i64,
    /// The whole object as it stands in the body, unknown keys included.
    pub(crate) document: &'a str,
}

/// Checks a `book_info`. Unknown keys may hold anything that is not nested too deep.
pub(crate) fn book<'a>(raw: Raw<'a>) -> Extracted<Book<'a>> {
    const FIELD: &str = "book_info";
    let document = required(raw, FIELD)?.get();
    if !document.starts_with('{') {
        return Err(not_an_object(FIELD));
    }
    if is_nested_deeper(document.as_bytes(), NESTING_MAX) {
        return Err(Refusal::invalid(FIELD, format!("must be nested at most {NESTING_MAX} levels deep")));
    }
    let malformed = |error| Refusal::invalid(FIELD, format!("malformed JSON: {error}"));
    serde_json::from_str::<Sound>(document).map_err(malformed)?;
    let info: BookInfo<'a> = serde_json::from_str(document).map_err(malformed)?;
    let id = id(info.id, "id")?;
    required_text(info.title, "title")?;
    let price = amount(required(info.price, "price")?, "price")?;
    let texts = [
        (info.author, "author"),
        (info.publisher, "publisher"),
        (info.original_title, "original_title"),
        (info.translator, "translator"),
        (info.pub_year, "pub_year"),
        (info.currency_unit, "currency_unit"),
        (info.binding, "binding"),
        (info.isbn, "isbn"),
        (info.author_intro, "author_intro"),
        (info.book_intro, "book_intro"),
        (info.content, "content"),
    ];
    for (raw, field) in texts {
        optional_text(raw, field)?;
    }
    given(info.pages).map_or(Ok(0), |raw| to_integer(raw, "pages"))?;
    optional_texts(info.tags, "tags")?;
    optional_texts(info.pictures, "pictures")?;
    Ok(Book { id, price, document })
}

/// Any JSON that every reader can take: no half of a surrogate pair, no number beyond a double. The grammar allows both,
/// and what is kept is given to everybody who searches: one such book would spoil the whole page for a strict reader.
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Sound)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Sound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_str<E>(self, _: &str) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sound, A::Error> {
        while list.next_element::<Sound>()?.is_some() {}
        Ok(Sound)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sound, A::Error> {
        while map.next_entry::<Sound, Sound>()?.is_some() {}
        Ok(Sound)
    }
}

/// A list of strings that may be missing or `null`.
fn optional_texts(raw: Raw<'_>, field: &'static str) -> Extracted<()> {
    let Some(raw) = given(raw) else { return Ok(()) };
    let texts: Vec<&RawValue> =
        serde_json::from_str(raw.get()).map_err(|_mismatch| Refusal::invalid(field, "must be a list of strings"))?;
    texts.into_iter().try_for_each(|raw| text(raw, field).map(drop))
}

/// Whether lists and objects of a well-formed document are nested deeper than `levels_max`.
fn is_nested_deeper(document: &[u8], levels_max: usize) -> bool {
    let opens = |byte: &u8| matches!(byte, b'[' | b'{');
    // Most documents are one object with few lists, and counting is much faster than following strings.
    if document.iter().filter(|byte| opens(byte)).count() <= levels_max {
        return false;
    }
    let (mut level, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in document {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => level += 1,
            b']' | b'}' => level = level.saturating_sub(1),
            _ => {}
        }
        if level > levels_max {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why<T>(result: Extracted<T>) -> String {
        result.err().map(|refusal| refusal.to_string()).unwrap_or_default()
    }

    fn common(body: &str) -> Common<'_> {
        parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn a_body_must_be_a_json_object() {
        for body in ["", " ", "[]", "[\"u\"]", "1", "null", "\"{}\"", "{", "{]", "{}x", "{\"a\":}", "\u{feff}{}"] {
            let message = why(parse::<Common<'_>>(body.as_bytes()));
            assert!(message.starts_with("invalid parameter body: "), "{body:?}: {message}");
        }
        assert!(why(parse::<Common<'_>>(b"{\"user_id\":\"\xff\"}")).contains("UTF-8"));
        assert!(parse::<Common<'_>>(b" {} \n").is_ok());
    }

    #[test]
    fn nesting_does_not_reach_the_stack() {
        let deep = "[".repeat(500_000) + &"]".repeat(500_000);
        assert_eq!(id(common(&format!("{{\"x\":{deep},\"user_id\":\"u\"}}")).user_id, "user_id").unwrap(), "u");
        let body = format!("{{\"user_id\":{deep}}}");
        assert_eq!(why(id(common(&body).user_id, "user_id")), "invalid parameter user_id: must be a string");
        assert!(why(parse::<Common<'_>>(deep.as_bytes())).starts_with("invalid parameter body"));
        let body = format!("{{\"books\":[{{\"id\":{deep}}}]}}");
        let order: NewOrder<'_> = parse(body.as_bytes()).unwrap();
        assert_eq!(why(lines(order.books, 10, false)), "invalid parameter id: must be a string");
        let body = format!("{{\"book_info\":{{\"id\":\"b\",\"title\":\"t\",\"price\":1,\"x\":{deep}}}}}");
        let add: AddBook<'_> = parse(body.as_bytes()).unwrap();
        assert!(why(book(add.book_info)).starts_with("invalid parameter book_info: must be nested"));
    }

    #[test]
    fn what_is_kept_of_a_book_can_be_read_by_everybody() {
        let of = |extra: &str| {
            let body = format!(r#"{{"book_info":{{"id":"b","title":"t","price":1,{extra}}}}}"#);
            why(book(parse::<AddBook<'_>>(body.as_bytes()).unwrap().book_info))
        };
        for fine in
            [r#""x":"\ud83d\ude00""#, r#""x":[1.5e300,-0,{"y":null,"":true}]"#, r#""\u00e4":18446744073709551616"#]
        {
            assert_eq!(of(fine), "", "{fine}");
        }
        for bad in [
            r#""x":"\ud800""#,
            r#""x":"\udc00\ud800""#,
            r#""x":["a",{"y":"\ud83d "}]"#,
            r#""\ud800":1"#,
            r#""x":1e400"#,
            r#""author":"\ud800","author":"x""#,
        ] {
            assert!(of(bad).starts_with("invalid parameter book_info: malformed JSON"), "{bad}: {}", of(bad));
        }
    }

    #[test]
    fn ids_have_rules() {
        let id_of = |json: &str| {
            let body = format!("{{\"user_id\":{json}}}");
            id(common(&body).user_id, "user_id").map(Cow::into_owned)
        };
        assert_eq!(id_of("\"a_-.:\\u00e4 书\"").unwrap(), "a_-.:ä 书");
        assert_eq!(id_of(&format!("\"{}\"", "x".repeat(256))).unwrap().len(), 256);
        for bad in ["\"\"", "null", "1", "true", "[]", "{}", "\"a\\nb\"", "\"a\\u0000\"", "\"\\u0085\"", "\"\\ud800\""]
        {
            assert!(why(id_of(bad)).starts_with("invalid parameter user_id: "), "{bad}");
        }
        assert!(why(id_of(&format!("\"{}\"", "x".repeat(257)))).contains("256"));
        assert_eq!(why(id(common("{}").user_id, "user_id")), "invalid parameter user_id: is missing");
    }

    #[test]
    fn the_last_of_a_repeated_field_counts_and_keys_may_be_escaped() {
        let body = common("{\"user_id\":1,\"user\\u005fid\":\"b\"}");
        assert_eq!(id(body.user_id, "user_id").unwrap(), "b");
    }

    #[test]
    fn integers_are_written_as_integers() {
        let of = |json: &str| {
            let body = format!("{{\"add_value\":{json}}}");
            integer(common(&body).add_value, "add_value")
        };
        assert_eq!(of("0"), Ok(0));
        assert_eq!(of("-5"), Ok(-5));
        assert_eq!(of("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(of("-9223372036854775808"), Ok(i64::MIN));
        for bad in ["2.0", "1e3", "1E3", "true", "\"1\"", "null", "[]", "9223372036854775808", "1e999"] {
            assert!(why(of(bad)).starts_with("invalid parameter add_value: "), "{bad}");
        }
        assert_eq!(optional_amount(None, "stock_level"), Ok(0));
    }

    #[test]
    fn lines_of_an_order() {
        let of = |json: &str, lines_max, may_be_empty| {
            let body = format!("{{\"books\":{json}}}");
            let order: NewOrder<'_> = parse(body.as_bytes()).unwrap();
            lines(order.books, lines_max, may_be_empty)
                .map(|lines| lines.into_iter().map(|(id, count)| (id.into_owned(), count)).collect::<Vec<_>>())
        };
        let two = of(r#"[{"id":"a","count":2,"x":[1]},{"count":"007","id":"b"}]"#, 2, false).unwrap();
        assert_eq!(two, [("a".to_owned(), 2), ("b".to_owned(), 7)]);
        assert_eq!(of("[]", 2, true).unwrap(), []);
        for bad in ["[]", "null", "{}", "\"a\"", "[1]", "[[\"a\",1]]", "[null]", "[{\"id\":\"a\",\"count\":1},{},{}]"] {
            assert!(why(of(bad, 2, false)).starts_with("invalid parameter books: "), "{bad}");
        }
        for bad in ["0", "-1", "\"\"", "\"-1\"", "\"1.0\"", "1.0", "\" 1\"", "null", "\"1234567890123456789\"", "true"]
        {
            let message = why(of(&format!("[{{\"id\":\"a\",\"count\":{bad}}}]"), 2, false));
            assert!(message.starts_with("invalid parameter count: "), "{bad}: {message}");
        }
        assert_eq!(of(r#"[{"id":"a","count":"123456789012345678"}]"#, 2, false).unwrap()[0].1, 123_456_789_012_345_678);
        assert!(why(of(r#"[{"count":1}]"#, 2, false)).starts_with("invalid parameter id: "));
    }

    #[test]
    fn a_book_keeps_its_text_and_is_checked() {
        let of = |json: &str| {
            let body = format!("{{\"book_info\":{json}}}");
            let add: AddBook<'_> = parse(body.as_bytes()).unwrap();
            book(add.book_info).map(|book| (book.id.into_owned(), book.price, book.document.to_owned()))
        };
        let full = r#"{"id": "b", "title":"米", "price":0, "pages":null,"tags":["a"],"pictures":["aGk="], "mine":{"a":[1.50]}}"#;
        assert_eq!(of(full).unwrap(), ("b".to_owned(), 0, full.to_owned()));
        let cases = [
            ("null", "book_info"),
            ("[]", "book_info"),
            (r#"{"title":"t","price":1}"#, "id"),
            (r#"{"id":"b","price":1}"#, "title"),
            (r#"{"id":"b","title":"","price":1}"#, "title"),
            (r#"{"id":"b","title":"t"}"#, "price"),
            (r#"{"id":"b","title":"t","price":-1}"#, "price"),
            (r#"{"id":"b","title":"t","price":"1"}"#, "price"),
            (r#"{"id":"b","title":"t","price":1,"pages":"9"}"#, "pages"),
            (r#"{"id":"b","title":"t","price":1,"author":5}"#, "author"),
            (r#"{"id":"b","title":"t","price":1,"content":[]}"#, "content"),
            (r#"{"id":"b","title":"t","price":1,"tags":"a"}"#, "tags"),
            (r#"{"id":"b","title":"t","price":1,"tags":[1]}"#, "tags"),
            (r#"{"id":"b","title":"t","price":1,"pictures":{}}"#, "pictures"),
        ];
        for (json, field) in cases {
            let message = why(of(json));
            assert!(message.starts_with(&format!("invalid parameter {field}: ")), "{json}: {message}");
        }
    }

    #[test]
    fn depth_ignores_brackets_in_strings() {
        let text = format!("{{\"a\":\"{}\\\"[\"}}", "[".repeat(200));
        assert!(!is_nested_deeper(text.as_bytes(), 64));
        let level = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(!is_nested_deeper(level(64).as_bytes(), 64));
        assert!(is_nested_deeper(level(65).as_bytes(), 64));
    }
}

//! The bodies of the busiest routes, in one pass.
//!
//! [`fields`](super::fields) splits a body into raw fields and then judges one after the other, so that a refusal names
//! the first bad one. Nearly all bodies have none. Here such a body is read straight into what the handler needs, with no
//! copy, at a third of the cost; of anything out of the ordinary (an escape, a count in quotes, a fault of any kind)
//! nothing is said, and the careful way is gone. Both ways accept the same and give the same; a test compares them.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::{ID_BYTES_MAX, PASSWORD_BYTES_MAX};
use crate::engine::{NewLine, has_control};

/// The body of `new_order`, sound in all its fields.
#[derive(Debug, PartialEq)]
pub(super) struct NewOrder<'a> {
    pub(super) user_id: &'a str,
    pub(super) store_id: &'a str,
    pub(super) lines: Vec<NewLine<'a>>,
}

/// The body of a route about one order of a user, sound in all its fields.
#[derive(Debug, PartialEq)]
pub(super) struct OfOrder<'a> {
    pub(super) user_id: &'a str,
    pub(super) order_id: &'a str,
    pub(super) password: &'a str,
}

/// `None`: it has to be looked at field by field.
pub(super) fn new_order(body: &[u8], lines_max: usize) -> Option<NewOrder<'_>> {
    let order: NewOrder<'_> = read(body)?;
    let lines = &order.lines;
    let has_ids = is_id(order.user_id) && is_id(order.store_id) && (1..=lines_max).contains(&lines.len());
    let is_sound = has_ids && lines.iter().all(|line| is_id(line.book_id) && line.count >= 1);
    is_sound.then_some(order)
}

/// `None`: it has to be looked at field by field.
pub(super) fn of_order(body: &[u8]) -> Option<OfOrder<'_>> {
    let fields: OfOrder<'_> = read(body)?;
    let is_sound =
        is_id(fields.user_id) && is_id(fields.order_id) && (1..=PASSWORD_BYTES_MAX).contains(&fields.password.len());
    is_sound.then_some(fields)
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
}

fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && !has_control(id)
}

/// Reads an object whose fields must all be there; others are passed over, and of one that comes twice the last counts.
macro_rules! object {
    ($name:ident { $($field:ident = $key:literal as $kind:ty),+ } => $made:expr) => {
        impl<'de> Deserialize<'de> for $name<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ObjectVisitor<'de>(PhantomData<&'de ()>);
                impl<'de> Visitor<'de> for ObjectVisitor<'de> {
                    type Value = $name<'de>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        $(let mut $field: Option<$kind> = None;)+
                        while let Some(key) = map.next_key::<&str>()? {
                            match key {
                                $($key => $field = Some(map.next_value()?),)+
                                _ => { map.next_value::<IgnoredAny>()?; }
                            }
                        }
                        let ($(Some($field)),+) = ($($field),+) else {
                            return Err(A::Error::custom("a field is missing"));
                        };
                        Ok($made)
                    }
                }
                deserializer.deserialize_map(ObjectVisitor(PhantomData))
            }
        }
    };
}

object! {
    NewOrder { user_id = "user_id" as &'de str, store_id = "store_id" as &'de str, lines = "books" as Lines<'de> }
    => NewOrder { user_id, store_id, lines: lines.0 }
}
object! {
    OfOrder { user_id = "user_id" as &'de str, order_id = "order_id" as &'de str, password = "password" as &'de str }
    => OfOrder { user_id, order_id, password }
}
object! {
    Line { id = "id" as &'de str, count = "count" as i64 } => Line(NewLine { book_id: id, count })
}

struct Line<'a>(NewLine<'a>);

struct Lines<'a>(Vec<NewLine<'a>>);

impl<'de> Deserialize<'de> for Lines<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = Lines<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut lines = Vec::with_capacity(8);
                while let Some(Line(line)) = list.next_element()? {
                    lines.push(line);
                }
                Ok(Lines(lines))
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::buyer;
    use super::*;

    const LINES_MAX: usize = 4;

    /// Whether the quick way takes it; if so it must give what the careful way gives.
    fn is_taken(body: &str) -> bool {
        let careful = buyer::new_order_fields(body.as_bytes(), LINES_MAX, false).ok();
        let Some(quick) = new_order(body.as_bytes(), LINES_MAX) else { return false };
        let lines = quick.lines.iter().map(|line| (line.book_id.into(), line.count)).collect();
        let careful = careful.map(|fields| (fields.user_id, fields.store_id, fields.books));
        assert_eq!(Some((quick.user_id.into(), quick.store_id.into(), lines)), careful, "{body}");
        true
    }

    fn is_taken_of_order(body: &str) -> bool {
        let careful = buyer::order_fields_with_care(body.as_bytes()).ok();
        let Some(quick) = of_order(body.as_bytes()) else { return false };
        let careful = careful.map(|fields| (fields.user_id, fields.order_id, fields.password));
        assert_eq!(Some((quick.user_id.into(), quick.order_id.into(), quick.password.into())), careful, "{body}");
        true
    }

    #[test]
    fn ordinary_bodies_are_taken() {
        assert!(is_taken(r#"{"user_id":"u","store_id":"s","books":[{"id":"b","count":1}]}"#));
        assert!(is_taken(
            r#" { "books" : [ {"count": 2, "id": "书"} , {"id":"b","count":1,"x":[{}]} ], "store_id":"s","user_id":"u"}"#
        ));
        assert!(is_taken(
            r#"{"user_id":"u","user_id":"v","store_id":"s","y":null,"books":[{"id":"b","id":"c","count":9223372036854775807}]}"#
        ));
        assert!(is_taken_of_order(r#"{"user_id":"u","order_id":"o","password":"密码"}"#));
    }

    /// Every way to be wrong, and the ways to be right that are rare, are left to the careful way.
    #[test]
    fn what_is_out_of_the_ordinary_is_not() {
        for body in [
            "",
            "[]",
            "null",
            "{}",
            "{",
            "\u{feff}{}",
            r#"{"user_id":"","store_id":"s","books":[{"id":"b","count":1}]}"#,
            r#"{"user_id":"\u0075","store_id":"s","books":[{"id":"b","count":1}]}"#,
            r#"{"user_id":"u","store_id":"s","books":[{"id":"b","count":"1"}]}"#,
            r#"{"user_id":"u","store_id":"s","books":[{"id":"b","count":0}]}"#,
            r#"{"user_id":"u","store_id":"s","books":[{"id":"b","count":1.0}]}"#,
            r#"{"user_id":"u","store_id":"s","books":[{"id":"b","count":9223372036854775808}]}"#,
            r#"{"user_id":"u","store_id":"s","books":[["b",1]]}"#,
            r#"{"user_id":"u","store_id":"s","books":[{"id":"b"}]}"#,
            r#"{"user_id":"u","store_id":"s","books":[]}"#,
            r#"{"user_id":"u","store_id":"s","books":{"id":"b","count":1}}"#,
            r#"{"user_id":null,"store_id":"s","books":[{"id":"b","count":1}]}"#,
            r#"{"store_id":"s","books":[{"id":"b","count":1}]}"#,
            r#"{"user_id":"u","store_id":"s","books":[{"id":"b","count":1}]}x"#,
            "{\"user_id\":\"u\u{7f}\",\"store_id\":\"s\",\"books\":[{\"id\":\"b\",\"count\":1}]}",
        ] {
            assert!(!is_taken(body), "{body}");
        }
        let five = [r#"{"id":"b","count":1}"#; LINES_MAX + 1].join(",");
        assert!(!is_taken(&format!(r#"{{"user_id":"u","store_id":"s","books":[{five}]}}"#)));
        for length in [ID_BYTES_MAX, ID_BYTES_MAX + 1] {
            let id = "i".repeat(length);
            let body = format!(r#"{{"user_id":"{id}","store_id":"s","books":[{{"id":"{id}","count":1}}]}}"#);
            assert_eq!(is_taken(&body), length == ID_BYTES_MAX);
        }
        for length in [PASSWORD_BYTES_MAX, PASSWORD_BYTES_MAX + 1] {
            let body = format!(r#"{{"user_id":"u","order_id":"o","password":"{}"}}"#, "p".repeat(length));
            assert_eq!(is_taken_of_order(&body), length == PASSWORD_BYTES_MAX);
        }
        assert!(!is_taken_of_order(r#"{"user_id":"u","order_id":"o","password":""}"#));
        assert!(!is_taken_of_order(r#"{"user_id":"u","order_id":"o"}"#));
    }

    /// Parts of bodies, sound and not.
    fn part() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"user_id\"",
            "\"store_id\"",
            "\"books\"",
            "\"id\"",
            "\"count\"",
            "\"u\"",
            "\"\"",
            "\"\\n\"",
            "\"\u{1}\"",
            "1",
            "0",
            "-1",
            "1.5",
            "\"2\"",
            "null",
            " ",
            "true",
            "1e2",
            "\"\\ud800\"",
        ])
    }

    proptest! {
        /// Bodies of any parts, and sound ones with a part put in the place of another.
        #[test]
        fn both_ways_agree(parts in prop::collection::vec(part(), 0..24), at in 0_usize..40, with in part()) {
            is_taken(&parts.concat());
            let sound = r#"{|"user_id"|:|"u"|,|"store_id"|:|"s"|,|"books"|:|[|{|"id"|:|"b"|,|"count"|:|1|}|,|{|"count"|:|2|,|"id"|:|"c"|}|]|}"#;
            let mut pieces: Vec<&str> = sound.split('|').collect();
            if let Some(piece) = pieces.get_mut(at) {
                *piece = with;
            }
            is_taken(&pieces.concat());
            let of_order = r#"{|"user_id"|:|"u"|,|"order_id"|:|"o"|,|"password"|:|"p"|}"#;
            let mut pieces: Vec<&str> = of_order.split('|').collect();
            if let Some(piece) = pieces.get_mut(at) {
                *piece = with;
            }
            is_taken_of_order(&pieces.concat());
        }
    }
}

//! A book's document: the JSON text of its `book_info`.
//!
//! Pictures are by far the most of it, and nobody looks at them but who asks for the whole book. So the text of the
//! value of `pictures` is cut out and stored for itself, under the hash of its bytes, and `[]` stands in its place.
//! What is stored for the book is one of two:
//!
//! - the JSON text as it was listed, if there are no pictures: it begins with no byte 1;
//! - a byte 1, the place of the cut (u64, little endian, in bytes), the hash of what was cut out (32 bytes), and the
//!   rest of the text.
//!
//! So the text can be put together again byte for byte.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fields::{NAMES, TAGS};
use crate::domain::{DocumentHash, Fen};

const CUT: u8 = 1;
const CUT_HEADER_BYTES: usize = 1 + 8 + 32;
/// What stands in place of what was cut out.
const NO_PICTURES: &str = "[]";

/// Where the parts of a document are, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// The value of `pictures`, if there are any.
    pictures: Option<Range<usize>>,
    /// The values of the searched fields, in the order of [`NAMES`].
    texts: [Option<Range<usize>>; NAMES.len()],
}

impl Outline {
    /// Reads a document once.
    ///
    /// # Errors
    /// What is wrong with it, if it is no JSON object.
    pub(crate) fn of(document: &str) -> Result<Outline, String> {
        let mut json = serde_json::Deserializer::from_str(document);
        let outline = Members { document }.deserialize(&mut json);
        outline.and_then(|outline| json.end().map(|()| outline)).map_err(|error| error.to_string())
    }

    /// The strings of a searched field. What is no string, or no list of strings in `tags`, is not searched.
    pub(super) fn texts<'a>(&self, document: &'a str, field: usize) -> Vec<Cow<'a, str>> {
        let Some(span) = &self.texts[field] else { return Vec::new() };
        let json = &document[span.clone()];
        match json.as_bytes().first() {
            Some(b'"') if field != TAGS => text(json).into_iter().collect(),
            Some(b'[') if field == TAGS => {
                let values: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
                values.into_iter().filter_map(|value| text(value.get())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is stored: the document without its pictures, and the pictures.
    pub(crate) fn cut(&self, document: &str) -> (Vec<u8>, Option<Vec<u8>>) {
        let Some(span) = &self.pictures else { return (document.as_bytes().to_vec(), None) };
        let pictures = document[span.clone()].as_bytes().to_vec();
        let rest = document.len() - span.len() + NO_PICTURES.len();
        let mut stored = Vec::with_capacity(CUT_HEADER_BYTES + rest);
        stored.push(CUT);
        stored.extend_from_slice(&(span.start as u64).to_le_bytes());
        stored.extend_from_slice(&DocumentHash::of(&pictures).0);
        stored.extend_from_slice(&document.as_bytes()[..span.start]);
        stored.extend_from_slice(NO_PICTURES.as_bytes());
        stored.extend_from_slice(&document.as_bytes()[span.end..]);
        (stored, Some(pictures))
    }
}

fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(json).ok().map(Cow::Owned)
}

/// A document as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The JSON text, with `[]` where pictures were cut out.
    pub(crate) text: String,
    cut: Option<Cut>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    at: usize,
    pictures: DocumentHash,
}

impl Stored {
    /// Reads what [`Outline::cut`] made; `None` if it is something else.
    pub(crate) fn read(mut bytes: Vec<u8>) -> Option<Stored> {
        if bytes.first() != Some(&CUT) {
            return Some(Stored { text: String::from_utf8(bytes).ok()?, cut: None });
        }
        let at = usize::try_from(u64::from_le_bytes(bytes.get(1..9)?.try_into().ok()?)).ok()?;
        let pictures = pictures_of(&bytes)?;
        bytes.drain(..CUT_HEADER_BYTES);
        let text = String::from_utf8(bytes).ok()?;
        let is_cut = text.get(at..)?.starts_with(NO_PICTURES);
        is_cut.then_some(Stored { text, cut: Some(Cut { at, pictures }) })
    }

    /// The name under which its pictures are stored, if there are any.
    pub(crate) fn pictures(&self) -> Option<DocumentHash> {
        self.cut.map(|cut| cut.pictures)
    }

    /// Puts another price in place of the value of `price`; of a key that comes twice in place of each. A document
    /// without one stays as it is. `None` if it is no JSON object.
    pub(crate) fn set_price(&mut self, price: Fen) -> Option<()> {
        let price = price.to_string();
        for span in prices(&self.text)?.into_iter().rev() {
            if self.text[span.clone()] == price {
                continue;
            }
            if let Some(cut) = self.cut.as_mut().filter(|cut| cut.at >= span.end) {
                cut.at = cut.at + price.len() - span.len();
            }
            self.text.replace_range(span, &price);
        }
        Some(())
    }

    /// Puts the pictures back.
    pub(crate) fn with(mut self, pictures: &str) -> String {
        if let Some(Cut { at, .. }) = self.cut {
            self.text.replace_range(at..at + NO_PICTURES.len(), pictures);
        }
        self.text
    }
}

/// The name under which the pictures of a stored document are stored, if there are any.
pub(crate) fn pictures_of(stored: &[u8]) -> Option<DocumentHash> {
    if stored.first() != Some(&CUT) {
        return None;
    }
    Some(DocumentHash(stored.get(9..CUT_HEADER_BYTES)?.try_into().ok()?))
}

/// Where the values of the members `price` are, in bytes, ascending.
fn prices(document: &str) -> Option<Vec<Range<usize>>> {
    struct Prices<'a>(&'a str);
    impl<'de> Visitor<'de> for Prices<'_> {
        type Value = Vec<Range<usize>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut spans = Vec::new();
            while let Some(Key(key)) = map.next_key()? {
                let value = map.next_value::<&'de RawValue>()?.get();
                if key == "price" {
                    spans.push(span_in(self.0, value));
                }
            }
            Ok(spans)
        }
    }
    serde_json::Deserializer::from_str(document).deserialize_map(Prices(document)).ok()
}

/// Where a part of a text is in it, by its address.
fn span_in(document: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - document.as_ptr() as usize;
    start..start + part.len()
}

/// The document as a search shows it: an object without pictures, and without what the answer says beside it.
pub(crate) fn shown(document: &str) -> Option<String> {
    struct Shown(String);
    impl<'de> Deserialize<'de> for Shown {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct ShownVisitor;
            impl<'de> Visitor<'de> for ShownVisitor {
                type Value = Shown;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shown, A::Error> {
                    let mut text = String::from("{");
                    while let Some(Key(key)) = map.next_key()? {
                        if matches!(&*key, "pictures" | "store_id" | "stock_level") {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                        if text.len() > 1 {
                            text.push(',');
                        }
                        text.push_str(&serde_json::to_string(&key).map_err(serde::de::Error::custom)?);
                        text.push(':');
                        text.push_str(map.next_value::<&RawValue>()?.get());
                    }
                    text.push('}');
                    Ok(Shown(text))
                }
            }
            deserializer.deserialize_map(ShownVisitor)
        }
    }
    serde_json::from_str(document).ok().map(|Shown(text)| text)
}

/// A key of an object, borrowed unless it holds escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Walks the members of a document; the values' places in it are those of their addresses.
struct Members<'a> {
    document: &'a str,
}

impl Members<'_> {
    fn span(&self, value: &str) -> Range<usize> {
        span_in(self.document, value)
    }
}

impl<'de> DeserializeSeed<'de> for Members<'de> {
    type Value = Outline;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Outline, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'de> {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let mut outline = Outline::default();
        while let Some(Key(key)) = map.next_key()? {
            if key == "pictures" {
                let value = map.next_value::<&'de RawValue>()?.get();
                // If there are several, the longest is worth it most; the others stay where they are.
                let is_worth_it = !matches!(value, "null" | NO_PICTURES)
                    && outline.pictures.as_ref().is_none_or(|before| before.len() < value.len());
                if is_worth_it {
                    outline.pictures = Some(self.span(value));
                }
            } else if let Some(field) = NAMES.iter().position(|name| *name == key) {
                // Of a key that comes twice the last one counts.
                outline.texts[field] = Some(self.span(map.next_value::<&'de RawValue>()?.get()));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(outline)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Cuts and puts together again; gives what is stored and what was cut out.
    fn there_and_back(document: &str) -> (String, Option<String>) {
        let (stored, pictures) = Outline::of(document).unwrap().cut(document);
        let stored = Stored::read(stored).unwrap();
        let pictures = pictures.map(|pictures| String::from_utf8(pictures).unwrap());
        assert_eq!(stored.pictures(), pictures.as_ref().map(|pictures| DocumentHash::of(pictures.as_bytes())));
        let text = stored.text.clone();
        assert_eq!(stored.with(pictures.as_deref().unwrap_or_default()), document);
        (text, pictures)
    }

    #[test]
    fn pictures_are_cut_out_and_put_back() {
        for (document, without, pictures) in [
            (r#"{"pictures":["aGk="],"id":"b"}"#, r#"{"pictures":[],"id":"b"}"#, Some(r#"["aGk="]"#)),
            (
                " {\"a\" : 1.50 , \"pictures\" :\n[ \"x\" ] }\n",
                " {\"a\" : 1.50 , \"pictures\" :\n[] }\n",
                Some("[ \"x\" ]"),
            ),
            (r#"{"picture\u0073":["米"]}"#, r#"{"picture\u0073":[]}"#, Some(r#"["米"]"#)),
            (r#"{"pictures":{"odd":1}}"#, r#"{"pictures":[]}"#, Some(r#"{"odd":1}"#)),
            (r#"{"pictures":["x"],"pictures":["yy"]}"#, r#"{"pictures":["x"],"pictures":[]}"#, Some(r#"["yy"]"#)),
            (r#"{"pictures":[]}"#, r#"{"pictures":[]}"#, None),
            (r#"{"pictures":null,"x":{"pictures":["y"]}}"#, r#"{"pictures":null,"x":{"pictures":["y"]}}"#, None),
            ("{}", "{}", None),
        ] {
            assert_eq!(there_and_back(document), (without.to_owned(), pictures.map(str::to_owned)), "{document}");
        }
    }

    #[test]
    fn only_an_object_is_a_document() {
        for document in ["", "x", "[]", "null", "1", "\"{}\"", "{", "{}x", "{\"a\":}", "{'a':1}", "{\"a\":1,}"] {
            assert!(Outline::of(document).is_err(), "{document}");
        }
        let deep = format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Outline::of(&deep).is_ok());
    }

    #[test]
    fn what_is_damaged_is_not_read() {
        let document = r#"{"pictures":["x"]}"#;
        let (stored, _) = Outline::of(document).unwrap().cut(document);
        assert!(Stored::read(stored.clone()).is_some());
        for length in 1..CUT_HEADER_BYTES {
            assert_eq!(Stored::read(stored[..length].to_vec()), None, "{length}");
        }
        let mut elsewhere = stored;
        elsewhere[1] ^= 0xff;
        assert_eq!(Stored::read(elsewhere), None);
        assert_eq!(Stored::read(vec![b'{', 0xff]), None);
    }

    #[test]
    fn texts_are_strings_and_tags_are_lists_of_them() {
        let document = r#"{"title":"a\u7c73","author":null,"publisher":5,"isbn":"","tags":["x","\n",1,"\ud800"],
            "content":"first","content":"last","book_intro":["y"]}"#;
        let outline = Outline::of(document).unwrap();
        let texts: Vec<Vec<_>> = (0..NAMES.len()).map(|field| outline.texts(document, field)).collect();
        let expected: [&[&str]; 7] = [&["a米"], &[], &[], &[""], &["x", "\n"], &["last"], &[]];
        assert_eq!(texts, expected);
    }

    #[test]
    fn what_is_shown_has_no_pictures_and_keeps_the_rest() {
        let document = "{ \"id\" : \"b\\u0041\", \"stock_level\":1,\"price\": 1.50,\"pictures\":[1],\n\"store_id\":2, \"x\\n\":[ 1 ] }";
        assert_eq!(shown(document).unwrap(), r#"{"id":"b\u0041","price":1.50,"x\n":[ 1 ]}"#);
        assert_eq!(shown(r#"{"pictures":[]}"#).unwrap(), "{}");
        assert_eq!(shown("[]"), None);
    }

    /// Puts a price in, and the pictures back.
    fn at_price(document: &str, price: Fen) -> String {
        let (stored, pictures) = Outline::of(document).unwrap().cut(document);
        let mut stored = Stored::read(stored).unwrap();
        stored.set_price(price).unwrap();
        assert!(shown(&stored.text).is_some());
        stored.with(pictures.as_deref().map_or("", |pictures| std::str::from_utf8(pictures).unwrap()))
    }

    #[test]
    fn only_the_price_of_the_object_itself_is_replaced() {
        for (document, at_1234) in [
            (r#"{"id":"b","price":5}"#, r#"{"id":"b","price":1234}"#),
            (r#"{"id":"b","price":1234}"#, r#"{"id":"b","price":1234}"#),
            (" {\"price\" :\t500000 ,\n\"x\": [ 1 ] } ", " {\"price\" :\t1234 ,\n\"x\": [ 1 ] } "),
            (r#"{"x":{"price":5},"price":5,"y":[{"price":5}]}"#, r#"{"x":{"price":5},"price":1234,"y":[{"price":5}]}"#),
            (r#"{"pric\u0065":5}"#, r#"{"pric\u0065":1234}"#),
            (r#"{"price":5,"price":"6"}"#, r#"{"price":1234,"price":1234}"#),
            (r#"{"price":5,"pictures":["aGk="]}"#, r#"{"price":1234,"pictures":["aGk="]}"#),
            (r#"{"price":500000,"pictures":["aGk="],"z":1}"#, r#"{"price":1234,"pictures":["aGk="],"z":1}"#),
            (r#"{"pictures":["aGk="],"price":5}"#, r#"{"pictures":["aGk="],"price":1234}"#),
            (r#"{"price":5,"pictures":["x"],"price":7}"#, r#"{"price":1234,"pictures":["x"],"price":1234}"#),
            (r#"{"id":"b"}"#, r#"{"id":"b"}"#),
        ] {
            assert_eq!(at_price(document, 1_234), at_1234);
        }
        assert_eq!(at_price(r#"{"price":5}"#, 0), r#"{"price":0}"#);
        assert_eq!(at_price(r#"{"price":5}"#, i64::MAX), r#"{"price":9223372036854775807}"#);
    }

    proptest! {
        #[test]
        fn every_document_comes_back(
            keys in prop::collection::vec(prop_oneof![Just("pictures".to_owned()), "\\PC{0,6}"], 0..6),
            values in prop::collection::vec("\\PC{0,12}", 6),
            blank in "[ \n\t]{0,2}",
        ) {
            let quote = |text: &str| serde_json::to_string(text).unwrap();
            let members: Vec<_> = keys
                .iter()
                .zip(&values)
                .map(|(key, value)| format!("{blank}{}{blank}:{blank}[{}]{blank}", quote(key), quote(value)))
                .collect();
            let (text, _) = there_and_back(&format!("{blank}{{{}}}{blank}", members.join(",")));
            prop_assert!(shown(&text).is_some());
        }
    }
}

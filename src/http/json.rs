//! Pieces of JSON text, written into bytes.

use std::fmt::Display;
use std::io::Write;

/// Appends what `value` displays as. Writing to memory does not fail.
pub(super) fn put(out: &mut Vec<u8>, value: &dyn Display) {
    let _ = write!(out, "{value}");
}

/// Appends a JSON string. Writing to memory does not fail.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

//! Valid inputs made wrong, the same way for the same seed. Knows nothing of what it changes, but for JSON.

use serde_json::Value;

/// A small generator of numbers (splitmix64). Two streams of one seed have nothing in common.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, stream: u64) -> Self {
        Random(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..below`; 0 if there is none.
    pub fn below(&mut self, below: usize) -> usize {
        if below == 0 { 0 } else { (self.next() % below as u64) as usize }
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A place in a text that is before a character.
    fn boundary(&mut self, text: &str) -> usize {
        let mut at = self.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

/// Bytes that readers of binary formats trip over.
const EDGES: [&[u8]; 12] = [
    &[0],
    &[0xff],
    &[0x7f],
    &[0x80],
    &[0xff; 4],
    &[0xff; 8],
    &[0, 0, 0, 0x80],
    &[0xdd, 0xff, 0xff, 0xff, 0xff],
    &[0xc6, 0xff, 0xff, 0xff, 0xff],
    &[0xdf, 0x7f, 0xff, 0xff, 0xff],
    &[0xc1],
    &[0xdc, 0xff, 0xff],
];

/// Changes some bytes: flips, cuts, doubles, writes over, puts in.
pub fn bytes(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(out.len());
        match random.below(8) {
            _ if out.is_empty() => out.extend_from_slice(edge(random)),
            0 | 1 => out[at] ^= 1 << random.below(8),
            2 => out[at] = random.next() as u8,
            3 => out.truncate(at),
            4 => {
                let end = (at + 1 + random.below(64)).min(out.len());
                out.drain(at..end);
            }
            5 => {
                let end = (at + 1 + random.below(64)).min(out.len());
                let again = out[at..end].to_vec();
                let to = random.below(out.len());
                out.splice(to..to, again);
            }
            6 => {
                let edge = edge(random);
                let end = (at + edge.len()).min(out.len());
                let len = end - at;
                out[at..end].copy_from_slice(&edge[..len]);
            }
            _ => {
                let edge = edge(random);
                out.splice(at..at, edge.iter().copied());
            }
        }
    }
    out
}

/// JSON, and what is nearly JSON, that could stand in any place.
const VALUES: [&str; 58] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "1.0",
    "1e3",
    "1E400",
    "-1e-400",
    "0.1",
    "01",
    "+1",
    ".5",
    "1.",
    "0x10",
    "1_000",
    "NaN",
    "Infinity",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "123456789012345678901234567890123456789012345678901234567890",
    "\"\"",
    "\" \"",
    "\"0\"",
    "\"2\"",
    "\"-1\"",
    "\"１\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\u{0}\"",
    "\"a\\nb\"",
    "\"../../etc/passwd\"",
    "\"..\"",
    "\"a/b:c.d-e_f\"",
    "\"米\"",
    "\"\u{202e}x\"",
    "\"e\u{301}\"",
    "\"' OR 1=1 --\"",
    "\"${jndi:ldap://x}\"",
    "\"%00%2e%2e\"",
    "[]",
    "[[]]",
    "[null]",
    "{}",
    "{\"\":{}}",
    "[1,2",
    "{\"a\":",
];

/// Pieces of a text that make another one of it.
const PIECES: [&str; 22] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "\u{7f}",
    "\n",
    "\u{feff}",
    "\u{fffd}",
    "null",
    "-",
    "e9",
    ".0",
    "/*",
    "//",
    "\u{1f600}",
];

fn piece(random: &mut Random) -> &'static str {
    PIECES[random.below(PIECES.len())]
}

fn edge(random: &mut Random) -> &'static [u8] {
    EDGES[random.below(EDGES.len())]
}

/// A JSON object made into another text: fields replaced, dropped, doubled or added, or the text itself broken.
pub fn json(object: &Value, random: &mut Random) -> Vec<u8> {
    let Value::Object(fields) = object else { return bytes(object.to_string().as_bytes(), random) };
    let mut members: Vec<(String, String)> =
        fields.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
    for _ in 0..=random.below(2) {
        let at = random.below(members.len());
        match random.below(9) {
            _ if members.is_empty() => members.push(("x".into(), VALUES[random.below(VALUES.len())].into())),
            0..=2 => members[at].1 = value(&members[at].1, random),
            3 => drop(members.remove(at)),
            4 => {
                let (name, _) = members[at].clone();
                members.push((name, VALUES[random.below(VALUES.len())].into()));
            }
            5 => members.push((piece(random).escape_default().to_string(), VALUES[random.below(VALUES.len())].into())),
            6 => {
                let other = random.below(members.len());
                let value = members[other].1.clone();
                members[at].1 = value;
            }
            7 => members[at].0 = members[at].0.to_uppercase(),
            _ => members.rotate_left(at),
        }
    }
    let text: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    let mut text = format!("{{{}}}", text.join(","));
    match random.below(12) {
        0 => text.insert_str(random.boundary(&text), piece(random)),
        1 => text.truncate(random.boundary(&text)),
        2 => return bytes(text.as_bytes(), random),
        _ => {}
    }
    text.into_bytes()
}

/// Another value in place of this one, or in it.
fn value(old: &str, random: &mut Random) -> String {
    match (random.below(6), serde_json::from_str::<Value>(old)) {
        (0, Ok(Value::Object(_) | Value::Array(_))) => {
            let depth = 1 + random.below(200);
            format!("{}{old}{}", "[".repeat(depth), "]".repeat(depth))
        }
        (1 | 2, Ok(inner @ Value::Object(_))) => String::from_utf8_lossy(&json(&inner, random)).into_owned(),
        (1 | 2, Ok(Value::Array(mut list))) if !list.is_empty() => {
            let at = random.below(list.len());
            let changed = value(&list[at].to_string(), random);
            list.push(list[at].clone());
            let texts: Vec<String> = list.iter().map(Value::to_string).collect();
            format!("[{},{changed}]", texts.join(","))
        }
        (3, Ok(Value::String(text))) => Value::String(text.repeat(1 + random.below(300))).to_string(),
        (4, Ok(Value::String(mut text))) => {
            let at = random.boundary(&text);
            text.insert_str(at, piece(random));
            Value::String(text).to_string()
        }
        (4, Ok(Value::Number(_))) => (random.next() as i64).to_string(),
        _ => VALUES[random.below(VALUES.len())].to_owned(),
    }
}

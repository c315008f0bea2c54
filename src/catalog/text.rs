//! Text → what is looked for.
//!
//! Both sides, a book's text and a keyword, are first *normalised*: NFKC (so full-width and half-width are the same),
//! upper and lower case the same, invisible characters gone. Then they fall into *runs*:
//!
//! - **Grams**: a stretch of a script that is written without blanks between its words (Han, Kana, Bopomofo, Yi, Thai,
//!   Lao, Khmer, Myanmar), or that grows endings onto its words (Hangul: `책` must find `책을`). A book has every pair
//!   of neighbouring characters and every single one; a keyword of one character looks for that, a longer one for its
//!   pairs. This needs no dictionary and finds every part of a title.
//! - **Word**: letters, digits and their marks in all other scripts. A book has it whole, and again with the `+` or
//!   `#` behind it: `c` finds "C++", `c++` finds nothing else.
//! - **Number**: ten or thirteen digits with hyphens between them, an ISBN. A book has it without the hyphens, and its
//!   parts as words; a keyword only without the hyphens.
//! - **Symbol**: an emoji, an arrow, an ornament: each is a word by itself.
//!
//! Everything else (blanks, punctuation, controls) only separates. A token is 64 bits: characters as they are, words
//! as a keyed hash. Two words that share a hash would find each other's books; among a million words that happens once
//! in some ten million runs, and nobody can bring it about, for the key is random.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

use super::fields::SearchFields;

/// Text as it is compared. Doing it again changes nothing.
pub(super) fn normalise(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut folded = String::with_capacity(text.len());
    if text.chars().all(|letter| fold_plain(letter, &mut folded)) {
        return folded;
    }
    normalise_any(text)
}

/// As [`normalise`], for characters of all kinds.
fn normalise_any(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let nfkc = |text: &str| is_nfkc_quick(text.chars()) == IsNormalized::Yes;
    if nfkc(text) {
        text.chars().for_each(|letter| fold(letter, &mut folded));
    } else {
        text.nfkc().for_each(|letter| fold(letter, &mut folded));
    }
    if nfkc(&folded) { folded } else { folded.nfkc().collect() }
}

/// Normalises one of the characters that make up nearly every Chinese text, which do not depend on what stands beside them
/// and need no table. `false` for all others.
fn fold_plain(letter: char, out: &mut String) -> bool {
    /// From a full-width sign to the ASCII character that it is.
    const FULL_WIDTH: u32 = 0xfee0;
    match letter {
        '\0'..='\x7f' => out.push(letter.to_ascii_lowercase()),
        '\u{4e00}'..='\u{9fff}' => out.push(letter),
        '\u{ff01}'..='\u{ff5e}' => match char::from_u32(u32::from(letter) - FULL_WIDTH) {
            Some(ascii) => out.push(ascii.to_ascii_lowercase()),
            None => return false,
        },
        '\u{3000}' => out.push(' '),
        '…' => out.push_str("..."),
        '、' | '。' | '〈'..='】' | '〔' | '〕' | '·' | '—' | '‘' | '’' | '“' | '”' => {
            out.push(letter)
        }
        _ => return false,
    }
    true
}

/// Lower, upper and lower case again bring together what has several of one: `ς` and `σ`, `ß`, `ẞ` and `ss`.
fn fold(letter: char, out: &mut String) {
    if letter.is_ascii() {
        out.push(letter.to_ascii_lowercase());
    } else if is_gram_script(letter) {
        out.push(letter);
    } else if !is_invisible(letter) {
        let lower = letter.to_lowercase();
        out.extend(lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase));
    }
}

/// Characters that say how text is shown, not what it says.
fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The blocks of scripts that are cut into grams.
fn is_gram_script(letter: char) -> bool {
    matches!(
        letter,
        '\u{e00}'..='\u{eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1100}'..='\u{11ff}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{2e80}'..='\u{2fdf}'
            | '\u{3005}'..='\u{3007}'
            | '\u{3021}'..='\u{303c}'
            | '\u{3040}'..='\u{318f}'
            | '\u{31a0}'..='\u{31bf}'
            | '\u{31f0}'..='\u{31ff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{a4cf}'
            | '\u{a960}'..='\u{a97f}'
            | '\u{ac00}'..='\u{d7ff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{1b000}'..='\u{1b16f}'
            | '\u{20000}'..='\u{3ffff}'
    )
}

/// What a character does to the run before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Word,
    Gram,
    Symbol,
    /// Belongs to whatever it follows.
    Mark,
    Break,
}

fn class(letter: char) -> Class {
    if letter.is_ascii() {
        return if letter.is_ascii_alphanumeric() { Class::Word } else { Class::Break };
    }
    // By far the most of what is not ASCII: no table has to be asked.
    if ('\u{4e00}'..='\u{9fff}').contains(&letter) {
        return Class::Gram;
    }
    let is_letter = letter.is_alphanumeric();
    if is_gram_script(letter) {
        return if is_letter || is_combining_mark(letter) { Class::Gram } else { Class::Break };
    }
    if is_combining_mark(letter) {
        Class::Mark
    } else if is_letter {
        Class::Word
    } else if matches!(letter, '\u{2190}'..='\u{23ff}' | '\u{2500}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}') {
        Class::Symbol
    } else {
        Class::Break
    }
}

fn is_hyphen(letter: char) -> bool {
    matches!(letter, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// A stretch of normalised text.
#[derive(Debug, PartialEq, Eq)]
enum Run<'a> {
    Word(&'a str),
    /// A word, and the word with the signs behind it.
    Signed(&'a str, &'a str),
    Grams(&'a str),
    Symbol(char),
    /// The digits, and the text with its hyphens.
    Number(String, &'a str),
}

/// Cuts normalised text into runs.
fn runs<'a>(text: &'a str, mut visit: impl FnMut(Run<'a>)) {
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let kind = class(letter);
        let length = match kind {
            Class::Word | Class::Gram => rest.find(|next| !matches!(class(next), Class::Mark) && class(next) != kind),
            Class::Symbol | Class::Mark | Class::Break => Some(letter.len_utf8()),
        };
        let (mut run, mut after) = rest.split_at(length.unwrap_or(rest.len()));
        match kind {
            Class::Gram => visit(Run::Grams(run)),
            Class::Symbol => visit(Run::Symbol(letter)),
            Class::Mark | Class::Break => {}
            Class::Word => match number(rest) {
                Some((digits, length)) => {
                    (run, after) = rest.split_at(length);
                    visit(Run::Number(digits, run));
                }
                None => match signs(after) {
                    0 => visit(Run::Word(run)),
                    length => visit(Run::Signed(run, &rest[..run.len() + length])),
                },
            },
        }
        rest = after;
    }
}

/// Bytes of `+` and `#` that end a word: in "c++" they do, in "1+1" they only separate.
fn signs(after: &str) -> usize {
    let length = after.bytes().take_while(|byte| matches!(byte, b'+' | b'#')).count();
    let next = after[length..].chars().next();
    if next.is_some_and(|next| class(next) == Class::Word) { 0 } else { length }
}

/// Digits of the oldest numbers of books.
const ISBN_DIGITS_MIN: usize = 9;

/// Digits of the longer kind of ISBN.
const NUMBER_DIGITS_MAX: usize = 13;

/// The digits of an ISBN with hyphens that the text begins with, and its length in bytes.
fn number(text: &str) -> Option<(String, usize)> {
    let mut digits = String::new();
    let mut hyphens = 0;
    let mut length = 0;
    for (at, letter) in text.char_indices() {
        if digits.len() > NUMBER_DIGITS_MAX {
            return None;
        }
        if letter.is_ascii_digit() || letter == 'x' {
            digits.push(letter);
            length = at + 1;
        } else if is_hyphen(letter) && length == at {
            hyphens += 1;
        } else if class(letter) == Class::Word || class(letter) == Class::Mark {
            return None;
        } else {
            break;
        }
    }
    let has_check_digit = !digits[..digits.len().saturating_sub(1)].contains('x');
    (hyphens > 0 && matches!(digits.len(), 10 | NUMBER_DIGITS_MAX) && has_check_digit).then_some((digits, length))
}

/// Tokens of one book or keyword.
pub(super) struct Tokens {
    words: RandomState,
}

const GRAM_BITS: u32 = 21;
const IS_PAIR: u64 = 1 << 62;
const IS_WORD: u64 = 1 << 63;

/// Whether a unit is a word, and no single character.
pub(super) fn is_word(unit: u64) -> bool {
    unit & IS_WORD != 0
}

impl Tokens {
    pub(super) fn new() -> Self {
        Tokens { words: RandomState::new() }
    }

    fn word(&self, word: &str) -> u64 {
        self.words.hash_one(word) | IS_WORD
    }

    fn one(letter: char) -> u64 {
        u64::from(u32::from(letter))
    }

    fn pair(first: char, second: char) -> u64 {
        IS_PAIR | Self::one(first) << GRAM_BITS | Self::one(second)
    }

    fn pairs(grams: &str) -> impl Iterator<Item = u64> {
        grams.chars().zip(grams.chars().skip(1)).map(|(first, second)| Self::pair(first, second))
    }

    /// Everything that finds this text of a book. `text` is normalised.
    pub(super) fn of_book(&self, text: &str, take: &mut impl FnMut(u64)) {
        runs(text, |run| match run {
            Run::Word(word) => take(self.word(word)),
            Run::Signed(word, whole) => {
                take(self.word(word));
                take(self.word(whole));
            }
            Run::Grams(grams) => {
                grams.chars().for_each(|letter| take(Self::one(letter)));
                Self::pairs(grams).for_each(&mut *take);
            }
            Run::Symbol(letter) => take(Self::one(letter)),
            Run::Number(digits, parts) => {
                take(self.word(&digits));
                parts.split(is_hyphen).filter(|part| !part.is_empty()).for_each(|part| take(self.word(part)));
            }
        });
    }

    /// An ISBN as it is listed, whatever stands between its digits. `text` is normalised.
    pub(super) fn of_isbn(&self, text: &str, take: &mut impl FnMut(u64)) {
        self.of_book(text, take);
        let digits: String = text.chars().filter(|letter| letter.is_ascii_digit() || *letter == 'x').collect();
        if digits.len() >= ISBN_DIGITS_MIN {
            take(self.word(&digits));
        }
    }

    /// What a keyword looks for: words, all of which must match. Each is the tokens that one field must have.
    pub(super) fn of_keyword(&self, keyword: &str) -> Vec<Vec<u64>> {
        let mut words = Vec::new();
        runs(&normalise(keyword), |run| {
            let mut tokens: Vec<u64> = match run {
                Run::Word(word) | Run::Signed(_, word) => vec![self.word(word)],
                Run::Symbol(letter) => vec![Self::one(letter)],
                Run::Number(digits, _) => vec![self.word(&digits)],
                Run::Grams(grams) => match (grams.chars().next(), grams.chars().nth(1)) {
                    (Some(letter), None) => vec![Self::one(letter)],
                    _ => Self::pairs(grams).collect(),
                },
            };
            tokens.sort_unstable();
            tokens.dedup();
            words.push(tokens);
        });
        words.sort_unstable();
        words.dedup();
        words
    }

    /// What a text is a row of: characters that are cut into grams, words, numbers, symbols. `text` is normalised.
    pub(super) fn units(&self, text: &str) -> Vec<u64> {
        let mut units = Vec::new();
        runs(text, |run| match run {
            Run::Grams(grams) => units.extend(grams.chars().map(Self::one)),
            Run::Word(word) | Run::Signed(_, word) => units.push(self.word(word)),
            Run::Symbol(letter) => units.push(Self::one(letter)),
            Run::Number(digits, _) => units.push(self.word(&digits)),
        });
        units
    }

    /// A number for what a text says, without what only separates: the same for a title and for the keyword that is
    /// the whole title. `text` is normalised.
    pub(super) fn whole(&self, text: &str) -> u32 {
        let mut plain = String::with_capacity(text.len());
        runs(text, |run| {
            plain.push(' ');
            match run {
                Run::Word(text) | Run::Signed(_, text) | Run::Grams(text) => plain.push_str(text),
                Run::Symbol(letter) => plain.push(letter),
                Run::Number(digits, _) => plain.push_str(&digits),
            }
        });
        self.words.hash_one(&plain) as u32
    }
}

/// The tokens of a book with the fields that have them, each token once.
pub(super) fn merged(mut tokens: Vec<(u64, SearchFields)>) -> Box<[(u64, SearchFields)]> {
    tokens.sort_unstable_by_key(|(token, _)| *token);
    tokens.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 = kept.1 | later.1;
        }
        same
    });
    tokens.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Whether a field with this text is found by a keyword with words.
    fn finds(text: &str, keyword: &str) -> bool {
        let tokens = Tokens::new();
        let mut of_book = BTreeSet::new();
        tokens.of_book(&normalise(text), &mut |token| {
            of_book.insert(token);
        });
        let words = tokens.of_keyword(keyword);
        !words.is_empty() && words.iter().flatten().all(|token| of_book.contains(token))
    }

    fn cut(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        runs(&normalise(text), |run| {
            all.push(match run {
                Run::Word(text) | Run::Signed(_, text) | Run::Grams(text) => text.to_owned(),
                Run::Symbol(letter) => letter.to_string(),
                Run::Number(digits, _) => digits,
            });
        });
        all
    }

    #[test]
    fn widths_and_cases_are_the_same() {
        for (one, other) in [
            ("ＡＢＣ　１９８４", "abc 1984"),
            ("Ｃ＋＋", "c++"),
            ("ﾊﾟﾋﾟｺﾝ", "パピコン"),
            ("STRASSE", "straße"),
            ("ὈΔΥΣΣΕΎΣ", "ὀδυσσεύς"),
            ("ﬁn", "FIN"),
            ("①Ⅳ", "1iv"),
            ("Cafe\u{301}", "CAFÉ"),
            ("co\u{ad}operate", "cooperate"),
            ("\u{feff}米", "米"),
            ("が", "か\u{3099}"),
        ] {
            assert_eq!(normalise(one), normalise(other), "{one} {other}");
        }
    }

    #[test]
    fn text_falls_into_runs() {
        for (text, expected) in [
            ("C++程序设计", &["c++", "程序设计"][..]),
            ("The Lord of 指环", &["the", "lord", "of", "指环"]),
            ("三毛流浪记（全集）", &["三毛流浪记", "全集"]),
            ("[美] 西尔维娅·娜萨", &["美", "西尔维娅", "娜萨"]),
            ("1984年", &["1984", "年"]),
            ("1+1=2 C#!", &["1", "1", "2", "c#"]),
            ("978-7-5428-2382-3", &["9787542823823"]),
            ("ISBN 7-302-02368-X.", &["isbn", "730202368x"]),
            ("1999-2001", &["1999", "2001"]),
            ("x-12345678-9", &["x", "12345678", "9"]),
            ("🐱和🐶", &["🐱", "和", "🐶"]),
            ("책을 읽다", &["책을", "읽다"]),
            ("《》——……，。!?\u{0}\n", &[]),
            ("", &[]),
            ("\u{301}", &[]),
        ] {
            assert_eq!(cut(text), expected, "{text}");
        }
    }

    #[test]
    fn keywords_find_what_they_should() {
        for (text, keyword) in [
            ("C++ Primer 中文版", "c++"),
            ("C++ Primer 中文版", "C"),
            ("C++程序设计", "C++程序设计"),
            ("C++程序设计", "程序"),
            ("1984", "１９８４"),
            ("The Lord of 指环", "指环 LORD"),
            ("米", "米"),
            ("책을 읽다", "책"),
            ("Man's Search", "man's"),
            ("9787542823823", "978-7-5428-2382-3"),
            ("978-7-5428-2382-3", "9787542823823"),
            ("978-7-5428-2382-3", "978–7–5428–2382–3"),
            ("I ♥ NY", "♥"),
        ] {
            assert!(finds(text, keyword), "{keyword} in {text}");
        }
        for (text, keyword) in [
            ("C Primer", "c++"),
            ("C# Primer", "c++"),
            ("The Lord", "lor"),
            ("红楼梦", "红梦"),
            ("红楼梦", "红楼 水浒"),
            ("19840", "1984"),
            ("？！", "？！"),
            ("红楼梦", " "),
        ] {
            assert!(!finds(text, keyword), "{keyword} in {text}");
        }
    }

    #[test]
    fn all_of_the_block_of_common_han_characters_are_letters() {
        assert!(('\u{4e00}'..='\u{9fff}').all(|letter| letter.is_alphanumeric() && is_gram_script(letter)));
    }

    #[test]
    fn tokens_of_a_book_are_merged() {
        let tokens = vec![(7, SearchFields::TITLE), (3, SearchFields::TAGS), (7, SearchFields::AUTHOR)];
        let expected = [(3, SearchFields::TAGS), (7, SearchFields::TITLE | SearchFields::AUTHOR)];
        assert_eq!(*merged(tokens), expected);
    }

    #[test]
    fn plain_characters_become_what_the_tables_say() {
        let mut plain = 0;
        for letter in '\0'..=char::MAX {
            let mut folded = String::from("中a");
            if fold_plain(letter, &mut folded) {
                folded.push('文');
                assert_eq!(folded, normalise_any(&format!("中A{letter}文")), "{letter:?} {:x}", u32::from(letter));
                plain += 1;
            }
        }
        assert!(plain > 21_000, "{plain}");
    }

    #[test]
    fn every_character_is_normalised_for_good() {
        for letter in '\0'..=char::MAX {
            let once = normalise(&format!("a{letter}b"));
            assert_eq!(normalise(&once), once, "{letter:?} {:x}", u32::from(letter));
        }
    }

    proptest! {
        #[test]
        fn every_part_of_a_chinese_title_finds_it(title in "[\u{4e00}-\u{9fff}\u{3041}-\u{3096}]{1,12}", from in 0usize..12, length in 1usize..=4) {
            let letters: Vec<char> = title.chars().collect();
            let from = from % letters.len();
            let part: String = letters[from..(from + length).min(letters.len())].iter().collect();
            prop_assert!(finds(&title, &part), "{} in {}", part, title);
        }

        #[test]
        fn every_text_finds_itself(text in "\\PC{0,40}") {
            let tokens = Tokens::new();
            prop_assert!(tokens.of_keyword(&text).is_empty() || finds(&text, &text));
            prop_assert_eq!(tokens.whole(&normalise(&text)), tokens.whole(&normalise(&normalise(&text))));
        }

        #[test]
        fn plain_text_is_normalised_as_any_other(text in "[中文，。·—…“”！Ａb1　（） ]{0,12}") {
            prop_assert_eq!(normalise(&text), normalise_any(&text));
        }

        #[test]
        fn normalising_again_changes_nothing(text in any::<String>()) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }
    }
}

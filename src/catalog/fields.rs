//! The fields of a book that are searched, as a set.

/// A set of the fields that a search looks at.
///
/// ```
/// use bookstore::SearchFields;
///
/// let fields = SearchFields::TITLE | SearchFields::AUTHOR;
/// assert_eq!(SearchFields::parse("title, author"), fields);
/// assert_eq!(SearchFields::parse("price"), SearchFields::ALL);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SearchFields(u8);

/// The fields by their names in `book_info`, each at the place of its bit.
pub(super) const NAMES: [&str; 7] = ["title", "author", "publisher", "isbn", "tags", "content", "book_intro"];

/// The place of the one field that is a list.
pub(super) const TAGS: usize = 4;

impl SearchFields {
    /// The title.
    pub const TITLE: SearchFields = SearchFields(1);
    /// The authors.
    pub const AUTHOR: SearchFields = SearchFields(1 << 1);
    /// The publisher.
    pub const PUBLISHER: SearchFields = SearchFields(1 << 2);
    /// The ISBN.
    pub const ISBN: SearchFields = SearchFields(1 << 3);
    /// The tags.
    pub const TAGS: SearchFields = SearchFields(1 << 4);
    /// The table of contents.
    pub const CONTENT: SearchFields = SearchFields(1 << 5);
    /// The introduction.
    pub const BOOK_INTRO: SearchFields = SearchFields(1 << 6);
    /// All of them.
    pub const ALL: SearchFields = SearchFields((1 << NAMES.len()) - 1);

    /// Classes of fields, the best first: what is in the title is worth more than what is in the author, that more than
    /// the other short texts, and these more than the long ones.
    pub(super) const CLASSES: [SearchFields; 4] =
        [SearchFields::TITLE, SearchFields::AUTHOR, SearchFields(0b1_1100), SearchFields(0b110_0000)];

    /// Reads the contract's `search_scope`: names separated by blanks or commas, or `all`. Unknown names are
    /// ignored; if none is left, it is [`SearchFields::ALL`].
    pub fn parse(scope: &str) -> SearchFields {
        let names = scope.split(|letter: char| letter.is_whitespace() || matches!(letter, ',' | '，'));
        let fields = names.fold(0, |fields, name| match NAMES.iter().position(|known| *known == name) {
            Some(place) => fields | 1 << place,
            None if name == "all" => SearchFields::ALL.0,
            None => fields,
        });
        if fields == 0 { SearchFields::ALL } else { SearchFields(fields) }
    }

    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    /// The fields of these bits.
    pub(super) const fn of_bits(bits: u8) -> SearchFields {
        SearchFields(bits & SearchFields::ALL.0)
    }

    /// Places of the fields in [`NAMES`].
    pub(super) fn places(self) -> impl Iterator<Item = usize> {
        (0..NAMES.len()).filter(move |place| self.0 & 1 << place != 0)
    }

    /// The field at this place of [`NAMES`].
    pub(super) const fn at(place: usize) -> SearchFields {
        SearchFields(1 << place)
    }
}

impl std::ops::BitOr for SearchFields {
    type Output = SearchFields;

    fn bitor(self, other: SearchFields) -> SearchFields {
        SearchFields(self.0 | other.0)
    }
}

impl Default for SearchFields {
    fn default() -> Self {
        SearchFields::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_list_of_names() {
        for (scope, fields) in [
            ("all", SearchFields::ALL),
            ("", SearchFields::ALL),
            (" , ", SearchFields::ALL),
            ("price shelf", SearchFields::ALL),
            ("title,all", SearchFields::ALL),
            ("title", SearchFields::TITLE),
            ("title price", SearchFields::TITLE),
            ("book_intro,content", SearchFields::BOOK_INTRO | SearchFields::CONTENT),
            ("isbn\ttags ,, publisher", SearchFields::ISBN | SearchFields::TAGS | SearchFields::PUBLISHER),
            ("title，author　isbn", SearchFields::TITLE | SearchFields::AUTHOR | SearchFields::ISBN),
        ] {
            assert_eq!(SearchFields::parse(scope), fields, "{scope:?}");
        }
    }

    #[test]
    fn every_name_has_its_own_bit() {
        let all = NAMES.iter().fold(0, |all, name| {
            let bit = SearchFields::parse(name).bits();
            assert_eq!((bit.count_ones(), all & bit), (1, 0), "{name}");
            all | bit
        });
        assert_eq!(all, SearchFields::ALL.bits());
        let classes =
            SearchFields::CLASSES.iter().fold((0, 0), |(sum, all), class| (sum + class.bits(), all | class.bits()));
        assert_eq!(classes, (SearchFields::ALL.bits(), SearchFields::ALL.bits()), "each field is in one class");
        assert_eq!((NAMES[TAGS], SearchFields::at(TAGS)), ("tags", SearchFields::TAGS));
    }
}

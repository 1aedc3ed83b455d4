//! Keeps values of records out of texts that the destination wrote.
//!
//! An error text may repeat what it is about. A quoted part is cut out; then a text is given up altogether when
//! any word of it is, or begins, a word of the request's cells. In doubt a text is lost, never a value shown.

use std::collections::BTreeSet;
use std::ops::Bound;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;

/// Longer texts are not labels; they are given up.
const TEXT_LIMIT: usize = 300;

/// A word of the text that begins a word of a cell is suspicious from this length on: a cut-off value.
const PREFIX_CHARS: usize = 3;

/// Stands where a quoted part was.
const CUT: &str = "…";

/// The words of the cells of one request.
#[derive(Default)]
pub(crate) struct Echo {
    words: BTreeSet<String>,
    /// Whole cells, lower-case, for titles: those are meant to be the same for every value.
    cells: Vec<String>,
}

impl Echo {
    /// Learns the cells of a request. Costs a pass over all of them, so it is done for refusals only.
    pub(crate) fn of(cells: &RecordBatch) -> Self {
        let mut echo = Self::default();
        for column in cells.columns() {
            let Some(texts) = column.as_string_opt::<i32>() else { continue };
            for text in texts.iter().flatten() {
                echo.learn(text);
            }
        }
        echo
    }

    fn learn(&mut self, cell: &str) {
        let cell = cell.trim().to_lowercase();
        if cell.is_empty() {
            return;
        }
        self.words.extend(words(&cell).map(str::to_owned));
        self.cells.push(cell);
    }

    /// A title without quoted parts; none if it holds a whole cell, or looks as if it held a value.
    pub(crate) fn clean_title(&self, title: &str) -> Option<String> {
        let text = without_quoted(title)?;
        let lower = text.to_lowercase();
        let repeats_cell = self.cells.iter().any(|cell| holds_whole(&lower, cell));
        let looks_like_value = lower.contains('@') || words(&lower).any(|word| digits(word) > 3);
        (!repeats_cell && !looks_like_value).then_some(text)
    }

    /// A detail without quoted parts; none if any word of it could come from a cell.
    pub(crate) fn clean_detail(&self, detail: &str) -> Option<String> {
        let text = self.clean_title(detail)?;
        let lower = text.to_lowercase();
        let repeats_word = words(&lower).any(|word| self.knows(word));
        (!repeats_word).then_some(text)
    }

    fn knows(&self, word: &str) -> bool {
        if word.chars().count() < PREFIX_CHARS {
            return self.words.contains(word);
        }
        let first_not_before = self.words.range::<str, _>((Bound::Included(word), Bound::Unbounded)).next();
        first_not_before.is_some_and(|known| known.starts_with(word))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn digits(word: &str) -> usize {
    word.chars().filter(|letter| letter.is_numeric()).count()
}

/// Whether `cell` stands in `text` with no letter or digit right before or after it.
fn holds_whole(text: &str, cell: &str) -> bool {
    text.match_indices(cell).any(|(start, found)| {
        let before = text[..start].chars().next_back();
        let after = text[start + found.len()..].chars().next();
        ![before, after].into_iter().flatten().any(char::is_alphanumeric)
    })
}

/// Cuts from the first to the last quotation mark of any kind, so that a mark within a value hides nothing.
///
/// An apostrophe within a word is none. A text with a single mark is given up: where the value ends is not known.
fn without_quoted(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > TEXT_LIMIT || text.contains(char::is_control) {
        return None;
    }
    let marks: Vec<(usize, char)> = text.char_indices().filter(|(at, mark)| is_quotation(text, *at, *mark)).collect();
    match marks[..] {
        [] => Some(text.to_owned()),
        [_] => None,
        [(first, _), .., (last, mark)] => Some(format!("{}{CUT}{}", &text[..first], &text[last + mark.len_utf8()..])),
    }
}

fn is_quotation(text: &str, at: usize, mark: char) -> bool {
    match mark {
        '"' | '`' | '“' | '”' | '„' | '«' | '»' | '‹' | '›' | '‘' | '<' | '>' | '[' | ']' | '{' | '}' => {
            true
        }
        '\'' | '’' => {
            let before = text[..at].chars().next_back().is_some_and(char::is_alphanumeric);
            let after = text[at + mark.len_utf8()..].chars().next().is_some_and(char::is_alphanumeric);
            !(before && after)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    fn echo() -> Echo {
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("Zoë Mustermann"), None, Some("Al")]));
        let mails: ArrayRef = Arc::new(StringArray::from(vec!["zoe@example.org", "x", "al@corp.example"]));
        Echo::of(&RecordBatch::try_from_iter([("Name", names), ("Email", mails)]).expect("two equal columns"))
    }

    #[test]
    fn details_that_repeat_a_value_in_any_form_are_given_up_or_cut() {
        let cases = [
            ("The value does not fit its column", Some("The value does not fit its column")),
            ("The value \"zoe@example.org\" is not valid", Some("The value … is not valid")),
            ("Value 'O'Brien' of column 'Name' is wrong", Some("Value … is wrong")),
            ("The column doesn't take numbers", Some("The column doesn't take numbers")),
            ("ZOË MUSTERMANN is not valid", None),
            ("Invalid: zoe@exa…", None),
            ("Cut off: muster", None),
            ("Person al is unknown", None),
            ("Not a phone: 4915123456789", None),
            ("Ends in 'zoe", None),
            ("two\nlines", None),
        ];
        for (detail, expected) in cases {
            assert_eq!(echo().clean_detail(detail).as_deref(), expected, "{detail}");
        }
    }

    #[test]
    fn titles_may_share_a_word_with_a_cell_but_not_hold_one() {
        assert_eq!(echo().clean_title("Example of a wrong value").as_deref(), Some("Example of a wrong value"));
        assert_eq!(echo().clean_title("zoë mustermann is wrong"), None);
        assert_eq!(echo().clean_title("someone@else.example is wrong"), None);
    }
}

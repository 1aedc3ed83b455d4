//! Parts of an audience, each a list of its own, that together hold every row once.

use convoke_core::rule::Operator;
use convoke_core::sink::AudienceBinding;

use crate::wire::{Filter, FilterGroup, RowSearch};

const FIRST_DIGIT: char = '0';
const HEX_DIGITS: &str = "0123456789abcdef";

/// Longest run of digits that a slice is cut by: the length of a key hash.
const LONGEST_PREFIX: usize = 32;

/// What cells are cut by: what addresses mostly consist of, and nothing that a search might take for a wildcard or drop.
/// Cells that go on otherwise are a part of their own, whether the service looks at the case of letters or not.
const CHARACTERS: &str = "0123456789abcdefghijklmnopqrstuvwxyz.-@";

/// Longest beginning of a cell that a slice is cut by.
const LONGEST_BEGINNING: usize = 24;

/// A part of the audience that is paged through on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slice {
    Whole,
    WithoutKey,
    ForeignKey,
    /// Rows whose key cell begins with these digits.
    Prefix(String),
    /// Rows by another cell.
    Cells {
        scope: Scope,
        column: String,
        part: Part,
    },
}

/// Of which rows a column cuts a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Whole,
    WithoutKey,
}

/// Which cells of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Empty,
    /// Those that begin like this and go on with none of [`CHARACTERS`].
    Otherwise(String),
    Beginning(String),
}

/// How a slice that is too long becomes shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The first of its parts.
    Into(Slice),
    /// By a column of which it is to be asked whether it can.
    ByCells(Scope),
    Never,
}

impl Slice {
    /// The first slice of rows by the cells of a column.
    pub(super) fn of_cells(scope: Scope, column: String) -> Self {
        Self::Cells { scope, column, part: Part::Empty }
    }

    /// `by_key`: whether the key column can be searched by its beginning.
    pub(super) fn cut(&self, by_key: bool) -> Cut {
        match self {
            Self::Whole if by_key => Cut::Into(Self::WithoutKey),
            Self::Whole => Cut::ByCells(Scope::Whole),
            Self::WithoutKey => Cut::ByCells(Scope::WithoutKey),
            Self::Prefix(digits) if digits.len() < LONGEST_PREFIX => {
                Cut::Into(Self::Prefix(format!("{digits}{FIRST_DIGIT}")))
            }
            Self::Cells { scope, column, part: Part::Beginning(text) } if text.len() < LONGEST_BEGINNING => {
                let part = Part::Otherwise(text.clone());
                Cut::Into(Self::Cells { scope: *scope, column: column.clone(), part })
            }
            Self::ForeignKey | Self::Prefix(_) | Self::Cells { .. } => Cut::Never,
        }
    }

    /// The slice after this one; none at the end.
    pub(super) fn next(&self) -> Option<Self> {
        match self {
            Self::Whole => None,
            Self::WithoutKey => Some(Self::ForeignKey),
            Self::ForeignKey => Some(Self::Prefix(FIRST_DIGIT.to_string())),
            Self::Prefix(digits) => next_text(digits, HEX_DIGITS).map(Self::Prefix),
            Self::Cells { scope, column, part } => match (part.next(), scope) {
                (Some(part), _) => Some(Self::Cells { scope: *scope, column: column.clone(), part }),
                (None, Scope::Whole) => None,
                (None, Scope::WithoutKey) => Self::WithoutKey.next(),
            },
        }
    }

    pub(super) fn search<'a>(&'a self, audience: &'a AudienceBinding) -> RowSearch<'a> {
        let on_key = |operator, values| Filter::new(&audience.key_column_id, operator, values);
        let filters = match self {
            Self::Whole => return RowSearch::default(),
            Self::WithoutKey => vec![on_key(Operator::Empty, Vec::new())],
            Self::ForeignKey => {
                let not_ours = HEX_DIGITS.chars().map(|digit| on_key(Operator::DoesNotStartWith, vec![digit.into()]));
                std::iter::once(on_key(Operator::NotEmpty, Vec::new())).chain(not_ours).collect()
            }
            Self::Prefix(digits) => vec![on_key(Operator::StartsWith, vec![digits.clone()])],
            Self::Cells { scope, column, part } => {
                let unkeyed = (*scope == Scope::WithoutKey).then(|| on_key(Operator::Empty, Vec::new()));
                unkeyed.into_iter().chain(part.filters(column)).collect()
            }
        };
        RowSearch { filter: Some(FilterGroup { operator: "AND", filters }), ids: None }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "whole" => Some(Self::Whole),
            "without-key" => Some(Self::WithoutKey),
            "foreign-key" => Some(Self::ForeignKey),
            _ => match text.strip_prefix("key-") {
                Some(digits) => {
                    let is_prefix = !digits.is_empty() && digits.chars().all(|digit| HEX_DIGITS.contains(digit));
                    is_prefix.then(|| Self::Prefix(digits.to_owned()))
                }
                None => Self::parse_cells(text),
            },
        }
    }

    fn parse_cells(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '-');
        let scope = match parts.next()? {
            "all" => Scope::Whole,
            "unkeyed" => Scope::WithoutKey,
            _ => return None,
        };
        let (column, kind, beginning) = (from_hex(parts.next()?)?, parts.next()?, from_hex(parts.next()?)?);
        let part = match kind {
            "empty" => Part::Empty,
            "otherwise" => Part::Otherwise(beginning),
            "beginning" => Part::Beginning(beginning),
            _ => return None,
        };
        Some(Self::Cells { scope, column, part })
    }
}

impl std::fmt::Display for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole => f.write_str("whole"),
            Self::WithoutKey => f.write_str("without-key"),
            Self::ForeignKey => f.write_str("foreign-key"),
            Self::Prefix(digits) => write!(f, "key-{digits}"),
            Self::Cells { scope, column, part } => {
                let scope = if *scope == Scope::Whole { "all" } else { "unkeyed" };
                let (kind, beginning) = match part {
                    Part::Empty => ("empty", ""),
                    Part::Otherwise(text) => ("otherwise", text.as_str()),
                    Part::Beginning(text) => ("beginning", text.as_str()),
                };
                // A column's id is the destination's and may hold anything.
                write!(f, "{scope}-{}-{kind}-{}", to_hex(column), to_hex(beginning))
            }
        }
    }
}

impl Part {
    fn next(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Otherwise(String::new())),
            Self::Otherwise(text) => Some(Self::Beginning(format!("{text}{FIRST_DIGIT}"))),
            Self::Beginning(text) => next_text(text, CHARACTERS).map(Self::Beginning),
        }
    }

    fn filters<'a>(&self, column: &'a str) -> Vec<Filter<'a>> {
        let on_cell = |operator, values| Filter::new(column, operator, values);
        match self {
            Self::Empty => vec![on_cell(Operator::Empty, Vec::new())],
            Self::Beginning(text) => vec![on_cell(Operator::StartsWith, vec![text.clone()])],
            Self::Otherwise(text) => {
                let begins = match text.is_empty() {
                    true => on_cell(Operator::NotEmpty, Vec::new()),
                    false => on_cell(Operator::StartsWith, vec![text.clone()]),
                };
                let longer = CHARACTERS.chars().map(|next| format!("{text}{next}"));
                let not_longer = longer.map(|text| on_cell(Operator::DoesNotStartWith, vec![text]));
                std::iter::once(begins).chain(not_longer).collect()
            }
        }
    }
}

/// `0a` → `0b`, `0f` → `1`, `f` → none for hexadecimal digits: also right after a slice was cut into finer ones.
fn next_text(text: &str, alphabet: &str) -> Option<String> {
    let last_of_all = alphabet.chars().next_back()?;
    let kept = text.trim_end_matches(last_of_all);
    let (rest, last) = kept.split_at_checked(kept.len().checked_sub(1)?)?;
    let next = alphabet.chars().skip_while(|character| !last.starts_with(*character)).nth(1)?;
    Some(format!("{rest}{next}"))
}

fn to_hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<String> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(part: Part) -> Slice {
        Slice::Cells { scope: Scope::WithoutKey, column: "c".to_owned(), part }
    }

    #[test]
    fn slices_follow_each_other_and_cover_every_key() {
        let cases =
            [("0", Some("1")), ("9", Some("a")), ("f", None), ("0f", Some("1")), ("3ff", Some("4")), ("ff", None)];
        for (digits, next) in cases {
            assert_eq!(next_text(digits, HEX_DIGITS).as_deref(), next, "{digits}");
        }
        let order: Vec<_> = std::iter::successors(Some(Slice::WithoutKey), Slice::next).collect();
        assert_eq!(order.len(), 18);
    }

    #[test]
    fn slices_of_cells_cover_every_cell_once_however_far_they_are_cut() {
        // Cuts whatever holds more than one of these, as a scan would; each must be in one slice that is not cut.
        let texts =
            ["", "a", "ab", "abc", "abd", "ab ", "Ab", "zoë", "ö", "z ", "  ", "@", "abcdef@x.co", "abcdeg@x.co"];
        let holds = |part: &Part, text: &str| match part {
            Part::Empty => text.is_empty(),
            Part::Beginning(beginning) => text.starts_with(beginning),
            Part::Otherwise(beginning) => {
                let rest = text.strip_prefix(beginning.as_str());
                rest.is_some_and(|rest| {
                    !text.is_empty() && !rest.chars().next().is_some_and(|next| CHARACTERS.contains(next))
                })
            }
        };
        let mut found: Vec<&&str> = Vec::new();
        let mut slice = Some(Slice::of_cells(Scope::WithoutKey, "c".to_owned()));
        while let Some(Slice::Cells { part, .. }) = &slice {
            let held: Vec<_> = texts.iter().filter(|text| holds(part, text)).collect();
            let current = slice.clone().expect("it is one");
            if held.len() > 1
                && let Cut::Into(finer) = current.cut(true)
            {
                slice = Some(finer);
                continue;
            }
            found.extend(held);
            slice = current.next();
        }
        assert_eq!(slice, Some(Slice::ForeignKey), "the scan goes on where it was cut");
        found.sort();
        let mut expected: Vec<_> = texts.iter().collect();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_cut_by_cells_ends_with_its_scope() {
        let last = Part::Beginning("@".to_owned());
        assert_eq!(cells(last.clone()).next(), Some(Slice::ForeignKey));
        let whole = Slice::Cells { scope: Scope::Whole, column: "c".to_owned(), part: last };
        assert_eq!(whole.next(), None);
        assert_eq!(Slice::Whole.cut(false), Cut::ByCells(Scope::Whole));
        assert_eq!(cells(Part::Empty).cut(true), Cut::Never);
    }

    #[test]
    fn a_slice_reads_back_from_its_text() {
        let parts =
            [Part::Empty, Part::Otherwise(String::new()), Part::Otherwise("a".into()), Part::Beginning("a- ;".into())];
        for part in parts {
            let slice = cells(part);
            assert_eq!(Slice::parse(&slice.to_string()), Some(slice));
        }
        for text in ["all-6", "all-63-other-", "some-63-empty-", "unkeyed-63-empty"] {
            assert_eq!(Slice::parse(text), None, "{text}");
        }
    }
}

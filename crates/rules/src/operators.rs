//! Which operators fit which columns, and how our YAML spells them.

use convoke_core::DataType;
use convoke_core::rule::Operator;

use crate::columns::ColumnKind;

/// How one operator may be used on a column: an entry of GTM Studio's filter metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorInfo {
    pub operator: Operator,
    /// Whether several values may be given.
    pub multiple: bool,
    /// The most values that may be given; nought: none may; absent: no limit.
    pub value_count_limit: Option<usize>,
    /// The fewest characters a text value must have.
    pub min_char_limit: Option<usize>,
}

/// What stands behind an operator's key in our YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// `true`; for `empty` and `not_empty` also `false`.
    Flag,
    /// One text or number.
    Value,
    /// A text or number, or a list of them.
    ValueOrList,
    /// A list of texts or numbers.
    List,
    Number,
    /// Two numbers, the smaller first.
    NumberPair,
    /// `YYYY-MM-DD`.
    Day,
    /// Two days, the earlier first.
    DayPair,
    /// A whole number of days.
    Days,
}

/// One key of a condition in our YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConditionKey {
    pub name: &'static str,
    pub operator: Operator,
    pub argument: Argument,
    /// One line for editors.
    pub doc: &'static str,
}

macro_rules! condition_keys {
    ($($name:literal, $operator:ident, $argument:ident, $doc:literal;)+) => {
        /// Every key that a condition may have besides `column`.
        pub const CONDITION_KEYS: &[ConditionKey] = &[$(ConditionKey {
            name: $name, operator: Operator::$operator, argument: Argument::$argument, doc: $doc,
        },)+];
    };
}

condition_keys! {
    "equals", Equals, Value, "is this value";
    "not_equals", NotEquals, Value, "is not this value";
    "in", Equals, List, "is one of these values";
    "not_in", NotEquals, List, "is none of these values";
    "contains", Contains, ValueOrList, "contains one of these texts";
    "not_contains", DoesNotContain, ValueOrList, "contains none of these texts";
    "contains_word", ContainsWord, ValueOrList, "contains one of these as a whole word";
    "not_contains_word", DoesNotContainWord, ValueOrList, "contains none of these as a whole word";
    "starts_with", StartsWith, ValueOrList, "starts with one of these texts";
    "not_starts_with", DoesNotStartWith, ValueOrList, "starts with none of these texts";
    "greater_than", GreaterThan, Number, "is a greater number";
    "less_than", LessThan, Number, "is a smaller number";
    "at_least", GreaterThanOrEqual, Number, "is this number or a greater one";
    "at_most", LessThanOrEqual, Number, "is this number or a smaller one";
    "between", InRange, NumberPair, "is a number from the first to the second, both included";
    "is_true", IsTrue, Flag, "is true";
    "is_false", IsFalse, Flag, "is false";
    "has_one_of", HasOneOf, ValueOrList, "the list has one of these items";
    "has_none_of", HasNoneOf, ValueOrList, "the list has none of these items";
    "has_all_of", HasAllOf, ValueOrList, "the list has all of these items";
    "on", IsExactDate, Day, "is this day";
    "before", Before, Day, "is an earlier day";
    "after", After, Day, "is a later day";
    "within", Within, DayPair, "is a day from the first to the second, both included";
    "last_days", RollingRange, Days, "is a day from this many days ago until today";
    "empty", Empty, Flag, "has no value";
    "not_empty", NotEmpty, Flag, "has a value";
}

const fn info(operator: Operator, multiple: bool, limit: usize, characters: Option<usize>) -> OperatorInfo {
    OperatorInfo { operator, multiple, value_count_limit: Some(limit), min_char_limit: characters }
}

/// As many values as GTM Studio's searches are known to take.
const MOST_VALUES: usize = 100;

const fn texts(operator: Operator) -> OperatorInfo {
    info(operator, true, MOST_VALUES, Some(1))
}

const fn numbers(operator: Operator) -> OperatorInfo {
    info(operator, true, MOST_VALUES, None)
}

const fn exactly(operator: Operator, count: usize) -> OperatorInfo {
    info(operator, count > 1, count, None)
}

const EMPTY: OperatorInfo = exactly(Operator::Empty, 0);
const NOT_EMPTY: OperatorInfo = exactly(Operator::NotEmpty, 0);

const TEXT: &[OperatorInfo] = &[
    texts(Operator::Equals),
    texts(Operator::NotEquals),
    texts(Operator::Contains),
    texts(Operator::DoesNotContain),
    texts(Operator::ContainsWord),
    texts(Operator::DoesNotContainWord),
    texts(Operator::StartsWith),
    texts(Operator::DoesNotStartWith),
    EMPTY,
    NOT_EMPTY,
];
const NUMBER: &[OperatorInfo] = &[
    numbers(Operator::Equals),
    numbers(Operator::NotEquals),
    exactly(Operator::GreaterThan, 1),
    exactly(Operator::LessThan, 1),
    exactly(Operator::GreaterThanOrEqual, 1),
    exactly(Operator::LessThanOrEqual, 1),
    exactly(Operator::InRange, 2),
    EMPTY,
    NOT_EMPTY,
];
const DATE: &[OperatorInfo] = &[
    exactly(Operator::IsExactDate, 1),
    exactly(Operator::Before, 1),
    exactly(Operator::After, 1),
    exactly(Operator::Within, 2),
    exactly(Operator::RollingRange, 1),
    EMPTY,
    NOT_EMPTY,
];
const BOOLEAN: &[OperatorInfo] = &[exactly(Operator::IsTrue, 0), exactly(Operator::IsFalse, 0), EMPTY, NOT_EMPTY];
const TEXT_LIST: &[OperatorInfo] =
    &[texts(Operator::HasOneOf), texts(Operator::HasNoneOf), texts(Operator::HasAllOf), EMPTY, NOT_EMPTY];
const NUMBER_LIST: &[OperatorInfo] =
    &[numbers(Operator::HasOneOf), numbers(Operator::HasNoneOf), numbers(Operator::HasAllOf), EMPTY, NOT_EMPTY];
const PICKLIST: &[OperatorInfo] = &[texts(Operator::HasOneOf), texts(Operator::HasNoneOf), EMPTY, NOT_EMPTY];
const IDENTIFIER: &[OperatorInfo] = &[texts(Operator::Equals), texts(Operator::NotEquals), EMPTY, NOT_EMPTY];

/// The operators that fit an audience column of this type; none if it cannot be filtered.
pub fn operators_for(data_type: DataType) -> &'static [OperatorInfo] {
    operators_of(ColumnKind::of(data_type))
}

fn operators_of(kind: ColumnKind) -> &'static [OperatorInfo] {
    match kind {
        ColumnKind::Untyped | ColumnKind::Text => TEXT,
        ColumnKind::Identifier => IDENTIFIER,
        ColumnKind::Number => NUMBER,
        ColumnKind::Date => DATE,
        ColumnKind::Boolean => BOOLEAN,
        ColumnKind::Picklist => PICKLIST,
        ColumnKind::TextList => TEXT_LIST,
        ColumnKind::NumberList => NUMBER_LIST,
        ColumnKind::Unfilterable => &[],
    }
}

/// How an operator may be used on columns of this kind; `None` if it does not fit.
pub(crate) fn usage(kind: ColumnKind, operator: Operator) -> Option<OperatorInfo> {
    let find = |table: &[OperatorInfo]| table.iter().copied().find(|entry| entry.operator == operator);
    if kind != ColumnKind::Untyped {
        return find(operators_of(kind));
    }
    // Files come without types, and rules on them are not searches of a service: no limit on the values.
    let entry = [TEXT, NUMBER, DATE, BOOLEAN].iter().find_map(|table| find(table))?;
    let limit = entry.value_count_limit.filter(|&limit| limit != MOST_VALUES);
    Some(OperatorInfo { value_count_limit: limit, ..entry })
}

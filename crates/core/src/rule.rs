//! The rule algebra's data: a tree of AND/OR groups over typed conditions.
//!
//! Parsing, compiling and evaluating rules is the work of the `rules` crate.

use serde::{Deserialize, Serialize};

/// A condition on records or rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rule {
    /// True if every part is true; true if there is none.
    All(Vec<Rule>),
    /// True if at least one part is true; false if there is none.
    Any(Vec<Rule>),
    Condition(Condition),
}

/// One comparison of a column with literal values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// A source column, an audience column or a column id, depending on where the rule is used.
    pub column: String,
    pub operator: Operator,
    pub values: Vec<Literal>,
}

/// A literal value in a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Literal {
    Boolean(bool),
    Number(f64),
    Text(String),
}

macro_rules! operators {
    ($($(#[$doc:meta])* $name:ident = $wire:literal;)+) => {
        /// The operators of the algebra: `GenericFilterOperator` of the GTM Studio API.
        ///
        /// With several values a positive operator means "any of", a negative one "none of". Text is compared
        /// without regard to case. A NULL or empty cell satisfies `EMPTY` and the negative operators only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Operator { $($(#[$doc])* #[serde(rename = $wire)] $name,)+ }

        impl Operator {
            /// Every operator the API names, in its order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name the API uses.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $wire,)+ }
            }

            /// Reads the name that `as_str` gives.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|operator| operator.as_str() == text)
            }
        }
    };
}

operators! {
    Equals = "EQUALS";
    NotEquals = "NOT_EQUALS";
    Contains = "CONTAINS";
    /// Spelled as the API spells it.
    DoesNotContain = "DOES_NOT_CONTAINS";
    ContainsWord = "CONTAINS_WORD";
    DoesNotContainWord = "DOES_NOT_CONTAIN_WORD";
    Empty = "EMPTY";
    NotEmpty = "NOT_EMPTY";
    StartsWith = "STARTS_WITH";
    DoesNotStartWith = "DOES_NOT_START_WITH";
    GreaterThan = "GREATER_THAN";
    LessThan = "LESS_THAN";
    GreaterThanOrEqual = "GREATER_THAN_OR_EQUAL";
    LessThanOrEqual = "LESS_THAN_OR_EQUAL";
    /// Two values, both ends included.
    InRange = "IN_RANGE";
    IsTrue = "IS_TRUE";
    IsFalse = "IS_FALSE";
    HasOneOf = "HAS_ONE_OF";
    HasNoneOf = "HAS_NONE_OF";
    HasAllOf = "HAS_ALL_OF";
    IsExactDate = "IS_EXACT_DATE";
    Before = "BEFORE";
    After = "AFTER";
    /// Two days, both included.
    Within = "WITHIN";
    /// One value: that many days back from today, today included.
    RollingRange = "ROLLING_RANGE";
}

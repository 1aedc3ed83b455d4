//! The rule algebra: two parsers, two compilers to SQL, and an evaluator, with one meaning.
//!
//! A rule is [`convoke_core::rule::Rule`]. [`parse::yaml`] and [`parse::gtm`] read it, [`validate()`] checks it
//! against the columns it is used on, [`compile::datafusion`] and [`compile::sqlite`] turn it into a SQL
//! predicate, and [`evaluate()`] is the naive reading that the compilers are tested against. What every target
//! promises:
//!
//! - Text is compared without regard to the case of ASCII letters only: `Ä` and `ä` differ, because SQLite cannot
//!   fold them and all targets must agree.
//! - A cell is empty if it is NULL, text of length nought, or a list without elements. An empty cell satisfies
//!   `EMPTY` and the negative operators only.
//! - With several values a positive operator means any of them, a negative one none of them; a negative operator
//!   is exactly the opposite of its positive one.
//! - A word is bounded by the ends of the text, white space or ASCII punctuation.
//! - A day is compared by the first ten characters, which must look like `YYYY-MM-DD` and be followed by nothing,
//!   `T` or a space; any other cell is no day. Ranges include both ends. `ROLLING_RANGE n` reaches from `n` days
//!   before today through today; the caller says what today is.
//! - On a column without a declared type (CSV) the operator and the literal decide: a number in the rule, or an
//!   operator for numbers, compares numbers, and a cell that is not a finite number satisfies no positive operator.
//!
//! Left out: SQL typed by users (`sql:`), and anything that runs a query.

pub mod columns;
pub mod compile;
mod evaluate;
pub mod operators;
pub mod parse;
mod problem;
mod semantics;
mod validate;

pub use columns::{ColumnKind, Columns};
pub use evaluate::{Cell, evaluate};
pub use operators::{OperatorInfo, operators_for};
pub use problem::{RuleError, RuleProblem};
pub use validate::validate;

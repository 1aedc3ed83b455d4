//! Holds the SQLite compiler against the evaluator, on a real SQLite.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod agreement;

//! The checkpoint stores against their contract, and what each of them has to show alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

mod journal_model;
mod postgres;
mod sqlite;

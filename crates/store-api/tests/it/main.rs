//! The audience store over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod audiences;
mod gateway;
mod optional;
mod rows;
mod search;
mod served;

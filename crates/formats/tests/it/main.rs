//! What comes out of files, tidy or not.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod avro;
mod contents;
mod corpus;
mod csv;
mod encodings;
mod ndjson;
mod packed;

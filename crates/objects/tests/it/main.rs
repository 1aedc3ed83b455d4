//! A folder, and a server of the S3 protocol that checks signatures.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod fixture;
mod reading;
mod stores;
mod writing;

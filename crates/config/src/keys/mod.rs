//! The table of keys: everything that may stand in a configuration file.
//!
//! Checks, messages, the JSON Schema and the completeness of the defaults file follow from it.

mod connections;
mod convoke;
mod postgres;
mod source;
mod sync;

pub(crate) use connections::CONNECTIONS;
pub(crate) use convoke::CONVOKE;
pub(crate) use sync::SYNC;

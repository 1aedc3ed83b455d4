//! Clients of the services that both sources and the state are kept on: from a connection's settings to something that
//! can connect. Addresses, credentials, TLS, proxies and time-outs mean the same wherever a connection is used.
//!
//! What is done with a client, how long one tries again, and what an answer means, is told by whoever uses it.

pub mod azure;
mod error;
pub mod gcs;
mod http;
pub mod plain;
pub mod postgres;
mod profile;
pub mod s3;

pub use error::ClientError;

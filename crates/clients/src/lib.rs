//! Clients of the services that both sources and the state are kept on: from a connection's settings to something that
//! can connect. Addresses, credentials, TLS, proxies and time-outs mean the same wherever a connection is used.
//!
//! What is done with a client, how long one tries again, and what an answer means, is told by whoever uses it.

mod error;
pub mod postgres;
pub mod s3;

pub use error::ClientError;

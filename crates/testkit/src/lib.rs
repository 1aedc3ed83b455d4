//! Fakes, fault scripts and contract suites for tests. Used by tests only; nothing here ships.

pub mod clock;
pub mod contract;
pub mod fake_sink;
pub mod fake_source;
pub mod postgres;
pub mod s3;
pub mod scripted_http;

pub use convoke_fault_proxy as fault_proxy;

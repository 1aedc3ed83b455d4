//! The daemon on a store in memory, under a clock that the tests hold in their hands.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod arrivals;
mod calendar;
mod draining;
mod endpoint;
mod facts;
mod memory_store;
mod metrics;
mod replicas;
mod scripted_jobs;
mod store_down;
mod turns;
mod unfinished;
mod waiting;
mod world;

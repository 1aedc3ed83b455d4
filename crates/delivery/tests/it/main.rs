//! Delivery against a destination that fails in every way it may, under a clock that the tests hold.

mod courier;
mod crash;
mod limiter;
mod memory_state;
mod provision;
mod world;

//! Delivery against a destination that fails in every way it may, under a clock that the tests hold.

mod answers;
mod courier;
mod crash;
mod credential;
mod lanes;
mod limiter;
mod memory_state;
mod patience;
mod provision;
mod quota;
mod world;

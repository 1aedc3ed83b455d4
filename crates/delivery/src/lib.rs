//! The only path to a destination: the delivery protocol, its runtime, and what stands around it.
//!
//! - [`protocol`]: what to do next about one batch, as a pure state machine;
//! - [`courier`]: drives that machine over a sink and the journal: delivering, settling after a crash, sweeping;
//! - [`provision`]: finds or makes the audience that rows go to;
//! - [`limiter`]: the rate budget of one credential;
//! - [`patience`]: reads that are repeated while the destination is unavailable;
//! - [`guarantee`]: what is promised of an audience, and what for.
//!
//! What is promised: no row is made twice and none is lost, whatever answers get lost and whenever the process ends,
//! as long as the destination keeps what its [`Capabilities`](convoke_core::sink::Capabilities) say.

pub mod courier;
pub mod guarantee;
pub mod lease;
pub mod limiter;
pub mod patience;
pub mod protocol;
pub mod provision;
pub mod report;

pub use courier::{Courier, Ports, Terms};
pub use guarantee::{Guarantee, Promise};
pub use lease::LeaseView;
pub use limiter::Limiter;
pub use patience::{PatientReads, random_backoff};
pub use report::{DeliveryEnd, DeliveryError, DeliveryProgress, DeliveryReport, SettleReport, SweepReport, Unwatched};

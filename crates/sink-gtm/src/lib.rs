//! ZoomInfo GTM Studio, and every service that speaks its audience API, as a destination.
//!
//! [`GtmSink`] implements `core`'s `AudienceSetup` and `Sink`. Every call is one attempt at one request (a read of
//! several pages is one attempt at each page); what this crate promises is to be truthful about how sure each
//! outcome is, and to repeat no secret and no value of a record in any message. Retries, pacing beyond the gate,
//! the journal and the splitting of batches are the caller's.

mod answers;
mod api;
mod client;
mod echo;
mod enrich;
mod problem;
mod provision;
mod rate_headers;
mod row_answer;
mod row_body;
mod row_document;
mod rows;
mod scan;
mod search;
mod settings;
mod sink;
mod survey;
mod token;
mod transport;
mod wire;

pub use settings::{Error, GtmSettings};
pub use sink::GtmSink;

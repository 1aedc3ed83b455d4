//! The audience store's HTTP surface, with the vendor's paths, media types, envelopes, error shapes and status codes.
//!
//! A client written for ZoomInfo GTM Studio works against it by changing the base URL to `http://host:port/gtm`
//! (`/oauth/v1/token`, `/studio/v1/…`). Storage types are never serialised straight out: each resource has its document
//! here. Enriching finds nothing, since there is no reference data; formula and AI columns are left out. What is not built
//! answers 404, or 400 where it is asked for by
//! a member of a request, in the vendor's error shape.
//!
//! Where the vendor publishes no bound, the store has its own, and answers 400 beyond it: names of 255 characters, other texts
//! of 32,000; a hundred pages; a filter group of 250 filters and 10,000 values, of which a filter has 500 and one has 10,000
//! bytes.

mod audiences;
mod call;
mod columns;
mod document;
mod failure;
mod folders;
mod gate;
mod oauth;
mod paging;
mod quota;
mod rows;
mod server;

pub use quota::RateLimits;
pub use server::{ServeSettings, router, serve};

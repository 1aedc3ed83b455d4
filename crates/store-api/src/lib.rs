//! The audience store's HTTP surface, with the vendor's paths, media types, envelopes, error shapes and status codes.
//!
//! A client written for ZoomInfo GTM Studio works against it by changing the base URL to `http://host:port/gtm`
//! (`/oauth/v1/token`, `/studio/v1/…`). Storage types are never serialised straight out: each resource has its document
//! here. Enriching finds nothing, since there is no reference data; formula and AI columns are left out. What is not built
//! answers 404, or 400 where it is asked for by
//! a member of a request, in the vendor's error shape.

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

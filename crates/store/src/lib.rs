//! The audience store: folders, audiences, columns, rows and jobs, kept in one SQLite file.
//!
//! It promises that a write is applied as a whole or not at all, is durable when the call returns, and that no row id is
//! ever given twice. Several processes may open the same file. Everything belongs to an OAuth client and is invisible to
//! the others: see [`Tenant`]. HTTP is the work of `convoke-store-api`. There is no reference data: what is enriched ends
//! without a result.

pub mod audience;
pub mod client;
pub mod column;
mod database;
mod enrich;
pub mod error;
pub mod folder;
pub mod job;
pub mod match_criteria;
pub mod page;
pub mod row;
mod row_delete;
mod row_search;
mod row_upsert;
mod statement;
mod tenant;
mod value;

pub use client::{Caller, Client, NewClient, TokenGrant};
pub use database::Store;
pub use enrich::Enrichment;
pub use error::{Error, Place, Problem, ProblemKind, Result};
pub use page::{Listing, Page, Sort};
pub use row_search::RowSearch;
pub use row_upsert::{CellWrite, RowWrite};
pub use tenant::Tenant;

//! The engine as the pipeline uses it, on real files.

#![expect(clippy::unwrap_used, reason = "set-up shared by tests may panic as tests do")]

mod audits;
mod deleted;
mod excerpt;
mod expressions;
mod fixture;
mod ledgers;
mod nested;
mod owners;
mod pinned;
mod plans;
mod pruning;
mod spools;
mod suppressions;
mod traces;

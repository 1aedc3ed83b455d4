//! End-to-end tests: the shipped binary as a process, over real files, stores and HTTP.

mod answers;
mod architecture;
mod audience;
mod backfill;
mod bad_input;
mod chaos;
mod crash;
mod daemon;
mod drill;
mod enrich;
mod enrich_in_process;
mod feeds;
mod first_day;
mod in_process;
mod interference;
mod leftovers;
mod life;
mod overtaken;
mod quota;
mod readme;
mod rejects;
mod secrecy;
mod serve;
mod three_sources;
mod verify;
mod workspace;

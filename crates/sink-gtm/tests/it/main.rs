//! The sink against a scripted server, where every answer and failure is written down, and against the audience store.

mod answers;
mod contract;
mod enrich;
mod faults;
mod fixture;
mod privacy;
mod rows;
mod search;
mod setup;
mod table;
mod token;

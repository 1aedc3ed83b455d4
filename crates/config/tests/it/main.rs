//! Loads whole configuration directories from memory, and the shipped one from disk.

mod after;
mod corpus;
mod directory;
mod examples;
mod problems;
mod replicas;
mod schedules;
mod secrets;
mod sources;
mod specs;

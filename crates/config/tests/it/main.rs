//! Loads whole configuration directories from memory, and the shipped one from disk.

mod directory;
mod problems;
mod secrets;
mod specs;

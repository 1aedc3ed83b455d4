//! End-to-end tests: the shipped binary as a process, over real files, stores and HTTP.

mod architecture;
mod audience;
mod bad_input;
mod crash;
mod first_day;
mod in_process;
mod interference;
mod leftovers;
mod overtaken;
mod readme;
mod secrecy;
mod workspace;

//! The one binary: parses the command line, wires concrete types together, and maps endings to exit codes.

mod cli;
mod clock;
mod commands;
mod crash_point;
mod embedded;
mod exit;
mod failure;
mod forecast;
mod host;
mod logging;
mod output;
mod progress;
mod signals;
mod spill;
mod wiring;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;

use crate::cli::{Cli, Command};
use crate::exit::Exit;

/// Arrow's many short-lived buffers make the allocator show up: this one is as fast as the fastest, and holds a quarter
/// less memory at the peak of a first load.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A run waits for one thing after the other, and its queries have threads of their own: on a single thread nothing
/// wakes another one for each answer. A server has many callers at once.
fn runtime_for(command: &Command) -> Builder {
    match command {
        Command::Store { .. } | Command::Serve { .. } | Command::Drill(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help and version are no errors; both print themselves.
            if !error.use_stderr() {
                return Exit::Success.into();
            }
            if std::env::args_os().any(|argument| argument == "--json") {
                failure::print_json(&error.render().to_string(), Exit::Usage);
            }
            return Exit::Usage.into();
        }
    };
    let global = cli.global.clone();
    let runtime = match runtime_for(&cli.command).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not be started: {error}");
            return Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(commands::dispatch(cli)).unwrap_or_else(|failure| failure.print(&global));
    // A blocking reader may still hold a thread after an early end; nothing waits for it.
    runtime.shutdown_background();
    exit.into()
}

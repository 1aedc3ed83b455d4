//! One module per group of commands. Each command returns an exit code, or a failure that has one.

mod adopt;
mod backfill;
mod check;
mod demo;
mod drill;
mod history;
mod init;
mod life;
mod rejects;
mod schedule;
mod serve;
mod store;
mod sync;
mod verify;
mod view;

use convoke_pipeline::SourceUse;

use crate::cli::{Cli, Command, Schedule};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

pub(crate) async fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Demo { keep } => Box::pin(demo::demo(&global, keep.as_deref())).await,
        Command::Init { sync, drop, delimiter } => init::init(&global, &sync, (&drop, delimiter)).await,
        Command::Check { connect } => Box::pin(check::check(&global, connect)).await,
        Command::Preview { sync, count } => Box::pin(view::preview(&global, &sync, count)).await,
        Command::Plan { sync, extent } => Box::pin(sync::plan(&global, &sync, &extent)).await,
        Command::Apply { plan, approve } => Box::pin(sync::apply(&global, &plan, approve.as_deref())).await,
        Command::Run { sync, extent } => Box::pin(sync::run(&global, &sync, &extent)).await,
        Command::Backfill { sync, selection, window } => {
            Box::pin(backfill::backfill(&global, &sync, (&selection, window))).await
        }
        Command::Serve { listen } => Box::pin(serve::serve(&global, listen)).await,
        Command::Schedule(Schedule::Next { sync, count }) => schedule::next(&global, sync.as_deref(), count),
        Command::Runs { sync, count } => history::runs(&global, sync.as_deref(), count).await,
        Command::Show { id } => history::show(&global, &id).await,
        Command::Explain { sync, key, no_source } => {
            let source = if no_source { SourceUse::Unread } else { SourceUse::Read };
            Box::pin(view::explain(&global, &sync, &key, source)).await
        }
        Command::Rejects(command) => rejects::rejects(&global, command).await,
        Command::Adopt { sync } => Box::pin(adopt::adopt(&global, &sync)).await,
        Command::Verify { sync, repair: true, samples } => Box::pin(verify::repair(&global, &sync, samples)).await,
        Command::Verify { sync, repair: false, samples } => Box::pin(verify::verify(&global, &sync, samples)).await,
        Command::Sync(command) => Box::pin(life::life(&global, command)).await,
        Command::Drill(drill) => Box::pin(drill::drill(&global, &drill)).await,
        Command::Schema => {
            output::json(&convoke_config::json_schema());
            Ok(Exit::Success)
        }
        Command::Store { data, listen, command } => Box::pin(store::store(&global, &data, listen, command)).await,
    }
}

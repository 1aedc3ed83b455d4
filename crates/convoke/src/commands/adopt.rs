//! `adopt`: takes over rows that the audience already holds.

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::signals::Signals;
use crate::wiring::{load_config, wire};
use crate::{output, progress};

pub(crate) async fn adopt(global: &Global, sync: &str) -> Result<Exit, Failure> {
    let config = load_config(&global.config, global.verbose)?;
    let signals = Signals::watch()?;
    let wired = wire(&config, sync, progress::reporter(global), signals.cancel()).await?;
    let adoption = wired.pipeline.adopt().await;
    if let Ok(adoption) = &adoption {
        let actor = format!("uid {}", rustix::process::getuid().as_raw());
        let detail = format!("sync {sync}, audience {}: {} rows", adoption.audience, adoption.adopted);
        wired.host.state.audit(&actor, "adopt", &detail).await?;
    }
    wired.close().await;
    let adoption = adoption.map_err(|error| Failure::ended_by(error, &signals))?;
    if global.json {
        output::json(&adoption);
        return Ok(Exit::Success);
    }
    output::line(format!(
        "{}: {} rows read, {} taken over, {} known already",
        adoption.audience, adoption.scanned, adoption.adopted, adoption.known
    ));
    if adoption.duplicates > 0 {
        let named = adoption.duplicate_rows.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        output::line(format!("{} rows share a key with another row and were left alone: {named}", adoption.duplicates));
    }
    if adoption.unexplained > 0 {
        output::line(format!("{} rows have no usable key and were left alone", adoption.unexplained));
    }
    Ok(Exit::Success)
}

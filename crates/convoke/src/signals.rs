//! SIGINT and SIGTERM drain a run; a second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::failure::Failure;

/// Watches for signals for the life of the process.
#[derive(Clone)]
pub(crate) struct Signals {
    cancel: CancellationToken,
    /// Exit code of the signal that came, 0 for none.
    received: Arc<AtomicU8>,
}

impl Signals {
    pub(crate) fn watch() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::caused("signals cannot be watched", &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let signals = Self { cancel: CancellationToken::new(), received: Arc::default() };
        let watched = signals.clone();
        tokio::spawn(async move {
            loop {
                let exit = tokio::select! {
                    _ = interrupt.recv() => Exit::Interrupted,
                    _ = terminate.recv() => Exit::Terminated,
                };
                if watched.cancel.is_cancelled() {
                    eprintln!("stopping at once; the next run settles what is in doubt");
                    std::process::exit(exit.code().into());
                }
                watched.received.store(exit.code(), Ordering::SeqCst);
                eprintln!("finishing the requests in flight; once more to stop at once");
                watched.cancel.cancel();
            }
        });
        Ok(signals)
    }

    pub(crate) fn cancel(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// The signal that came, if one did.
    pub(crate) fn received(&self) -> Option<Exit> {
        [Exit::Interrupted, Exit::Terminated]
            .into_iter()
            .find(|exit| exit.code() == self.received.load(Ordering::SeqCst))
    }
}

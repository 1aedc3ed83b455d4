//! Threads of the engine's own, so that queries do not compete with what waits for networks and disks.
//!
//! Whatever a query spawns runs on these threads; the future that the caller polls stays on the caller's.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Handle, Runtime};

/// The threads. Dropping them abandons what still runs.
#[derive(Debug)]
pub(crate) struct QueryThreads(Option<Runtime>);

impl QueryThreads {
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        Builder::new_multi_thread()
            .worker_threads(count.max(1))
            .thread_name("query")
            .enable_all()
            .build()
            .map(Some)
            .map(Self)
    }

    /// Runs a future so that what it spawns runs on these threads.
    pub(crate) async fn run<F: Future + Unpin>(&self, work: F) -> F::Output {
        let handle = self.0.as_ref().expect("the threads live as long as this").handle();
        Within { handle, work }.await
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        // To wait for a blocking thread here could block a runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A future that is polled in the context of another runtime.
struct Within<'a, F> {
    handle: &'a Handle,
    work: F,
}

impl<F: Future + Unpin> Future for Within<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = self.handle.enter();
        Pin::new(&mut self.work).poll(context)
    }
}

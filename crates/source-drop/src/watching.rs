//! Tells at once that something may have come to a folder, where the system can: on Linux, of a local file system.
//!
//! Only ever a hint. Nobody is told of what comes over the network, or of a folder that was replaced by another one, so
//! whoever listens looks from time to time all the same.

use std::io;
use std::path::Path;

use futures::StreamExt;
use futures::stream::BoxStream;

/// Yields whenever something may have come, once for what comes together.
///
/// Needs a tokio runtime.
///
/// # Errors
///
/// The folder cannot be watched.
#[cfg(target_os = "linux")]
pub fn changes(folder: &Path) -> io::Result<BoxStream<'static, ()>> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    use tokio::net::unix::pipe::Receiver;

    let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    // Not of each write: a file that is being written to does not count yet.
    let wanted = WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB;
    add_watch(&inotify, folder, wanted | WatchFlags::ONLYDIR)?;
    // It is no pipe, but it is read like one, and nothing else is asked of it.
    let events = Receiver::from_owned_fd_unchecked(inotify)?;
    let told = futures::stream::unfold(events, |events| async move { Some((linux::next(&events).await?, events)) });
    Ok(told.boxed())
}

/// This system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn changes(_folder: &Path) -> io::Result<BoxStream<'static, ()>> {
    Ok(futures::stream::pending().boxed())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::ErrorKind;

    use tokio::net::unix::pipe::Receiver;

    /// Waits for events and takes all there are; none if there will be no more.
    pub(super) async fn next(events: &Receiver) -> Option<()> {
        let mut buffer = [0; 1 << 13];
        let mut has_come = false;
        while !has_come {
            events.readable().await.ok()?;
            loop {
                match events.try_read(&mut buffer) {
                    Ok(0) => return None,
                    Ok(_) => has_come = true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return None,
                }
            }
        }
        Some(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_folder_tells_what_is_written_or_moved_into_it() {
        let (folder, elsewhere) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
        let mut told = changes(folder.path()).unwrap();
        fs::write(folder.path().join("a.csv"), "a\n1\n").unwrap();
        assert_eq!(told.next().await, Some(()));
        fs::write(elsewhere.path().join("b.csv"), "a\n1\n").unwrap();
        fs::rename(elsewhere.path().join("b.csv"), folder.path().join("b.csv")).unwrap();
        assert_eq!(told.next().await, Some(()));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_cannot_be_watched() {
        let folder = tempfile::TempDir::new().unwrap();
        assert!(changes(&folder.path().join("absent")).is_err());
    }
}

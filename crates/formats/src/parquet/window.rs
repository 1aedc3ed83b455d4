//! A window of bytes that moves over one column of a row group.
//!
//! A decoder reads forwards, page after page. What lies before the page that it reads is let go of; what it will read next
//! is asked for while it is busy, one piece ahead. A page larger than a piece is fetched in one request.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use convoke_core::SourceError;
use convoke_core::source::PinnedFile;
use parquet::errors::ParquetError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::decoder::Failure;

/// Bytes of a column, from where its decoder is.
#[derive(Debug)]
pub(super) struct Window(Mutex<State>);

#[derive(Debug)]
struct State {
    /// What is at hand, in the order of the file.
    held: VecDeque<Piece>,
    feed: Option<Feed>,
}

#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The bytes from `start` on, if it lies within.
    fn from(&self, start: u64) -> Option<Bytes> {
        let within = usize::try_from(start.checked_sub(self.start)?).ok()?;
        (within < self.bytes.len()).then(|| self.bytes.slice(within..))
    }
}

impl Window {
    /// A window that has all it will ever be asked for.
    pub(super) fn whole(held: VecDeque<Piece>) -> Self {
        Self(Mutex::new(State { held, feed: None }))
    }

    /// A window that asks for more. What it waits for is read by tasks, so the thread that uses it may wait.
    pub(super) fn fed(first: Piece, mut feed: Feed) -> Self {
        feed.ask_ahead();
        Self(Mutex::new(State { held: VecDeque::from([first]), feed: Some(feed) }))
    }

    /// The bytes of a page.
    pub(super) fn exactly(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.state().from(start, length as u64)?;
        if bytes.len() < length { Err(past_the_end()) } else { Ok(bytes.slice(..length)) }
    }

    /// Some bytes from there on; none at the end of the column.
    pub(super) fn some(&self, start: u64) -> Result<Bytes, ParquetError> {
        self.state().from(start, 1)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The bytes from `start` on, at least so many unless the column ends before. Lets go of what lies before.
    fn from(&mut self, start: u64, length: u64) -> Result<Bytes, ParquetError> {
        while self.held.front().is_some_and(|piece| piece.end() <= start) {
            self.held.pop_front();
        }
        let end = start.saturating_add(length);
        if self.held.is_empty() {
            let Some(piece) = self.next_piece(start, end)? else { return Ok(Bytes::new()) };
            self.held.push_back(piece);
        }
        let first = self.held.front().and_then(|piece| piece.from(start)).ok_or_else(past_the_end)?;
        if first.len() as u64 >= length { Ok(first) } else { self.joined(first, start, end) }
    }

    /// A page that several pieces have parts of.
    fn joined(&mut self, first: Bytes, start: u64, end: u64) -> Result<Bytes, ParquetError> {
        let mut joined = BytesMut::with_capacity(usize::try_from(end - start).unwrap_or(0).max(first.len()));
        joined.extend_from_slice(&first);
        drop(first);
        self.held.pop_front();
        loop {
            let reached = start + joined.len() as u64;
            if reached >= end {
                break;
            }
            let next = match self.held.pop_front() {
                Some(piece) => Some(piece),
                None => self.next_piece(reached, end)?,
            };
            let Some(piece) = next.filter(|piece| piece.start == reached) else { break };
            joined.extend_from_slice(&piece.bytes);
        }
        let bytes = joined.freeze();
        self.held.push_front(Piece { start, bytes: bytes.clone() });
        Ok(bytes)
    }

    fn next_piece(&mut self, start: u64, end: u64) -> Result<Option<Piece>, ParquetError> {
        match &mut self.feed {
            Some(feed) => feed.next_piece(start, end),
            None => Ok(None),
        }
    }
}

fn past_the_end() -> ParquetError {
    ParquetError::EOF("a page reaches beyond its column".to_owned())
}

/// Where a window has its bytes from.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) file: Arc<dyn PinnedFile>,
    pub(super) runtime: Handle,
    pub(super) failure: Failure,
    /// What has not been asked for yet, in the order of the file.
    pub(super) rest: VecDeque<Range<u64>>,
    pub(super) piece_bytes: u64,
    pub(super) ahead: Option<Ahead>,
}

/// A read that is under way. Dropped, it is given up.
#[derive(Debug)]
pub(super) struct Ahead {
    range: Range<u64>,
    read: oneshot::Receiver<Result<Vec<Bytes>, SourceError>>,
    /// Gives the read up when it is dropped.
    _task: AbortOnDropHandle<()>,
}

impl Feed {
    /// The next piece that holds `start`, whole up to `end` if nothing of it is under way yet.
    fn next_piece(&mut self, start: u64, end: u64) -> Result<Option<Piece>, ParquetError> {
        self.skip_to(start);
        let under_way = match self.ahead.take() {
            Some(ahead) => ahead,
            None => match self.ask(end.saturating_sub(start)) {
                Some(asked) => asked,
                None => return Ok(None),
            },
        };
        let piece = self.wait(under_way)?;
        self.ask_ahead();
        Ok(Some(piece))
    }

    pub(super) fn ask_ahead(&mut self) {
        self.ahead = self.ask(0);
    }

    /// Forgets what lies before, also if it is under way.
    fn skip_to(&mut self, start: u64) {
        if self.ahead.as_ref().is_some_and(|ahead| ahead.range.end <= start) {
            self.ahead = None;
        }
        if self.ahead.is_some() {
            return;
        }
        while self.rest.front().is_some_and(|range| range.end <= start) {
            self.rest.pop_front();
        }
        if let Some(front) = self.rest.front_mut() {
            front.start = front.start.max(start);
        }
    }

    /// Asks for the next piece, and for more than a piece if so much is needed.
    fn ask(&mut self, needed: u64) -> Option<Ahead> {
        let front = self.rest.front_mut()?;
        let end = front.end.min(front.start.saturating_add(self.piece_bytes.max(needed)));
        let range = front.start..end;
        front.start = end;
        if front.is_empty() {
            self.rest.pop_front();
        }
        let (file, wanted) = (Arc::clone(&self.file), range.clone());
        let (sender, read) = oneshot::channel();
        let task = self.runtime.spawn(async move {
            // Nobody waits for it any more once the window has moved on.
            let _ = sender.send(file.read(&[wanted]).await);
        });
        Some(Ahead { range, read, _task: AbortOnDropHandle::new(task) })
    }

    fn wait(&self, ahead: Ahead) -> Result<Piece, ParquetError> {
        let Ahead { range, read, _task } = ahead;
        let Ok(read) = read.blocking_recv() else {
            // The process is shutting down, or the connector panicked, which was told.
            return Err(self.failure.interrupted());
        };
        match read.map(|mut read| read.pop()) {
            Ok(Some(bytes)) if bytes.len() as u64 == range.end - range.start => Ok(Piece { start: range.start, bytes }),
            Ok(_) => Err(self.failure.outside_contract()),
            Err(cause) => Err(self.failure.note(cause)),
        }
    }
}

#[cfg(test)]
mod tests;

//! An object that is read as it was listed, or not at all.

use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use convoke_core::SourceError;
use convoke_core::source::PinnedFile;
use convoke_objects::{Pin, Store};
use futures::{StreamExt, TryStreamExt};

use crate::footer::Tail;
use crate::run::KeptTail;

/// Ranges that lie no further apart are read in one request: to read what lies between costs less than a request.
const WIDEST_GAP: u64 = 128 << 10;

/// As much is read in one request on account of gaps; a single range may be longer.
const LONGEST_JOINED: u64 = 8 << 20;

/// Requests at a time.
const REQUESTS_AT_ONCE: usize = 10;

/// An object under its pin.
pub(crate) struct PinnedObject {
    store: Store,
    pin: Pin,
    fingerprint: String,
    /// What was read of it already: asking for the footer costs no second request.
    tail: Mutex<Option<KeptTail>>,
}

impl PinnedObject {
    pub(crate) fn new(store: Store, pin: Pin, tail: Option<KeptTail>) -> Self {
        Self { store, fingerprint: pin.fingerprint(), pin, tail: Mutex::new(tail) }
    }

    /// What is held of the end, before these ranges are read. What has no room is let go of with them, if they reach as far
    /// as the footer does.
    fn tail_for(&self, ranges: &[Range<u64>]) -> Option<Tail> {
        let mut held = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = held.as_ref()?;
        let (tail, has_room) = (kept.tail.clone(), kept.room.is_some());
        if !has_room && ranges.iter().any(|range| range.start <= tail.start) {
            *held = None;
        }
        Some(tail)
    }
}

/// The bytes of a range that need no request.
fn held(tail: Option<&Tail>, range: &Range<u64>) -> Option<Bytes> {
    if range.is_empty() {
        return Some(Bytes::new());
    }
    tail.and_then(|tail| tail.slice(range))
}

impl fmt::Debug for PinnedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedObject").field("pin", &self.pin).finish_non_exhaustive()
    }
}

#[async_trait]
impl PinnedFile for PinnedObject {
    fn size(&self) -> u64 {
        self.pin.size
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, SourceError> {
        let tail = self.tail_for(ranges);
        let mut read: Vec<Option<Bytes>> = ranges.iter().map(|range| held(tail.as_ref(), range)).collect();
        let missing = ranges.iter().cloned().enumerate().filter(|(place, _)| read[*place].is_none());
        let fetches = joined(missing.collect()).into_iter().map(|request| async move {
            let bytes = self.store.get(&self.pin, request.range.clone()).await?;
            Ok::<_, SourceError>(request.parts(&bytes))
        });
        let fetched: Vec<_> = futures::stream::iter(fetches).buffered(REQUESTS_AT_ONCE).try_collect().await?;
        for (place, bytes) in fetched.into_iter().flatten() {
            read[place] = Some(bytes);
        }
        Ok(read.into_iter().flatten().collect())
    }
}

/// What is read in one request.
#[derive(Debug, PartialEq, Eq)]
struct Joined {
    range: Range<u64>,
    /// What of it was asked for, each with its place among the ranges.
    wanted: Vec<(usize, Range<u64>)>,
}

impl Joined {
    /// What was asked for. Parts of one piece of memory keep all of it, so they are copied out where most of it lies
    /// between them.
    fn parts(&self, bytes: &Bytes) -> Vec<(usize, Bytes)> {
        let wanted: u64 = self.wanted.iter().map(|(_, range)| range.end - range.start).sum();
        let is_sparse = wanted < (self.range.end - self.range.start) / 2;
        let part = |range: &Range<u64>| {
            let within = |place: u64| usize::try_from(place - self.range.start).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.slice(within(range.start)..within(range.end));
            if is_sparse { Bytes::copy_from_slice(&part) } else { part }
        };
        self.wanted.iter().map(|(place, range)| (*place, part(range))).collect()
    }
}

/// Ranges as they are read: those that lie near each other in one request.
fn joined(mut ranges: Vec<(usize, Range<u64>)>) -> Vec<Joined> {
    ranges.sort_by_key(|(_, range)| (range.start, range.end));
    let mut requests: Vec<Joined> = Vec::new();
    for (place, range) in ranges {
        if let Some(last) = requests.last_mut() {
            let end = last.range.end.max(range.end);
            let is_near = range.start <= last.range.end.saturating_add(WIDEST_GAP);
            if is_near && (range.end <= last.range.end || end - last.range.start <= LONGEST_JOINED) {
                last.range.end = end;
                last.wanted.push((place, range));
                continue;
            }
        }
        requests.push(Joined { range: range.clone(), wanted: vec![(place, range)] });
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    const KB: u64 = 1 << 10;
    const MB: u64 = 1 << 20;

    fn requests(ranges: &[Range<u64>]) -> Vec<(Range<u64>, Vec<usize>)> {
        let joined = joined(ranges.iter().cloned().enumerate().collect());
        joined.into_iter().map(|one| (one.range, one.wanted.into_iter().map(|(place, _)| place).collect())).collect()
    }

    #[test]
    fn ranges_near_each_other_are_one_request_in_whatever_order_they_are_asked_for() {
        let found = requests(&[40 * KB..50 * KB, 0..10 * KB, 900 * KB..901 * KB, 10 * KB..20 * KB]);
        assert_eq!(found, [(0..50 * KB, vec![1, 3, 0]), (900 * KB..901 * KB, vec![2])]);
        assert_eq!(requests(&[0..100, 10..20, 50..150]), [(0..150, vec![0, 1, 2])]);
    }

    #[test]
    fn sparse_pages_are_not_read_with_all_that_lies_between_them() {
        let pages: Vec<_> = (0..1_000).map(|page| page * 800 * KB..page * 800 * KB + 20 * KB).collect();
        let read: u64 = requests(&pages).into_iter().map(|(range, _)| range.end - range.start).sum();
        assert_eq!(read, 1_000 * 20 * KB);
    }

    #[test]
    fn a_joined_request_has_a_largest_size_unless_a_range_alone_is_larger() {
        let pages: Vec<_> = (0..1_000).map(|page| page * 100 * KB..page * 100 * KB + 20 * KB).collect();
        assert!(requests(&pages).iter().all(|(range, _)| range.end - range.start <= 8 * MB));
        assert!(requests(&pages).len() < 20);
        assert_eq!(requests(&[0..50 * MB, 50 * MB..51 * MB]).len(), 2);
    }

    #[test]
    fn what_lies_between_wanted_parts_is_not_held_on_to() {
        let bytes = Bytes::from((0..100).collect::<Vec<u8>>());
        for (wanted, is_copied) in [(vec![(1, 110..120), (0, 180..190)], true), (vec![(0, 100..190)], false)] {
            let joined = Joined { range: 100..200, wanted: wanted.clone() };
            for ((place, part), (wanted_place, range)) in joined.parts(&bytes).into_iter().zip(wanted) {
                let within = range.start as usize - 100..range.end as usize - 100;
                assert_eq!((place, &part), (wanted_place, &bytes.slice(within.clone())));
                assert_eq!(part.as_ptr() != bytes[within].as_ptr(), is_copied);
            }
        }
    }
}

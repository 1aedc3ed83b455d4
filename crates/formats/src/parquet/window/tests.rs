use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::*;

/// Bytes that tell their place; notes how many were asked for.
#[derive(Debug, Default)]
struct Numbered {
    bytes_read: AtomicU64,
    requests: AtomicU64,
}

const SIZE: u64 = 10_000;

fn byte_at(place: u64) -> u8 {
    (place % 251) as u8
}

#[async_trait]
impl PinnedFile for Numbered {
    fn size(&self) -> u64 {
        SIZE
    }

    fn fingerprint(&self) -> &str {
        "numbered"
    }

    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, SourceError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(ranges
            .iter()
            .map(|range| {
                assert!(range.end <= SIZE && !range.is_empty(), "{range:?}");
                self.bytes_read.fetch_add(range.end - range.start, Ordering::Relaxed);
                range.clone().map(byte_at).collect()
            })
            .collect())
    }
}

/// A window over `range` in pieces of 100 bytes, with the first in hand.
fn window(file: &Arc<Numbered>, range: Range<u64>) -> Window {
    let first = range.start..range.end.min(range.start + 100);
    let feed = Feed {
        file: Arc::clone(file) as Arc<dyn PinnedFile>,
        runtime: Handle::current(),
        failure: Failure::default(),
        rest: std::iter::once(first.end..range.end).collect(),
        piece_bytes: 100,
        ahead: None,
    };
    Window::fed(Piece { start: first.start, bytes: first.map(byte_at).collect() }, feed)
}

fn assert_holds(bytes: &Bytes, start: u64) {
    assert!((start..).zip(bytes).all(|(place, byte)| *byte == byte_at(place)), "not the bytes from {start} on");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_length_are_whole_and_nothing_is_read_twice() {
    let file = Arc::new(Numbered::default());
    let window = window(&file, 500..6_000);
    tokio::task::spawn_blocking(move || {
        let mut place = 500;
        for length in [1, 99, 100, 50, 730, 3, 2_000, 400, 2_117] {
            let bytes = window.exactly(place, length).unwrap();
            assert_eq!(bytes.len(), length);
            assert_holds(&bytes, place);
            place += length as u64;
        }
        assert_eq!(place, 6_000);
        assert!(window.some(6_000).unwrap().is_empty());
        assert!(window.exactly(5_999, 2).is_err(), "beyond the end of the column");
    })
    .await
    .unwrap();
    assert_eq!(file.bytes_read.load(Ordering::Relaxed), 5_400, "all but the first piece");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_over_is_not_read() {
    let file = Arc::new(Numbered::default());
    let window = window(&file, 0..9_000);
    tokio::task::spawn_blocking(move || {
        assert_holds(&window.some(10).unwrap(), 10);
        assert_holds(&window.exactly(8_000, 1_000).unwrap(), 8_000);
    })
    .await
    .unwrap();
    assert!(file.bytes_read.load(Ordering::Relaxed) <= 1_200, "{}", file.bytes_read.load(Ordering::Relaxed));
}

#[test]
fn a_whole_window_has_what_it_was_given_and_no_more() {
    let held = [10..20_u64, 30..40].map(|range| Piece { start: range.start, bytes: range.map(byte_at).collect() });
    let window = Window::whole(held.into());
    assert_holds(&window.exactly(12, 8).unwrap(), 12);
    assert_holds(&window.exactly(30, 10).unwrap(), 30);
    assert!(window.exactly(38, 3).is_err());
    assert!(window.exactly(12, 1).is_err(), "what lies behind was let go of");
}

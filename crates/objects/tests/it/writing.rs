//! Writing on conditions, and moving.

use bytes::Bytes;
use convoke_objects::{Moved, Pin};

use crate::fixture::TestStore;

#[tokio::test]
async fn of_many_that_put_a_new_object_at_once_one_succeeds() {
    for store in TestStore::both().await {
        let key = store.key("claims/a");
        let attempts = (0..16).map(|number: usize| {
            let (store, key) = (store.store.clone(), key.clone());
            tokio::spawn(async move { store.put_new(&key, Bytes::from(number.to_string())).await.unwrap() })
        });
        let mut winners = Vec::new();
        for (number, attempt) in attempts.collect::<Vec<_>>().into_iter().enumerate() {
            if attempt.await.unwrap() {
                winners.push(number.to_string());
            }
        }
        let [winner] = winners.as_slice() else { panic!("{winners:?}") };
        assert_eq!(store.contents("claims/a").unwrap(), winner.as_bytes());
    }
}

#[tokio::test]
async fn an_object_is_replaced_only_if_it_is_still_the_one_that_was_pinned() {
    let store = TestStore::on_s3().await;
    store.place("claim", b"first");
    let pin = store.pin("claim").await;
    assert!(store.store.put_if(&pin, Bytes::from("second")).await.unwrap());
    assert!(!store.store.put_if(&pin, Bytes::from("third")).await.unwrap());
    assert_eq!(store.contents("claim").unwrap(), b"second");
    let (object, contents) = store.store.read_small(&store.key("claim")).await.unwrap().unwrap();
    assert_eq!((object.pin.size, contents.as_ref()), (6, b"second".as_slice()));
    assert!(store.store.read_small(&store.key("none")).await.unwrap().is_none());
    store.store.put(&store.key("claim"), Bytes::new()).await.unwrap();
    assert_eq!(store.store.read_small(&store.key("claim")).await.unwrap().unwrap().1, "");
}

#[tokio::test]
async fn an_object_is_moved_whole_and_over_no_other() {
    for store in TestStore::both().await {
        for contents in [Vec::new(), b"small".to_vec(), vec![7; 5 << 20]] {
            store.place("in/a.csv", &contents);
            let pin = store.pin("in/a.csv").await;
            store.place("taken/a.csv", b"other");
            let taken = store.store.move_unless_there(&pin, &store.key("taken/a.csv")).await.unwrap();
            assert_eq!((taken, store.contents("taken/a.csv").unwrap()), (Moved::Taken, b"other".to_vec()));
            assert!(store.contents("in/a.csv").is_some());
            let name = format!("processed/{}.csv", contents.len());
            assert_eq!(store.store.move_unless_there(&pin, &store.key(&name)).await.unwrap(), Moved::Done);
            assert!(store.contents("in/a.csv").is_none());
            assert!(store.contents(&name).unwrap() == contents, "{name}");
        }
    }
}

#[tokio::test]
async fn an_object_that_was_replaced_is_neither_moved_nor_removed() {
    for store in TestStore::both().await {
        for length in [10, 5 << 20] {
            store.place("in/a.csv", &vec![1; length]);
            let pin = store.pin("in/a.csv").await;
            store.place("in/a.csv", &vec![2; length + 1]);
            let moved = store.store.move_unless_there(&pin, &store.key("processed/a.csv")).await.unwrap();
            assert_eq!(moved, Moved::Changed);
            assert!(store.contents("processed/a.csv").is_none());
            assert!(!store.store.delete_if(&pin).await.unwrap());
            assert_eq!(store.contents("in/a.csv").unwrap().len(), length + 1);
        }
        let pin = store.pin("in/a.csv").await;
        assert!(store.store.delete_if(&pin).await.unwrap());
        assert!(store.contents("in/a.csv").is_none());
    }
}

#[tokio::test]
async fn rights_to_write_that_are_missing_are_named() {
    let store = TestStore::on_s3().await;
    store.place("a", b"x");
    let pin = store.pin("a").await;
    store.server().deny("PutObject");
    let error = store.store.put_new(&store.key("b"), Bytes::new()).await.unwrap_err().to_string();
    assert!(error.contains("cannot write `s3://lake/b`"), "{error}");
    assert!(error.contains("`s3:PutObject` on `lake/*`"), "{error}");
    store.server().deny("DeleteObjects");
    let error = store.store.delete_if(&pin).await.unwrap_err().to_string();
    assert!(error.contains("`s3:DeleteObject` on `lake/*`"), "{error}");
}

#[tokio::test]
async fn an_object_that_is_too_large_to_be_moved_is_refused_before_anything_is_asked_for() {
    let store = TestStore::on_s3().await;
    store.place("in/a.csv", b"x");
    let pin = Pin { size: 5 << 30, ..store.pin("in/a.csv").await };
    store.store.can_move(&pin).unwrap();
    store.server().forget_requests();
    let large = Pin { size: pin.size + 1, ..pin };
    let error = store.store.move_unless_there(&large, &store.key("processed/a.csv")).await.unwrap_err().to_string();
    assert!(error.contains("`s3://lake/in/a.csv` has 5368709121 bytes") && error.contains("5 GiB"), "{error}");
    for request in ["HeadObject", "CreateMultipartUpload", "GetObject"] {
        assert_eq!(store.server().requests(request), 0, "{request}");
    }
    assert!(store.contents("in/a.csv").is_some());
}

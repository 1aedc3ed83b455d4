use chrono::DateTime;
use object_store::{ObjectMeta, path::Path};

use super::*;

fn location(url: &str) -> Location {
    Location::parse(url).unwrap()
}

fn here() -> Location {
    location("s3://b/in/**/*")
}

fn object(name: &str, e_tag: &str) -> ListedObject {
    let meta = ObjectMeta {
        location: Path::from(format!("in/{name}")),
        last_modified: DateTime::UNIX_EPOCH,
        size: 7,
        e_tag: Some(format!("\"{e_tag}\"")),
        version: None,
    };
    ListedObject::new(name, meta)
}

fn mark_of_object(name: &str, e_tag: &str) -> Mark {
    mark_of(&here(), &object(name, e_tag).pin)
}

fn outcome(name: &str, e_tag: &str, is_read: bool) -> SplitOutcome {
    let result = match is_read {
        true => SplitResult::Read { fingerprint: e_tag.to_owned(), records: 1 },
        false => SplitResult::Broken { reason: "torn".to_owned() },
    };
    SplitOutcome { split: object(name, e_tag).split(), result }
}

fn stored_again(position: &Position) -> Position {
    Position::parse(&position.store()).unwrap()
}

#[test]
fn a_snapshot_settles_what_was_read_and_nothing_else() {
    let position = Position::of_snapshot(&here(), &[outcome("a", "1", true), outcome("b", "1", false)]);
    for position in [stored_again(&position), position] {
        assert!(position.is_exactly(&here(), &[object("a", "1")]));
        assert!(!position.is_exactly(&here(), &[object("a", "2")]));
        assert!(!position.is_exactly(&here(), &[object("a", "1"), object("b", "1")]));
        assert!(!position.is_exactly(&here(), &[]));
    }
}

#[test]
fn additions_settle_broken_objects_too_and_forget_what_is_gone() {
    let outcomes = [outcome("gone", "1", true), outcome("a", "1", true), outcome("stays", "1", true)];
    let before = stored_again(&Position::empty().after_additions(&here(), &outcomes, None));
    let listed = [mark_of_object("a", "2"), mark_of_object("b", "1"), mark_of_object("stays", "1")];
    let mut sift = Sift::new(Some(&before));
    assert_eq!(listed.map(|mark| sift.is_settled(mark)), [false, false, true]);
    let (kept, gone) = sift.finish();
    assert_eq!((kept.as_slice(), gone), ([mark_of_object("stays", "1")].as_slice(), 1));
    let new = [outcome("a", "2", true), outcome("b", "1", false)];
    let after = stored_again(&before.clone().after_additions(&here(), &new, Some(&kept)));
    assert!(after.is_exactly(&here(), &[object("a", "2"), object("b", "1"), object("stays", "1")]));
    let unlisted = before.after_additions(&here(), &new, None);
    assert!(unlisted.holds(&mark_of_object("gone", "1")) && !unlisted.holds(&mark_of_object("a", "1")));
}

#[test]
fn a_position_follows_a_url_that_was_widened() {
    let position = Position::empty().after_additions(&here(), &[outcome("x/a", "1", true)], None);
    let same = |url: &str| mark_of(&location(url), &object("x/a", "1").pin);
    assert!(position.holds(&same("s3://b/**/*")) && position.holds(&same("s3://b/in/x/*")));
    assert!(!position.holds(&same("s3://other/in/**/*")));
}

#[test]
fn a_position_of_names_is_read_on() {
    let named = serde_json::json!({ "root": "s3://b/in/", "objects": { "x/a": ["1", 7], "b": ["2", 7] } });
    let position = Position::parse(&SourcePosition(named)).unwrap();
    assert!(position.is_exactly(&here(), &[object("x/a", "1"), object("b", "2")]));
    assert!(position.holds(&mark_of_object("b", "2")) && !position.holds(&mark_of_object("b", "3")));
}

#[test]
fn a_position_of_a_million_objects_takes_fifteen_bytes_each_and_a_snapshot_next_to_none() {
    let count = 1_000_000;
    let marks: Vec<Mark> = (0..count).map(|number| mark(&format!("s3://b/in/{number}"), "e", number)).collect();
    let additions = Position { settled: Settled::of(marks.clone()), columns: None };
    let stored = additions.store().0.to_string();
    assert!(stored.len() < 20_000_100, "{}", stored.len());
    assert_eq!(size_of_val(marks.as_slice()), 15_000_000);
    let read = stored_again(&additions);
    assert!(marks.iter().step_by(997).all(|mark| read.holds(mark)));
    let (count, digest) = additions.settled.summary();
    let snapshot = Position { settled: Settled::Together { count, digest }, columns: None };
    assert!(snapshot.store().0.to_string().len() < 150);
}

#[test]
fn the_position_of_another_source_is_refused() {
    for other in
        [serde_json::json!({ "files": [] }), serde_json::json!({ "version": 3, "marks": "" }), serde_json::json!(7)]
    {
        let error = Position::parse(&SourcePosition(other)).unwrap_err();
        assert!(error.to_string().contains("give the sync a new name"), "{error}");
    }
}

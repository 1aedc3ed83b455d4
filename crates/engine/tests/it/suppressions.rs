//! Suppressed people are not sent, and a list in doubt stops the run.

use std::time::Duration;

use convoke_core::Timestamp;
use convoke_core::spec::{ExistingRows, Limit, Suppression, SyncMode};
use convoke_engine::{SuppressionList, load_suppression};

use crate::fixture::*;

fn suppression(path: std::path::PathBuf, existing: ExistingRows) -> Suppression {
    Suppression {
        path,
        column: "email".to_owned(),
        audience_column: "Email".to_owned(),
        existing,
        max_age: Duration::from_secs(3_600),
        max_unusable: Limit::records(0),
    }
}

pub(crate) fn list(world: &World, entries: &[String], removes: bool) -> SuppressionList {
    let path = world.fresh("list.csv");
    std::fs::write(
        &path,
        format!("\u{feff}id,email\n{}", entries.iter().map(|entry| format!("1,{entry}\n")).collect::<String>()),
    )
    .unwrap();
    let existing = if removes { ExistingRows::Remove } else { ExistingRows::Leave };
    load_suppression(&suppression(path, existing), Timestamp(0)).unwrap()
}

#[tokio::test]
async fn a_suppressed_person_is_not_sent_and_is_removed_also_when_the_source_has_no_such_record() {
    let mut world = World::new();
    world.settle(&spec(SyncMode::Upsert), &[record(&["a@b.co", "A", "1"]), record(&["c@d.co", "C", "1"])]).await;
    world.suppressions = vec![list(&world, &[" A@B.co".to_owned(), "e@f.co".to_owned()], true)];
    let spool = world.spool(&columns(), &[&[record(&["E@f.co", "E", "1"]), record(&["e@f.co", "F", "1"])]]).await;
    let (planned, _) = world.plan(&spec(SyncMode::Upsert), &spool, None).await;
    assert_eq!((planned.counts.suppressed, planned.counts.superseded), (1, 1));
    assert_eq!((planned.counts.creates, planned.counts.deletes), (0, 1));
}

#[tokio::test]
async fn an_address_is_suppressed_however_it_is_written() {
    let mut world = World::new();
    let mut upsert = spec(SyncMode::Upsert);
    upsert.columns[0].expression = convoke_core::spec::Expression::Column("email".to_owned());
    world.suppressions = vec![list(&world, &["Ada@B.co".to_owned(), "eve@f.co".to_owned()], false)];
    let records = [record(&["ada@b.CO", "A", "1"]), record(&["EVE@f.co", "E", "1"]), record(&["bob@f.co", "B", "1"])];
    let spool = world.spool(&columns(), &[&records]).await;
    let (planned, _) = world.plan(&upsert, &spool, None).await;
    assert_eq!((planned.counts.suppressed, planned.counts.creates), (2, 1));
}

#[test]
fn a_list_that_cannot_be_trusted_stops_the_run() {
    let world = World::new();
    let path = world.fresh("list.csv");
    let load = |path: &std::path::Path, now| {
        load_suppression(&suppression(path.to_owned(), ExistingRows::Leave), now).err().map(|error| error.to_string())
    };
    assert!(load(&path, Timestamp(0)).unwrap().contains("cannot be read"));
    std::fs::write(&path, "mail\na@b.co\n").unwrap();
    let missing = load(&path, Timestamp(0)).unwrap();
    assert!(missing.contains("no column `email`") && missing.contains("did you mean `mail`"), "{missing}");
    std::fs::write(&path, "emily@b.co\na@b.co\n").unwrap();
    assert!(!load(&path, Timestamp(0)).unwrap().contains("emily"), "no value is told");
    std::fs::write(&path, b"email\n\xff\xfe\n").unwrap();
    assert!(load(&path, Timestamp(0)).unwrap().contains("record 1"));
    std::fs::write(&path, "email\na@b.co\n").unwrap();
    assert!(load(&path, Timestamp(i64::MAX)).unwrap().contains("days old"));
    let entries = std::fs::read(&path).unwrap();
    for (text, told) in
        [("email\n\"a@b.co\nc@d.co\n", "not closed"), ("email,id\n\"a@b.co,1\nc@d.co,\"2\"\n", "line 3")]
    {
        std::fs::write(&path, text).unwrap();
        assert!(load(&path, Timestamp(0)).is_some_and(|error| error.contains(told)), "{text}");
    }
    std::fs::write(&path, "email\n \n").unwrap();
    assert!(load(&path, Timestamp(0)).unwrap().contains("names nobody"));
    std::fs::write(&path, entries).unwrap();
    assert_eq!(load(&path, Timestamp(0)), None);
}

#[tokio::test]
async fn entries_by_which_nobody_can_be_suppressed_stop_the_run_or_are_told() {
    let mut world = World::new();
    let path = world.fresh("list.csv");
    std::fs::write(&path, "email\na@b.co\nJane <c@d.co>\n\"\"\n\"e@f.co\ng@h.co\"\n").unwrap();
    let load = |max_unusable| {
        let spec = Suppression { max_unusable, ..suppression(path.clone(), ExistingRows::Leave) };
        load_suppression(&spec, Timestamp(0)).unwrap()
    };
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "A", "1"]), record(&["c@d.co", "C", "1"])]]).await;
    world.suppressions = vec![load(Limit::records(1))];
    let refused = world.try_plan(&spec(SyncMode::Upsert), &spool, None, &world.fresh("plan")).await.unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("2 entries are no value of `Email`") && refused.contains("record 2"), "{refused}");
    assert!(!refused.contains("Jane"), "{refused}");
    world.suppressions = vec![load(Limit::records(2))];
    let (planned, _) = world.plan(&spec(SyncMode::Upsert), &spool, None).await;
    assert_eq!((planned.counts.suppressed, planned.counts.creates), (1, 1));
    let [notice] = planned.notices.as_slice() else { panic!("{:?}", planned.notices) };
    assert!(notice.contains("2 entries"), "{notice}");
}

//! Folders that the filter rules out.

use convoke_core::rule::{Condition, Literal, Operator, Rule};
use convoke_core::spec::{Filter, ObjectsMode};

use crate::fixture::{TestObjects, names, small_file};

fn equals(column: &str, value: &str) -> Filter {
    let values = vec![Literal::Text(value.to_owned())];
    Filter::Rule(Rule::Condition(Condition { column: column.to_owned(), operator: Operator::Equals, values }))
}

async fn partitioned(filter: Filter) -> [TestObjects; 2] {
    let partitions = |spec: &mut convoke_core::spec::ObjectsSpec| spec.hive_partitions = true;
    [
        TestObjects::in_folder_as(ObjectsMode::Snapshot, "**/*.parquet", partitions).filtered(filter.clone()),
        TestObjects::on_s3_as(ObjectsMode::Snapshot, "**/*.parquet", partitions).await.filtered(filter),
    ]
}

#[tokio::test]
async fn folders_that_are_ruled_out_are_not_listed() {
    for objects in partitioned(equals("dt", "3")).await {
        for day in 0..100 {
            objects.put_at(day, &format!("dt={day}/hour=1/a.parquet"), &small_file("id", "1"));
        }
        objects.put_at(200, "loose.parquet", &small_file("id", "1"));
        assert_eq!(names(&objects.discover(None).await), ["dt=3/hour=1/a.parquet", "loose.parquet"]);
    }
    let [_, objects] = partitioned(equals("dt", "3")).await;
    for day in 0..100 {
        objects.put_at(day, &format!("dt={day}/a.parquet"), &small_file("id", "1"));
    }
    objects.server().forget_requests();
    objects.discover(None).await;
    assert_eq!(objects.server().requests("ListObjectsV2"), 2, "the folders, and the one that is left");
}

#[tokio::test]
async fn a_deeper_folder_is_asked_about_when_its_turn_comes() {
    for objects in partitioned(equals("country", "DE")).await {
        for (minute, name) in (0..).zip(["dt=1/country=DE/a.parquet", "dt=1/country=FR/b.parquet", "dt=2/c.parquet"]) {
            objects.put_at(minute, name, &small_file("id", "1"));
        }
        let found = objects.discover(None).await;
        assert_eq!(
            names(&found),
            ["dt=1/country=DE/a.parquet", "dt=2/c.parquet"],
            "what has no country may be anything"
        );
    }
}

#[tokio::test]
async fn many_folders_that_stay_are_listed_at_once_and_nothing_twice() {
    let [_, objects] = partitioned(equals("country", "DE")).await;
    for day in 0..40 {
        for country in ["DE", "FR"] {
            objects.put_at(day, &format!("dt={day:02}/country={country}/a.parquet"), &small_file("id", "1"));
        }
    }
    objects.put_at(50, "loose.parquet", &small_file("id", "1"));
    objects.server().forget_requests();
    let found = objects.discover(None).await;
    assert_eq!(found.splits.len(), 41);
    assert!(names(&found).iter().all(|name| !name.contains("FR")));
    assert_eq!(objects.server().requests("ListObjectsV2"), 2);
}

#[tokio::test]
async fn nothing_is_left_out_of_folders_that_are_no_columns() {
    let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "**/*.parquet").filtered(equals("dt", "3"));
    objects.put_at(1, "dt=1/a.parquet", &small_file("id", "1"));
    assert_eq!(names(&objects.discover(None).await), ["dt=1/a.parquet"]);
}

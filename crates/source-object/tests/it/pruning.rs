//! Folders that the filter rules out.

use convoke_core::rule::{Condition, Literal, Operator, Rule};
use convoke_core::spec::{Filter, ObjectsMode};
use convoke_testkit::contract::source::SourceSetUp;

use crate::fixture::{TestObjects, names, small_file};

fn equals(column: &str, value: &str) -> Filter {
    let values = vec![Literal::Text(value.to_owned())];
    Filter::Rule(Rule::Condition(Condition { column: column.to_owned(), operator: Operator::Equals, values }))
}

async fn partitioned(filter: Filter) -> [TestObjects; 2] {
    let partitions = |spec: &mut convoke_core::spec::ObjectsSpec| spec.hive_partitions = true;
    [
        TestObjects::in_folder_as(ObjectsMode::Snapshot, "**/*.parquet", partitions).filtered(filter.clone(), None),
        TestObjects::on_s3_as(ObjectsMode::Snapshot, "**/*.parquet", partitions).await.filtered(filter, None),
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
    let objects = TestObjects::in_folder(ObjectsMode::Snapshot, "**/*.parquet").filtered(equals("dt", "3"), None);
    objects.put_at(1, "dt=1/a.parquet", &small_file("id", "1"));
    assert_eq!(names(&objects.discover(None).await), ["dt=1/a.parquet"]);
}

/// Objects of three days, of which `where` lets the third through.
fn three_days(deleted: Option<Filter>) -> TestObjects {
    let objects = TestObjects::in_folder_with(ObjectsMode::Snapshot, "**/*.parquet", true);
    let objects = objects.filtered(equals("dt", "3"), deleted);
    for day in 1..4 {
        objects.put_at(day, &format!("dt={day}/a.parquet"), &small_file("state", "gone"));
    }
    objects
}

#[tokio::test]
async fn a_folder_in_which_a_record_may_say_that_it_is_deleted_is_not_left_out() {
    let sql = Filter::Sql("state = 'gone'".to_owned());
    let cases: [(_, &[&str]); 4] = [
        (None, &["dt=3/a.parquet"]),
        (Some(equals("dt", "1")), &["dt=1/a.parquet", "dt=3/a.parquet"]),
        (Some(equals("state", "gone")), &["dt=1/a.parquet", "dt=2/a.parquet", "dt=3/a.parquet"]),
        (Some(sql), &["dt=1/a.parquet", "dt=2/a.parquet", "dt=3/a.parquet"]),
    ];
    for (deleted, expected) in cases {
        let found = three_days(deleted.clone()).discover(None).await;
        assert_eq!(names(&found), expected, "{deleted:?}");
    }
}

#[tokio::test]
async fn of_folders_that_name_a_column_twice_the_outer_one_counts_for_records_and_for_what_is_left_out() {
    let folders = ["dt=3/x=1/dt=1", "dt=1/x=1/dt=3"];
    let put = |objects: &TestObjects| {
        for (minute, folder) in (1..).zip(folders) {
            objects.put_at(minute, &format!("{folder}/a.parquet"), &small_file("id", "1"));
        }
    };
    let all = TestObjects::in_folder_with(ObjectsMode::Snapshot, "**/*.parquet", true);
    put(&all);
    let mut kept = Vec::new();
    for split in &all.discover(None).await.splits {
        if all.open_split(split).await.constants.contains(&("dt".to_owned(), Some("3".to_owned()))) {
            kept.push(split.name.clone());
        }
    }
    for objects in partitioned(equals("dt", "3")).await {
        put(&objects);
        assert_eq!(names(&objects.discover(None).await), kept);
    }
}

#[tokio::test]
async fn a_folder_of_the_url_itself_counts_before_those_beneath_it() {
    let objects = TestObjects::in_folder_with(ObjectsMode::Snapshot, "dt=3/**/*.parquet", true);
    let objects = objects.filtered(equals("dt", "3"), None);
    objects.put_at(1, "dt=3/dt=1/a.parquet", &small_file("id", "1"));
    let found = objects.discover(None).await;
    assert_eq!(names(&found), ["dt=1/a.parquet"]);
    assert_eq!(objects.open_split(&found.splits[0]).await.constants, [("dt".to_owned(), Some("3".to_owned()))]);
}

#[tokio::test]
async fn an_object_with_a_column_of_its_own_by_which_folders_are_left_out_is_refused() {
    let objects = TestObjects::in_folder_with(ObjectsMode::Snapshot, "**/*.parquet", true);
    let objects = objects.filtered(equals("dt", "3"), None);
    objects.put_at(1, "dt=1/a.parquet", &small_file("dt", "3"));
    objects.put_at(2, "dt=3/b.parquet", &small_file("dt", "3"));
    objects.discover(None).await;
    let error = objects.source().describe().await.unwrap_err().to_string();
    assert!(error.contains("`dt=3/b.parquet` has a column `dt` of its own"), "{error}");
    assert!(error.contains("set `hive_partitions: false`"), "{error}");
}

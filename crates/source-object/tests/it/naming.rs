//! Which objects a URL names.

use convoke_core::spec::ObjectsMode;

use crate::fixture::{TestObjects, names, small_file};

async fn both(pattern: &str) -> [TestObjects; 2] {
    [TestObjects::in_folder(ObjectsMode::Append, pattern), TestObjects::on_s3(ObjectsMode::Append, pattern).await]
}

#[tokio::test]
async fn wildcards_choose_among_names_and_folders() {
    let cases: [(&str, &[&str]); 6] = [
        ("*.parquet", &["a.parquet", "b.parquet"]),
        ("**/*.parquet", &["a.parquet", "b.parquet", "x/a.parquet", "x/y/c.parquet"]),
        ("*/*.parquet", &["x/a.parquet"]),
        ("[!a]*.parquet", &["b.parquet"]),
        ("x/**/?.parquet", &["a.parquet", "y/c.parquet"]),
        ("x/y/c*", &["c.parquet"]),
    ];
    for (pattern, expected) in cases {
        for objects in both(pattern).await {
            for (minute, name) in [(1, "a.parquet"), (2, "b.parquet"), (3, "x/a.parquet"), (4, "x/y/c.parquet")] {
                objects.put_at(minute, name, &small_file("id", "1"));
            }
            objects.put_object("a.csv", b"id\n1\n");
            let discovery = objects.discover(None).await;
            let tails: Vec<&str> = expected.to_vec();
            assert_eq!(names(&discovery), tails, "{pattern}");
        }
    }
}

#[tokio::test]
async fn unusual_names_are_listed_and_read() {
    for objects in both("**/*.parquet").await {
        for name in ["a b+c.parquet", "50%/é (1).parquet", "x=1&y/%20.parquet", "#~!@$'.parquet"] {
            objects.put_object(name, &small_file("id", name));
        }
        let discovery = objects.discover(None).await;
        assert_eq!(discovery.splits.len(), 4);
        for split in &discovery.splits {
            let parquet = objects.open_split(split).await;
            let whole = 0..parquet.file.size();
            let read = parquet.file.read(std::slice::from_ref(&whole)).await.unwrap();
            assert_eq!(read.concat(), small_file("id", &split.name), "{}", split.name);
        }
    }
}

#[tokio::test]
async fn what_writers_hide_is_not_read_and_told() {
    for objects in both("**/*.parquet").await {
        objects.put_object("a.parquet", &small_file("id", "1"));
        objects.put_object("_temporary/0/a.parquet", &small_file("id", "2"));
        objects.put_object(".b.parquet", &small_file("id", "3"));
        let discovery = objects.discover(None).await;
        assert_eq!(names(&discovery), ["a.parquet"]);
        let [notice] = discovery.notices.as_slice() else { panic!("{:?}", discovery.notices) };
        assert!(notice.contains("not read: `.b.parquet` and 1 more"), "{notice}");
    }
}

#[tokio::test]
async fn an_empty_object_is_a_folder_if_it_is_named_like_one_and_else_a_file_to_be_told() {
    for objects in both("**/*").await {
        objects.put_object("a.parquet", &small_file("id", "1"));
        objects.put_object("folder", b"");
        objects.put_object("torn.parquet", b"");
        let discovery = objects.discover(None).await;
        let mut names = names(&discovery);
        names.sort_unstable();
        assert_eq!(names, ["a.parquet", "torn.parquet"]);
    }
}

#[tokio::test]
async fn listings_of_more_than_a_page_are_read_to_their_end() {
    let objects = TestObjects::on_s3(ObjectsMode::Append, "part-*.parquet").await;
    let contents = small_file("id", "1");
    for number in 0..1_005 {
        objects.put_at(1, &format!("part-{number:04}.parquet"), &contents);
    }
    objects.put_object("other.parquet", &contents);
    let discovery = objects.discover(None).await;
    assert_eq!(discovery.splits.len(), 1_005);
    assert_eq!(discovery.splits[1_004].name, "part-1004.parquet");
    assert_eq!(objects.server().requests("ListObjectsV2"), 2);
}

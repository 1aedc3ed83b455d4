//! The life of a reject: refused, sent again, held back, asked for, accepted or gone; and what of it can be taken along.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use convoke_core::SyncName;
use convoke_core::state::{Rejects, RunState};
use convoke_testkit::fake_sink::POISON;
use convoke_testkit::fault_proxy::{Fault, FaultProxy, FaultScript};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::audience::assert_holds;
use crate::in_process::{DAY, Scene};
use crate::workspace::{Person, SYNC, StoreProcess, Workspace, people, sync_yaml};

const SENT_FOR_LONG: &str =
    "rejects: { resend_for: 1h }\nguards: { max_delete: unlimited, max_create: unlimited, max_shrink: unlimited }\n";
const SENT_ONCE: &str =
    "rejects: { resend_for: 0s }\nguards: { max_delete: unlimited, max_create: unlimited, max_shrink: unlimited }\n";

/// A destination that refuses whoever is called by the mark.
struct Refusing {
    store: StoreProcess,
    proxy: FaultProxy,
    workspace: Workspace,
}

impl Refusing {
    async fn new(more: &str) -> Self {
        let store = StoreProcess::start();
        let upstream = store.address().parse().expect("an address");
        let proxy = FaultProxy::start(upstream, refusing()).await.expect("the proxy starts");
        let workspace = Workspace::remote(&proxy.base_url(), &store.client);
        let refusing = Self { store, proxy, workspace };
        refusing.configure(more);
        refusing
    }

    fn configure(&self, more: &str) {
        self.workspace.write("config/syncs/people.yaml", &sync_yaml("mirror", more));
    }

    async fn assert_holds(&self, people: &[Person]) {
        assert_holds(&self.store.base_url, &self.store.client, people).await;
    }

    /// Open rejects by the numbers of the people that they are about: state and attempts.
    fn open(&self) -> BTreeMap<usize, (String, u64)> {
        standing(&self.workspace.convoke(&["rejects", "list", SYNC, "--json"]).json())
    }

    fn of_run(&self, run: &str) -> BTreeMap<usize, (String, u64)> {
        standing(&self.workspace.convoke(&["rejects", "list", SYNC, "--run", run, "--json"]).json())
    }

    fn newest_run_id(&self) -> String {
        self.workspace.newest_run()["id"].as_str().expect("an id").to_owned()
    }
}

fn refusing() -> FaultScript {
    FaultScript::from_fn(|request| {
        let is_marked = request.path.contains("bulk/upsert") && String::from_utf8_lossy(request.body).contains(POISON);
        is_marked.then_some(Fault::RefuseRows { status: 400 })
    })
}

/// By origin: the file lists people by their numbers, from line 2 on.
fn standing(listed: &Value) -> BTreeMap<usize, (String, u64)> {
    let listed = listed.as_array().expect("a list").iter().map(|reject| {
        let (_, line) = reject["origin"].as_str().expect("an origin").split_once(':').expect("file and line");
        let number = line.parse::<usize>().expect("a line") - 2;
        let state = reject["state"].as_str().expect("a state").to_owned();
        (number, (state, reject["attempts"].as_u64().expect("a number")))
    });
    listed.collect()
}

fn stand(numbers: &[usize], state: &str, attempts: u64) -> BTreeMap<usize, (String, u64)> {
    numbers.iter().map(|number| (*number, (state.to_owned(), attempts))).collect()
}

fn marked(count: usize, marked: &[usize]) -> Vec<Person> {
    let mut people = people(0..count);
    for number in marked {
        people[*number].name = format!("{POISON} {number}");
    }
    people
}

fn unmarked(people: &[Person]) -> Vec<Person> {
    people.iter().filter(|person| !person.name.contains(POISON)).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_is_sent_again_then_held_back_until_it_changes_goes_or_is_asked_for() {
    let scene = Refusing::new(SENT_FOR_LONG).await;
    let mut people = marked(60, &[5, 17, 44]);
    scene.workspace.drop_csv("1.csv", &people);
    scene.workspace.run(3);
    let first_run = scene.newest_run_id();
    assert_eq!(scene.open(), stand(&[5, 17, 44], "open", 1));
    scene.workspace.run(3);
    assert_eq!(scene.open(), stand(&[5, 17, 44], "open", 2), "they are young, so they were sent again");
    assert_eq!(scene.of_run(&first_run), stand(&[5, 17, 44], "repeated", 1));
    scene.assert_holds(&unmarked(&people)).await;

    scene.configure(SENT_ONCE);
    scene.workspace.convoke(&["run", SYNC]).expect(3, &["3 refused before"]);
    assert_eq!(scene.workspace.newest_run()["counts"]["refused_before"], 3);
    assert_eq!(scene.open(), stand(&[5, 17, 44], "held_back", 2));
    scene.workspace.convoke(&["rejects", "list", SYNC]).expect(0, &["held back", "1.csv:7"]);
    scene.workspace.run(0);
    let counts = scene.workspace.newest_run()["counts"].clone();
    assert_eq!(
        (counts["read"].clone(), counts["carried_over"].clone()),
        (0.into(), 60.into()),
        "nothing is read again"
    );
    assert_eq!(scene.open(), stand(&[5, 17, 44], "held_back", 2));

    people[5].name = "Cured".to_owned();
    people.pop();
    people.remove(44);
    scene.workspace.drop_csv("2.csv", &people);
    scene.workspace.run(3);
    assert_eq!(scene.workspace.newest_run()["counts"]["refused_before"], 1);
    assert_eq!(scene.open(), stand(&[17], "held_back", 2), "one was accepted, one is gone");
    scene.assert_holds(&unmarked(&people)).await;

    scene.proxy.set_script(FaultScript::none());
    let resent = scene.workspace.convoke(&["rejects", "resend", SYNC]);
    resent.expect(0, &["1 asked for, 1 sent: 1 accepted, 0 refused again"]);
    assert_eq!(scene.open(), BTreeMap::new());
    scene.assert_holds(&people).await;
    scene.workspace.convoke(&["rejects", "resend", SYNC]).expect(2, &["nothing was sent", "rejects list"]);
    scene.workspace.convoke(&["rejects", "list", SYNC]).expect(0, &["no rejects of `people` are open"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_update_leaves_its_row_and_can_be_asked_for_by_its_key() {
    let scene = Refusing::new(SENT_ONCE).await;
    scene.workspace.drop_csv("1.csv", &people(0..20));
    scene.workspace.run(0);
    scene.workspace.drop_csv("2.csv", &marked(20, &[3, 9]));
    scene.workspace.run(3);
    scene.workspace.run(3);
    assert_eq!(scene.open(), stand(&[3, 9], "held_back", 1));
    scene.assert_holds(&people(0..20)).await;

    let resend = |key: &str| scene.workspace.convoke(&["rejects", "resend", SYNC, "--json", "--key", key]);
    resend("person4@example.com").expect(2, &["number 1"]);
    let resent = resend(" Person3@example.com");
    resent.expect(3, &[]);
    let facts = &resent.json()["resent"];
    let figures = ["chosen", "planned", "accepted", "refused_again"].map(|name| facts[name].as_u64());
    assert_eq!(figures, [Some(1), Some(1), Some(0), Some(1)]);
    let mut expected = stand(&[9], "held_back", 1);
    expected.extend(stand(&[3], "held_back", 2));
    assert_eq!(scene.open(), expected, "the other one was left alone");
    scene.workspace.convoke(&["explain", SYNC, "person3@example.com"]).expect(0, &["2 times since"]);

    let resent = scene.workspace.convoke(&["rejects", "resend", SYNC, "--run", &scene.newest_run_id(), "--json"]);
    resent.expect(3, &[]);
    assert_eq!(resent.json()["resent"]["chosen"], 1, "of that run there is one");
    scene.workspace.drop_csv("3.csv", &people((0..20).filter(|number| *number != 3)));
    scene.workspace.run(0);
    assert_eq!(scene.open(), BTreeMap::new(), "one is gone, one says what its row holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_the_destination_could_not_take_is_told_and_not_written_for_ever() {
    let scene = Refusing::new(SENT_FOR_LONG).await;
    let failing = || Fault::FailCells { mark: POISON.to_owned() };
    scene.proxy.set_script(FaultScript::from_fn(move |request| request.path.contains("bulk/upsert").then(failing)));
    let mut people = marked(20, &[3, 9]);
    scene.workspace.drop_csv("1.csv", &people);
    scene.workspace.convoke(&["run", SYNC]).expect(3, &["20 created", "2 in part"]);
    let listed = scene.workspace.convoke(&["rejects", "list", SYNC]);
    listed.expect(0, &["1.csv:5", "1.csv:11", "cell_failed", "Name", "The value does not fit its column"]);
    scene.workspace.convoke(&["run", SYNC]).expect(3, &["2 updated", "2 in part"]);
    assert_eq!(scene.open(), stand(&[3, 9], "open", 2));

    scene.configure(SENT_ONCE);
    scene.workspace.convoke(&["run", SYNC]).expect(3, &["2 refused before"]);
    scene.workspace.run(0);
    assert_eq!(
        scene.workspace.newest_run()["counts"]["read"],
        0,
        "the source is settled, and not read again each time"
    );
    assert_eq!(scene.open(), stand(&[3, 9], "held_back", 2));

    people[3].name = "Cured".to_owned();
    scene.workspace.drop_csv("2.csv", &people);
    scene.workspace.convoke(&["run", SYNC]).expect(3, &["1 updated", "1 refused before"]);
    assert_eq!(scene.open(), stand(&[9], "held_back", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_file_does_not_speak_of_stays_held_back_in_a_source_that_only_adds() {
    let scene = Refusing::new(SENT_ONCE).await;
    let sync = sync_yaml("upsert", SENT_ONCE).replace("mode: snapshot", "mode: append");
    scene.workspace.write("config/syncs/people.yaml", &sync);
    scene.workspace.drop_csv("1.csv", &marked(10, &[4]));
    scene.workspace.run(3);
    scene.workspace.run(3);
    assert_eq!(scene.open(), stand(&[4], "held_back", 1));
    scene.workspace.drop_csv("2.csv", &people(10..12));
    scene.workspace.run(0);
    assert_eq!(scene.workspace.newest_run()["counts"]["read"], 2, "only what is new was read");
    assert_eq!(scene.open(), stand(&[4], "held_back", 1));
    let mut cured = people(4..5);
    cured[0].updated_at = "2026-02-01T00:00:00Z".to_owned();
    scene.workspace.drop_csv("3.csv", &cured);
    scene.workspace.run(0);
    assert_eq!(scene.open(), BTreeMap::new());
    scene.assert_holds(&people(0..12)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_refusal_and_settling_loses_no_reject_and_counts_none_twice() {
    let people = marked(40, &[3, 21, 22]);
    for point in ["after-answer:2", "before-acknowledge:4", "before-acknowledge:7", "before-fold", "before-checkpoint"]
    {
        let scene = Refusing::new(SENT_FOR_LONG).await;
        scene.workspace.drop_csv("1.csv", &people);
        let mut command = scene.workspace.command(&["run", SYNC]);
        let output = command.env("CONVOKE_CRASH_AT", point).output().expect("the binary runs");
        assert!(output.status.code().is_none(), "{point}: the process should have been killed: {output:?}");
        // Finishes the plan, then makes one of its own: each was refused once.
        scene.workspace.run(3);
        assert_eq!(scene.open(), stand(&[3, 21, 22], "open", 2), "{point}");
        scene.assert_holds(&unmarked(&people)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_held_back_once_its_first_refusal_is_as_old_as_the_limit() {
    let scene = Scene::new(&sync_yaml("mirror", "rejects: { resend_for: 7d }\n"));
    let mut people = people(0..5);
    people[2].email = format!("{POISON}@example.com");
    scene.workspace.drop_csv("1.csv", &people);
    for (attempts, held) in [(1, 0), (2, 0), (2, 1)] {
        let run = scene.run().await;
        let (counts, delivery) = (run.counts.expect("counts"), run.delivery.unwrap_or_default());
        assert_eq!(run.state, RunState::Partial);
        assert_eq!((counts.refused_before, delivery.rejected()), (held, 1 - held));
        assert!(counts.is_balanced(), "{counts:?}");
        let open = scene.state().await.rejects(&SyncName::new(SYNC), None, None, 10).await.expect("a read");
        assert_eq!(open.iter().map(|noted| noted.attempts).collect::<Vec<_>>(), [attempts]);
        scene.clock.advance(4 * DAY);
    }
    assert_eq!(scene.run().await.state, RunState::Succeeded, "what is only held back is not read again");
    assert_eq!(scene.sink.rows().len(), 4);
}

/// Two rejects, one of a person with a cell that a spreadsheet would compute, and one of the destination's.
async fn exportable() -> Refusing {
    let scene = Refusing::new(SENT_FOR_LONG).await;
    let text = format!(
        "email,name,score,updated_at\n=1@example.com,A,twelve,1\nb@example.com,{POISON},1,1\nc@example.com,C,1,1\n"
    );
    scene.workspace.write("drop/=1.csv", &text);
    scene.workspace.run(3);
    scene
}

fn export(scene: &Refusing, format: &str, more: &[&str]) -> crate::workspace::Ended {
    scene.workspace.convoke(&[&["rejects", "export", SYNC, "--format", format], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_reads_back_in_each_form() {
    let scene = exportable().await;
    let csv = export(&scene, "csv", &[]).stdout;
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(reader.headers().expect("a header").iter().next(), Some("origin"));
    let records: Vec<csv::StringRecord> = reader.records().map(|record| record.expect("a record")).collect();
    assert_eq!(records.iter().map(|record| &record[0]).collect::<Vec<_>>(), ["'=1.csv:2", "'=1.csv:3"]);
    let cells: Value = serde_json::from_str(&records[0][13]).expect("an object");
    assert_eq!(cells["Score"], "twelve");

    let ndjson = export(&scene, "ndjson", &["--output", "-"]).stdout;
    let lines: Vec<Value> = ndjson.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!((lines.len(), &lines[1]["cells"]["Name"]), (2, &Value::from(POISON)));

    let file = scene.workspace.path("rejects.avro");
    export(&scene, "avro", &["-o", file.to_str().expect("UTF-8")]).expect(0, &["2 rejects"]);
    let reader = apache_avro::Reader::new(fs::File::open(&file).expect("the file")).expect("Avro");
    let records: Vec<Value> = reader.map(|record| record.expect("a record").try_into().expect("JSON")).collect();
    assert_eq!((&records[0]["stage"], &records[1]["stage"]), (&Value::from("invalid"), &Value::from("refused")));
    assert_eq!((records.len(), &records[1]["attempts"], &records[0]["content"]), (2, &Value::from(1), &Value::Null));
    assert!(records[0]["first_at"].as_i64() > Some(1_700_000_000_000));
    assert_eq!(records[1]["cells"]["Name"], POISON);

    let file = scene.workspace.path("rejects.parquet");
    export(&scene, "parquet", &["-o", file.to_str().expect("UTF-8")]).expect(0, &["2 rejects"]);
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&file).expect("the file"));
    let batches: Vec<RecordBatch> = reader.expect("Parquet").build().expect("a reader").map(Result::unwrap).collect();
    let [batch] = batches.as_slice() else { panic!("two rows are one batch") };
    let column = |name: &str| batch.column_by_name(name).expect("a column");
    let texts = |name: &str| column(name).as_string::<i32>().iter().map(Option::unwrap).collect::<Vec<_>>();
    assert_eq!((texts("stage"), texts("state")), (vec!["invalid", "refused"], vec!["open", "open"]));
    assert_eq!(column("attempts").as_primitive::<Int64Type>().values()[..], [1, 1]);
    assert!(column("first_at").as_primitive::<TimestampMillisecondType>().values()[0] > 1_700_000_000_000);
    assert!(column("content").is_null(0) && column("content").is_valid(1), "only what was sent has a content");
    let cells = column("cells").as_map().value(1);
    let values: Vec<_> = cells.column(1).as_string::<i32>().iter().collect();
    assert_eq!(values, [Some("b@example.com"), Some(POISON), Some("1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_private_and_whole_and_replaces_nothing_unasked() {
    let scene = exportable().await;
    let file = scene.workspace.path("out/rejects.csv");
    let path = file.to_str().expect("UTF-8");
    export(&scene, "csv", &["-o", path]).expect(1, &["writing `", "out"]);
    scene.workspace.write("out/rejects.csv", "kept");
    export(&scene, "csv", &["-o", path]).expect(2, &["is there already", "--force"]);
    assert_eq!(fs::read_to_string(&file).expect("the file"), "kept");
    export(&scene, "csv", &["-o", path, "--force"]).expect(0, &["2 rejects"]);
    let mode = fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> = fs::read_dir(scene.workspace.path("out")).expect("a folder").flatten().collect();
    assert_eq!(names.len(), 1, "nothing else is left there: {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_exported_or_sent_again_is_told_with_its_remedy() {
    let scene = exportable().await;
    let says = |arguments: &[&str], words: &[&str]| scene.workspace.convoke(arguments).expect(2, words);
    says(&["rejects", "list", "poeple"], &["poeple", "known are people"]);
    says(&["rejects", "list", SYNC, "--run", "nonsense"], &["nonsense", "convoke runs"]);
    says(&["rejects", "export", SYNC, "--format", "parquet"], &["--output FILE"]);
    says(&["rejects", "export", SYNC, "--format", "avro"], &["--output FILE"]);
    says(&["rejects", "export", SYNC, "--json"], &["--output FILE"]);
    says(&["rejects", "resend", SYNC, "--run", "nonsense"], &["nonsense"]);
    scene.workspace.run(3);
    scene.workspace.write("drop/2.csv", "email,name,score,updated_at\nc@example.com,C,1,1\n");
    scene.workspace.run(0);
}

#[test]
fn an_export_of_nothing_is_a_file_without_records_and_no_failure() {
    let workspace = Workspace::embedded();
    workspace.drop_csv("1.csv", &people(0..3));
    workspace.run(0);
    for format in ["csv", "ndjson", "avro", "parquet"] {
        let file = workspace.path(&format!("none.{format}"));
        let path = file.to_str().expect("UTF-8");
        let exported = workspace.convoke(&["rejects", "export", SYNC, "--format", format, "-o", path]);
        exported.expect(0, &["0 rejects written", "no rejects of `people` are open", "--run"]);
        let text = fs::read(&file).expect("the export");
        match format {
            "csv" => assert!(text.starts_with(b"origin,stage,state") && text.ends_with(b"cells\n")),
            "ndjson" => assert!(text.is_empty()),
            "avro" => assert_eq!(apache_avro::Reader::new(text.as_slice()).expect("Avro").count(), 0),
            _ => {
                let file = fs::File::open(&file).expect("the export");
                let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
                assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
            }
        }
    }
    let piped = workspace.convoke(&["rejects", "export", SYNC]);
    assert_eq!(piped.code, Some(0), "{}", piped.text());
    assert_eq!(piped.stdout.lines().count(), 1, "the names of the columns: {}", piped.text());
}

//! Objects of a test's own, in a folder or on a server.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use convoke_core::Clock;
use convoke_core::SourceError;
use convoke_core::ids::ConnectionName;
use convoke_core::source::{
    Discover, Discovery, PinnedParquet, Source, SourcePosition, Split, SplitContent, SplitOutcome, SplitResult,
};
use convoke_core::spec::{
    CsvObjects, Filter, ObjectFormat, ObjectStoreConnection, ObjectsMode, ObjectsSpec, S3Connection,
};
use convoke_source_object::ObjectSource;
use convoke_testkit::clock::TestClock;
use convoke_testkit::contract::source::{SourceSetUp, SuiteRecord};
use convoke_testkit::s3::S3Server;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

pub(crate) const BUCKET: &str = "lake";
/// Where the objects lie in the bucket or the folder.
pub(crate) const FOLDER: &str = "in";

pub(crate) struct TestObjects {
    place: Place,
    mode: ObjectsMode,
    source: ObjectSource,
    clock: Arc<TestClock>,
    format: ObjectFormat,
    puts: AtomicUsize,
}

enum Place {
    Folder(TempDir),
    S3(S3Server),
}

impl TestObjects {
    /// Objects whose names match this pattern, in a folder.
    pub(crate) fn in_folder(mode: ObjectsMode, pattern: &str) -> Self {
        Self::in_folder_with(mode, pattern, false)
    }

    pub(crate) fn in_folder_with(mode: ObjectsMode, pattern: &str, hive_partitions: bool) -> Self {
        Self::in_folder_as(mode, pattern, |spec| spec.hive_partitions = hive_partitions)
    }

    pub(crate) fn in_folder_as(mode: ObjectsMode, pattern: &str, change: impl FnOnce(&mut ObjectsSpec)) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        let mut spec = ObjectsSpec::parquet(format!("file://{}/{FOLDER}/{pattern}", folder.path().display()), mode);
        change(&mut spec);
        Self::over(Place::Folder(folder), spec, None)
    }

    /// Objects whose names match this pattern, on a server.
    pub(crate) async fn on_s3(mode: ObjectsMode, pattern: &str) -> Self {
        Self::on_s3_as(mode, pattern, |_| {}).await
    }

    pub(crate) async fn on_s3_as(mode: ObjectsMode, pattern: &str, change: impl FnOnce(&mut ObjectsSpec)) -> Self {
        let server = S3Server::start().await;
        server.make_bucket(BUCKET);
        let mut spec = on_the_warehouse(&format!("s3://{BUCKET}/{FOLDER}/{pattern}"), mode);
        change(&mut spec);
        let connection = ObjectStoreConnection::S3(server.connection());
        Self::over(Place::S3(server), spec, Some(&connection))
    }

    pub(crate) async fn on_s3_with(mode: ObjectsMode, pattern: &str, change: impl FnOnce(&mut S3Connection)) -> Self {
        let server = S3Server::start().await;
        server.make_bucket(BUCKET);
        let mut connection = server.connection();
        change(&mut connection);
        let spec = on_the_warehouse(&format!("s3://{BUCKET}/{FOLDER}/{pattern}"), mode);
        Self::over(Place::S3(server), spec, Some(&ObjectStoreConnection::S3(connection)))
    }

    fn over(place: Place, spec: ObjectsSpec, connection: Option<&ObjectStoreConnection>) -> Self {
        let (mode, format, clock) = (spec.mode, spec.format.clone(), TestClock::leaping());
        let source = ObjectSource::open(spec, connection, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        Self { place, mode, source, clock, format, puts: AtomicUsize::new(0) }
    }

    /// The same objects, read by a rule.
    pub(crate) fn filtered(self, filter: Filter, deleted: Option<Filter>) -> Self {
        Self { source: self.source.filtered(Some(&filter), deleted.as_ref()), ..self }
    }

    pub(crate) fn clock(&self) -> &TestClock {
        &self.clock
    }

    pub(crate) fn server(&self) -> &S3Server {
        match &self.place {
            Place::S3(server) => server,
            Place::Folder(_) => panic!("these objects are on no server"),
        }
    }

    pub(crate) fn server_mut(&mut self) -> &mut S3Server {
        match &mut self.place {
            Place::S3(server) => server,
            Place::Folder(_) => panic!("these objects are on no server"),
        }
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        match &self.place {
            Place::Folder(folder) => folder.path().join(FOLDER).join(name),
            Place::S3(server) => server.path_of(BUCKET, &format!("{FOLDER}/{name}")),
        }
    }

    /// Puts an object, or another one in its place.
    pub(crate) fn put_object(&self, name: &str, contents: &[u8]) {
        match &self.place {
            Place::Folder(folder) => {
                let (path, unfinished) = (self.path_of(name), folder.path().join("unfinished"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&unfinished, contents).unwrap();
                fs::rename(unfinished, path).unwrap();
            }
            Place::S3(server) => server.put(BUCKET, &format!("{FOLDER}/{name}"), contents),
        }
    }

    /// Puts an object that was written at this minute of 1970.
    pub(crate) fn put_at(&self, minute: u64, name: &str, contents: &[u8]) {
        self.put_at_time(SystemTime::UNIX_EPOCH + Duration::from_secs(minute * 60), name, contents);
    }

    /// Puts an object that was written so long ago, by the clock of the source.
    pub(crate) fn put_ago(&self, age: Duration, name: &str, contents: &[u8]) {
        let now = Duration::from_millis(u64::try_from(self.clock.now().0).unwrap());
        self.put_at_time(SystemTime::UNIX_EPOCH + now - age, name, contents);
    }

    fn put_at_time(&self, time: SystemTime, name: &str, contents: &[u8]) {
        self.put_object(name, contents);
        File::options().write(true).open(self.path_of(name)).unwrap().set_modified(time).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path_of(name)).unwrap();
    }

    pub(crate) async fn try_discover(
        &self,
        stored: Option<&SourcePosition>,
        reread: bool,
    ) -> Result<Discovery, SourceError> {
        self.source.discover(Discover { stored, reread }).await
    }

    pub(crate) async fn discover(&self, stored: Option<&SourcePosition>) -> Discovery {
        self.try_discover(stored, false).await.unwrap()
    }

    /// Takes everything that is to be read through a whole run, in which these objects turn out broken; gives back what is
    /// stored then.
    pub(crate) async fn run(&self, stored: Option<&SourcePosition>, broken: &[&str]) -> SourcePosition {
        let discovery = self.discover(stored).await;
        self.outcome(stored, &discovery, broken).await
    }

    /// Takes what was discovered through the rest of a run.
    pub(crate) async fn settled(&self, stored: Option<&SourcePosition>, discovery: &Discovery) -> SourcePosition {
        self.outcome(stored, discovery, &[]).await
    }

    async fn outcome(&self, stored: Option<&SourcePosition>, discovery: &Discovery, broken: &[&str]) -> SourcePosition {
        let outcomes = discovery.splits.iter().map(|split| {
            let result = match broken.contains(&split.name.as_str()) {
                true => SplitResult::Broken { reason: "torn".to_owned() },
                false => SplitResult::Read { fingerprint: "read".to_owned(), records: 1 },
            };
            SplitOutcome { split: split.clone(), result }
        });
        let outcomes: Vec<SplitOutcome> = outcomes.collect();
        let proposed = self.source.propose(stored, &outcomes);
        self.source.acknowledge(&outcomes).await.unwrap();
        proposed
    }

    pub(crate) async fn column_names(&self) -> Vec<String> {
        self.columns().await.into_iter().map(|(name, _)| name).collect()
    }

    /// The columns that are described.
    pub(crate) async fn columns(&self) -> Vec<(String, DataType)> {
        let schema = self.source.describe().await.unwrap().schema;
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    }

    pub(crate) async fn open_split(&self, split: &Split) -> PinnedParquet {
        match self.source.read(split).await.unwrap() {
            SplitContent::Parquet(parquet) => parquet,
            SplitContent::Stream(_) => panic!("objects are read where they are"),
        }
    }
}

fn on_the_warehouse(url: &str, mode: ObjectsMode) -> ObjectsSpec {
    ObjectsSpec { connection: Some(ConnectionName::new("warehouse")), ..ObjectsSpec::parquet(url, mode) }
}

pub(crate) fn open(url: &str, mode: ObjectsMode, connection: &S3Connection) -> Result<ObjectSource, SourceError> {
    let connection = ObjectStoreConnection::S3(connection.clone());
    ObjectSource::open(on_the_warehouse(url, mode), Some(&connection), TestClock::leaping())
}

/// The names of the objects that are to be read.
pub(crate) fn names(discovery: &Discovery) -> Vec<&str> {
    discovery.splits.iter().map(|split| split.name.as_str()).collect()
}

/// A Parquet file with these columns.
pub(crate) fn parquet_file<'c>(columns: impl IntoIterator<Item = (&'c str, ArrayRef)>) -> Vec<u8> {
    let records = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), records.schema(), None).unwrap();
    writer.write(&records).unwrap();
    writer.into_inner().unwrap()
}

/// A Parquet file with one text column and one record.
pub(crate) fn small_file(column: &str, value: &str) -> Vec<u8> {
    parquet_file([(column, texts([value]))])
}

/// How names of files in this format end.
pub(crate) fn ending(format: &ObjectFormat) -> &'static str {
    match format {
        ObjectFormat::Parquet => "parquet",
        ObjectFormat::Avro { .. } => "avro",
        ObjectFormat::Ndjson { .. } => "ndjson",
        ObjectFormat::Csv(_) => "csv",
    }
}

/// A file with these records in text columns `id` and `name`.
pub(crate) fn file_of(format: &ObjectFormat, records: &[SuiteRecord]) -> Vec<u8> {
    match format {
        ObjectFormat::Parquet => {
            let ids = texts(records.iter().map(|(id, _)| id.as_str()));
            let names = texts(records.iter().map(|(_, name)| name.as_str()));
            parquet_file([("id", ids), ("name", names)])
        }
        ObjectFormat::Csv(_) => {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let lines = records.iter().map(|(id, name)| format!("{},{}\n", quoted(id), quoted(name)));
            format!("id,name\n{}", lines.collect::<String>()).into_bytes()
        }
        ObjectFormat::Ndjson { .. } => {
            let lines =
                records.iter().map(|(id, name)| serde_json::json!({ "id": id, "name": name }).to_string() + "\n");
            lines.collect::<String>().into_bytes()
        }
        ObjectFormat::Avro { .. } => avro_file(records),
    }
}

fn avro_file(records: &[SuiteRecord]) -> Vec<u8> {
    let schema = r#"{ "type": "record", "name": "Contact", "fields": [
        { "name": "id", "type": "string" }, { "name": "name", "type": ["null", "string"] } ] }"#;
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
    for (id, name) in records {
        let mut record = apache_avro::types::Record::new(&schema).unwrap();
        record.put("id", id.as_str());
        record.put("name", Some(name.as_str()));
        writer.append_value(record).unwrap();
    }
    writer.into_inner().unwrap()
}

/// CSV that says of itself how it is to be understood.
pub(crate) fn csv() -> ObjectFormat {
    ObjectFormat::Csv(CsvObjects {
        delimiter: None,
        encoding: "auto".to_owned(),
        aliases: Vec::new(),
        max_malformed: 0.3,
    })
}

/// Every format that is read from front to back.
pub(crate) fn streamed() -> [ObjectFormat; 3] {
    [csv(), ObjectFormat::Ndjson { max_malformed: 0.3 }, ObjectFormat::Avro { max_malformed: 0.3 }]
}

pub(crate) fn texts<'v>(values: impl IntoIterator<Item = &'v str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// A Parquet file that is longer than what is read of its end.
pub(crate) fn large_file(seed: u64) -> Vec<u8> {
    let values: Vec<String> =
        (0..20_000_u64).map(|number| format!("{:x}", (number + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let file = parquet_file([("id", texts(values.iter().map(String::as_str)))]);
    assert!(file.len() > 100_000, "{}", file.len());
    file
}

/// Everything that is said of an error.
pub(crate) fn chain(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    format!("{text} {error:?}")
}

#[async_trait]
impl SourceSetUp for TestObjects {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    async fn put(&self, records: &[SuiteRecord]) {
        let number = self.puts.fetch_add(1, Ordering::SeqCst);
        let ending = ending(&self.format);
        let name = match self.mode {
            ObjectsMode::Snapshot => format!("contacts.{ending}"),
            ObjectsMode::Append => format!("part-{number:03}.{ending}"),
        };
        self.put_object(&name, &file_of(&self.format, records));
    }

    async fn read_parquet(&self, parquet: PinnedParquet) -> Vec<SuiteRecord> {
        let middle = parquet.file.size() / 2;
        let halves = parquet.file.read(&[0..middle, middle..parquet.file.size()]).await.unwrap();
        let mut records = Vec::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(Bytes::from(halves.concat())).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
            let (ids, names) = (column("id"), column("name"));
            let pairs = ids.iter().zip(names.iter());
            records.extend(pairs.map(|(id, name)| (id.unwrap().to_owned(), name.unwrap().to_owned())));
        }
        records
    }

    async fn replace(&self, split: &Split) -> bool {
        self.put_object(&split.name, &file_of(&self.format, &[("other".to_owned(), "Other".to_owned())]));
        true
    }
}

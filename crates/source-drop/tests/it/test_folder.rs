//! A drop folder of its own for each test.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arrow::array::AsArray;
use async_trait::async_trait;
use convoke_core::source::{
    Discover, Discovery, MalformedRecord, Selection, Source, SourcePosition, Split, SplitContent, SplitItem,
    SplitOutcome, SplitResult,
};
use convoke_core::spec::{CsvDropSpec, DropMode, DropPlace, ProcessedFiles};
use convoke_core::{Clock, SourceError, Timestamp};
use convoke_source_drop::CsvDrop;
use convoke_testkit::clock::TestClock;
use convoke_testkit::contract::source::{SourceSetUp, SuiteRecord};
use futures::StreamExt;
use tempfile::TempDir;

pub(crate) struct TestFolder {
    folder: TempDir,
    pub(crate) source: CsvDrop,
    spec: CsvDropSpec,
    puts: AtomicU64,
}

/// What a whole split yields.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Contents {
    pub(crate) records: Vec<Vec<Option<String>>>,
    pub(crate) columns: Vec<String>,
    pub(crate) positions: Vec<u64>,
    pub(crate) malformed: Vec<MalformedRecord>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) broken: Option<String>,
}

impl TestFolder {
    pub(crate) fn new(drop_mode: DropMode) -> Self {
        Self::with(drop_mode, |_| {})
    }

    pub(crate) fn keeping(drop_mode: DropMode) -> Self {
        Self::with(drop_mode, |spec| spec.processed = ProcessedFiles::Keep)
    }

    pub(crate) fn with(drop_mode: DropMode, change: impl FnOnce(&mut CsvDropSpec)) -> Self {
        Self::with_clock(drop_mode, TestClock::leaping(), change)
    }

    pub(crate) fn with_clock(
        drop_mode: DropMode,
        clock: Arc<dyn Clock>,
        change: impl FnOnce(&mut CsvDropSpec),
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let mut spec = CsvDropSpec {
            place: DropPlace::Folder { path: folder.path().to_path_buf() },
            pattern: "*.csv".to_owned(),
            drop_mode,
            settle: Duration::from_secs(5),
            done_suffix: None,
            manifest: None,
            processed: ProcessedFiles::Move,
            delimiter: Some(','),
            encoding: None,
            columns: Vec::new(),
            aliases: Vec::new(),
            max_malformed: 1.0,
        };
        change(&mut spec);
        let source = CsvDrop::open(spec.clone(), None, clock).unwrap();
        Self { folder, source, spec, puts: AtomicU64::new(0) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn spec(&self) -> CsvDropSpec {
        self.spec.clone()
    }

    /// How many files were written.
    pub(crate) fn puts(&self) -> u64 {
        self.puts.load(Ordering::SeqCst)
    }

    /// Writes a file that is newer than all written before.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let minute = self.puts.fetch_add(1, Ordering::SeqCst) + 1;
        self.write_at(name, contents, minute);
    }

    /// Writes a file that was last modified at this minute of 1970.
    pub(crate) fn write_at(&self, name: &str, contents: impl AsRef<[u8]>, minute: u64) {
        fs::write(self.path(name), contents).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(minute * 60);
        File::options().write(true).open(self.path(name)).unwrap().set_modified(time).unwrap();
    }

    /// Returns once the clock of the file system has gone on, so that what is written now is later than what is there.
    pub(crate) fn wait_for_a_later_moment(&self) {
        let probe = self.path(".probe");
        let written = || {
            fs::write(&probe, "").unwrap();
            let metadata = fs::metadata(&probe).unwrap();
            (metadata.ctime(), metadata.ctime_nsec())
        };
        let first = written();
        while written() == first {
            std::thread::yield_now();
        }
        fs::remove_file(&probe).unwrap();
    }

    pub(crate) fn names(&self, below: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(below)) else { return Vec::new() };
        let files = entries.map(Result::unwrap).filter(|entry| entry.path().is_file());
        let mut names: Vec<String> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
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

    pub(crate) async fn select(&self, selection: Selection) -> Result<Discovery, SourceError> {
        self.source.select(&selection).await
    }

    pub(crate) async fn read(&self, split: &Split) -> Contents {
        self.try_read(split).await.unwrap()
    }

    pub(crate) async fn try_read(&self, split: &Split) -> Result<Contents, SourceError> {
        try_read(&self.source, split).await
    }

    /// Drops one file and reads it.
    pub(crate) async fn read_file(&self, contents: impl AsRef<[u8]>) -> Contents {
        self.write("file.csv", contents);
        let discovery = self.discover(None).await;
        self.read(&discovery.splits[0]).await
    }

    /// Takes everything that is to be read through a whole run; gives back what is stored then.
    pub(crate) async fn run(&self, stored: Option<&SourcePosition>) -> SourcePosition {
        let discovery = self.discover(stored).await;
        self.source.describe().await.unwrap();
        let outcomes = self.outcomes(&discovery).await;
        let proposed = self.source.propose(stored, &outcomes);
        self.source.acknowledge(&outcomes).await.unwrap();
        proposed
    }

    pub(crate) async fn outcomes(&self, discovery: &Discovery) -> Vec<SplitOutcome> {
        outcomes_of(&self.source, &discovery.splits).await
    }
}

/// A clock whose sleep gives somebody the time to go on writing.
pub(crate) struct Meanwhile<F>(pub(crate) F);

#[async_trait]
impl<F: Fn() + Send + Sync> Clock for Meanwhile<F> {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, duration: Duration) {
        assert!(duration <= Duration::from_secs(5), "waits for the settle time at most");
        (self.0)();
    }
}

/// Reads splits to their ends.
pub(crate) async fn outcomes_of(source: &CsvDrop, splits: &[Split]) -> Vec<SplitOutcome> {
    let mut outcomes = Vec::new();
    for split in splits {
        let contents = try_read(source, split).await.unwrap();
        let result = match (contents.fingerprint, contents.broken) {
            (Some(fingerprint), None) => SplitResult::Read { fingerprint, records: contents.records.len() as u64 },
            (None, Some(reason)) => SplitResult::Broken { reason },
            other => panic!("a split ends once: {other:?}"),
        };
        outcomes.push(SplitOutcome { split: split.clone(), result });
    }
    outcomes
}

async fn try_read(source: &CsvDrop, split: &Split) -> Result<Contents, SourceError> {
    let mut contents = Contents::default();
    let SplitContent::Stream(mut stream) = source.read(split).await? else { panic!("not a stream") };
    while let Some(item) = stream.next().await {
        match item? {
            SplitItem::Records(batch) => {
                let fields = batch.records.schema();
                contents.columns = fields.fields().iter().map(|field| field.name().clone()).collect();
                for row in 0..batch.records.num_rows() {
                    let cells = batch.records.columns().iter().map(|column| {
                        let column = column.as_string::<i32>();
                        column.iter().nth(row).unwrap().map(str::to_owned)
                    });
                    contents.records.push(cells.collect());
                }
                contents.positions.extend(batch.positions);
            }
            SplitItem::Malformed(record) => contents.malformed.push(record),
            SplitItem::Broken { reason } => contents.broken = Some(reason),
            SplitItem::End { fingerprint } => contents.fingerprint = Some(fingerprint),
        }
    }
    Ok(contents)
}

/// A file with these records.
pub(crate) fn csv_of(records: &[SuiteRecord]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["id", "name"]).unwrap();
    for (id, name) in records {
        writer.write_record([id, name]).unwrap();
    }
    writer.into_inner().unwrap()
}

/// The names of the files that are to be read.
pub(crate) fn names(discovery: &Discovery) -> Vec<&str> {
    discovery.splits.iter().map(|split| split.name.as_str()).collect()
}

#[async_trait]
impl SourceSetUp for TestFolder {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    async fn put(&self, records: &[SuiteRecord]) {
        let number = self.puts.load(Ordering::SeqCst);
        self.write(&format!("contacts-{number}.csv"), csv_of(records));
    }

    async fn replace(&self, split: &Split) -> bool {
        self.write(&split.name, "id,name\nother,Other\n");
        true
    }
}

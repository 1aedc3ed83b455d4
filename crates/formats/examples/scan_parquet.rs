//! Reads columns of a Parquet file to Arrow as a run would, keeps nothing, and prints how many records and requests there
//! were: `scan_parquet FILE [--columns A,B] [--threads N] [--budget BYTES] [--whole-groups]`. The benchmark in `tests/bench`
//! compares this with DuckDB. With `--whole-groups` it holds row groups whole, however large, as Parquet's own stream does.
//! `scan_parquet FILE --regroup OTHER` writes the records as one row group to another file instead.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use convoke_core::source::PinnedFile;
use convoke_core::{Origin, SourceError};
use convoke_formats::parquet::{GroupRequest, ParquetFile};
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// The allocator of `convoke`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str = "usage: scan_parquet FILE [--columns A,B] [--threads N] [--budget BYTES] [--whole-groups]";
/// As the engine reads.
const BATCH_ROWS: usize = 8_192;
const BUDGET_BYTES: u64 = 16 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().ok_or(USAGE)?;
    let (mut columns, mut threads, mut budget_bytes, mut regrouped) = (None, 1, BUDGET_BYTES, None);
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or(USAGE);
        match option.as_str() {
            "--columns" => columns = Some(value()?.split(',').map(str::to_owned).collect()),
            "--threads" => threads = value()?.parse()?,
            "--budget" => budget_bytes = value()?.parse()?,
            "--whole-groups" => budget_bytes = u64::MAX,
            "--regroup" => regrouped = Some(value()?),
            _ => return Err(USAGE.into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    match regrouped {
        Some(target) => runtime.block_on(regroup(&path, &target)),
        None => runtime.block_on(scan(&path, columns, threads, budget_bytes)),
    }
}

async fn scan(
    path: &str,
    columns: Option<Vec<String>>,
    threads: usize,
    budget_bytes: u64,
) -> Result<(), Box<dyn Error>> {
    let local = Arc::new(LocalFile::open(path)?);
    let file = Arc::new(ParquetFile::open(Arc::clone(&local) as Arc<dyn PinnedFile>).await??);
    let columns = columns.unwrap_or_else(|| file.schema().fields().iter().map(|field| field.name().clone()).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (file, columns, next) = (Arc::clone(&file), columns.clone(), Arc::clone(&next));
            tokio::spawn(async move { drain(&file, &columns, &next, budget_bytes).await })
        })
        .collect();
    let mut rows = 0;
    for worker in workers {
        rows += worker.await?.map_err(|error| error.to_string())?;
    }
    writeln!(io::stdout(), "{} requests, {rows}", local.requests.load(Ordering::Relaxed))?;
    Ok(())
}

/// Writes all records of a file to another one, in one row group.
async fn regroup(path: &str, target: &str) -> Result<(), Box<dyn Error>> {
    let file = Arc::new(ParquetFile::open(Arc::new(LocalFile::open(path)?)).await??);
    let columns: Vec<String> = file.schema().fields().iter().map(|field| field.name().clone()).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(None)
        .build();
    let mut writer = ArrowWriter::try_new(File::create(target)?, Arc::clone(file.schema()), Some(properties))?;
    for group in 0..file.metadata().num_row_groups() {
        let (columns, batch_rows, budget_bytes) = (columns.clone(), BATCH_ROWS, BUDGET_BYTES);
        let mut batches = file.read_group(GroupRequest { group, columns, selection: None, batch_rows, budget_bytes });
        while let Some(batch) = batches.next().await {
            writer.write(&batch?)?;
        }
    }
    writer.close()?;
    Ok(())
}

/// Reads row groups until none is left; tells how many records they had.
async fn drain(
    file: &Arc<ParquetFile>,
    columns: &[String],
    next: &AtomicUsize,
    budget_bytes: u64,
) -> Result<usize, Box<dyn Error + Send + Sync>> {
    let mut rows = 0;
    loop {
        let group = next.fetch_add(1, Ordering::Relaxed);
        if group >= file.metadata().num_row_groups() {
            return Ok(rows);
        }
        let (columns, batch_rows) = (columns.to_vec(), BATCH_ROWS);
        let mut batches = file.read_group(GroupRequest { group, columns, selection: None, batch_rows, budget_bytes });
        while let Some(batch) = batches.next().await {
            rows += batch?.num_rows();
        }
    }
}

#[derive(Debug)]
struct LocalFile {
    path: String,
    size: u64,
    /// Ranges that were asked for, neighbours counted once: what an object store would be asked.
    requests: AtomicU64,
}

impl LocalFile {
    fn open(path: &str) -> io::Result<Self> {
        let size = fs::metadata(path)?.len();
        Ok(Self { path: path.to_owned(), size, requests: AtomicU64::new(0) })
    }

    /// By a handle of its own, which has a place of its own; into memory that nobody has to clear first.
    fn part(&self, range: &Range<u64>) -> io::Result<Bytes> {
        let length = range.end - range.start;
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
        file.take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == length { Ok(Bytes::from(bytes)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[async_trait]
impl PinnedFile for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn fingerprint(&self) -> &str {
        "local"
    }

    async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, SourceError> {
        let mut read = Vec::with_capacity(ranges.len());
        let mut reached = None;
        for range in ranges {
            if reached != Some(range.start) {
                self.requests.fetch_add(1, Ordering::Relaxed);
            }
            reached = Some(range.end);
            let told = |cause| SourceError::new(Origin::External, "the file cannot be read").caused_by(cause);
            read.push(self.part(range).map_err(told)?);
        }
        Ok(read)
    }
}

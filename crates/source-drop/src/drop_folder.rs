//! The drop folder behind the `Source` trait: what is to be read, and what moves afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use convoke_core::source::{
    Coverage, Discover, Discovery, Selection, Settling, Source, SourcePosition, SourceSchema, Split, SplitContent,
    SplitOutcome, SplitResult,
};
use convoke_core::spec::{CsvDropSpec, DropMode, ProcessedFiles};
use convoke_core::{Clock, Origin, SourceError};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::columns::{FileColumns, all_columns, told_gaps};
use crate::file::DroppedFile;
use crate::folder::Folder;
use crate::header::Aliases;
use crate::position::{Place, Position, SplitDetail};
use crate::reader::{FileReader, schema_of};
use crate::search::{Found, Search};
use crate::selecting::select_files;
use crate::settle::{self, Judged, judge};

/// Items that wait between the reading thread and whoever takes them: a few megabytes at most.
const ITEMS_IN_FLIGHT: usize = 4;

/// A folder into which somebody drops CSV files.
pub struct CsvDrop {
    spec: CsvDropSpec,
    clock: Arc<dyn Clock>,
    /// The columns of the files that the last discovery chose, until these are acknowledged. Which files those are
    /// depends on what was read before, and any other file's header may be another one.
    chosen: Mutex<Option<SourceSchema>>,
}

impl CsvDrop {
    /// A source over this folder; `clock` tells when a file has settled.
    ///
    /// A value serves one run at a time: between a discovery and its acknowledgement, `describe` is about the files
    /// that were discovered.
    pub fn new(spec: CsvDropSpec, clock: Arc<dyn Clock>) -> Self {
        Self { spec, clock, chosen: Mutex::new(None) }
    }

    fn chosen(&self) -> Option<SourceSchema> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn choose(&self, schema: Option<SourceSchema>) {
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = schema;
    }

    fn folder(&self) -> Result<Folder, SourceError> {
        Folder::of(&self.spec)
    }

    async fn judged(&self, folder: &Folder) -> Result<Judged, SourceError> {
        judge(folder, self.spec.settle, self.clock.as_ref()).await
    }

    fn reader(&self, file: &DroppedFile) -> Result<FileReader, SourceError> {
        let delimiter = u8::try_from(self.spec.delimiter).ok().filter(u8::is_ascii).ok_or_else(|| {
            SourceError::new(
                Origin::User,
                format!("`delimiter` must be one ASCII character, not `{}`", self.spec.delimiter),
            )
        })?;
        Ok(FileReader {
            path: file.path.clone(),
            identity: file.identity,
            delimiter,
            aliases: Aliases::new(&self.spec.aliases),
            max_malformed: self.spec.max_malformed,
        })
    }

    fn coverage(&self) -> Coverage {
        match self.spec.drop_mode {
            DropMode::Snapshot => Coverage::Snapshot,
            DropMode::Append => Coverage::Delta,
        }
    }

    fn reader_of(&self, split: &Split) -> Result<FileReader, SourceError> {
        let detail = SplitDetail::of(split)?;
        let parent = match detail.place {
            Place::Folder => self.spec.path.clone(),
            Place::Processed => self.folder()?.processed(),
        };
        let path = parent.join(&detail.file);
        self.reader(&DroppedFile { name: detail.file, path, identity: detail.identity })
    }

    fn nothing_there(&self, notices: &[String]) -> SourceError {
        let (pattern, folder) = (&self.spec.pattern, self.spec.path.display());
        let notices: String = notices.iter().map(|notice| format!("; {notice}")).collect();
        SourceError::new(Origin::User, format!("no file matching `{pattern}` in `{folder}` to read; drop one{notices}"))
    }

    /// The columns of these files together, with a notice if not all have the same. A file without a header that can be
    /// read has none; `read` tells why.
    async fn schema_of_splits(&self, splits: &[Split]) -> Result<Option<(SourceSchema, Option<String>)>, SourceError> {
        let Some(newest) = splits.last() else { return Ok(None) };
        let newest_path = self.reader_of(newest)?.path;
        let readers = splits.iter().rev().map(|split| Ok((split.name.clone(), self.reader_of(split)?)));
        let readers = readers.collect::<Result<Vec<_>, SourceError>>()?;
        let files = blocking(move || {
            let mut files = Vec::with_capacity(readers.len());
            for (file, reader) in readers {
                files.extend(reader.columns()?.ok().map(|columns| FileColumns { file, columns }));
            }
            Ok(files)
        })
        .await?;
        let origin = match splits.len() {
            1 => newest_path.display().to_string(),
            count => format!("{} and {} more files", newest_path.display(), count - 1),
        };
        Ok(Some((SourceSchema { schema: schema_of(&all_columns(&files)), origin }, told_gaps(&files))))
    }

    /// The header of the newest of these files that has one, or else why the newest has none. `files` oldest first.
    async fn newest_header(&self, files: &[DroppedFile]) -> Result<Option<SourceSchema>, SourceError> {
        let readers = files.iter().rev().map(|file| self.reader(file)).collect::<Result<Vec<_>, _>>()?;
        blocking(move || {
            let mut first_broken = None;
            for reader in readers {
                let origin = reader.path.display().to_string();
                match reader.columns()? {
                    Ok(columns) => return Ok(Some(SourceSchema { schema: schema_of(&columns), origin })),
                    Err(reason) => {
                        first_broken.get_or_insert(format!("cannot read the header of `{origin}`: {reason}"));
                    }
                }
            }
            first_broken.map_or(Ok(None), |message| Err(SourceError::new(Origin::User, message)))
        })
        .await
    }
}

#[async_trait]
impl Source for CsvDrop {
    async fn describe(&self) -> Result<SourceSchema, SourceError> {
        if let Some(chosen) = self.chosen() {
            return Ok(chosen);
        }
        let folder = self.folder()?;
        let judged = self.judged(&folder).await?;
        let mut files = folder.list_processed()?;
        files.extend(judged.settled);
        self.newest_header(&files).await?.ok_or_else(|| self.nothing_there(&judged.notices))
    }

    async fn settling(&self) -> Result<Option<Settling>, SourceError> {
        settle::settling(&self.folder()?, self.spec.settle, self.clock.now())
    }

    async fn discover(&self, request: Discover<'_>) -> Result<Discovery, SourceError> {
        self.choose(None);
        let folder = self.folder()?;
        let known = request.stored.map(Position::parse).transpose()?.unwrap_or_default();
        let is_first = known.files.is_empty();
        let judged = self.judged(&folder).await?;
        let (mode, reread) = (self.spec.drop_mode, request.reread);
        let search = Search::new(folder, known, judged.notices);
        let found = blocking(move || search.run(mode, judged.settled, reread)).await?;
        let Found { splits, settled, mut notices } = found;
        if is_first && splits.is_empty() {
            return Err(self.nothing_there(&notices));
        }
        if let Some((schema, gaps)) = self.schema_of_splits(&splits).await? {
            notices.extend(gaps);
            self.choose(Some(schema));
        }
        Ok(Discovery { unchanged: splits.is_empty(), splits, coverage: self.coverage(), settled, notices })
    }

    async fn select(&self, selection: &Selection) -> Result<Discovery, SourceError> {
        self.choose(None);
        let folder = self.folder()?;
        let Judged { settled, mut notices } = self.judged(&folder).await?;
        let (mode, selection) = (self.spec.drop_mode, selection.clone());
        let splits = blocking(move || select_files(&folder, settled, mode, &selection)).await?;
        if splits.is_empty() {
            notices.push(format!("no file in `{}` is of the kind that was asked for", self.spec.path.display()));
        }
        if let Some((schema, gaps)) = self.schema_of_splits(&splits).await? {
            notices.extend(gaps);
            self.choose(Some(schema));
        }
        let unchanged = splits.is_empty();
        Ok(Discovery { splits, coverage: Coverage::Delta, unchanged, settled: Vec::new(), notices })
    }

    async fn read(&self, split: &Split) -> Result<SplitContent, SourceError> {
        let reader = self.reader_of(split)?;
        let (sender, mut receiver) = mpsc::channel(ITEMS_IN_FLIGHT);
        // The thread ends by itself: at the end of the file, or when the stream is dropped.
        tokio::task::spawn_blocking(move || reader.run(&sender));
        let stream = futures::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed();
        Ok(SplitContent::Stream(stream))
    }

    fn propose(&self, stored: Option<&SourcePosition>, outcomes: &[SplitOutcome]) -> SourcePosition {
        // `discover` has refused a position that is not ours before any outcome could come of it.
        let position = stored.and_then(|stored| Position::parse(stored).ok()).unwrap_or_default();
        position.after(outcomes, self.spec.drop_mode).store()
    }

    async fn can_acknowledge(&self, splits: &[Split]) -> Result<(), SourceError> {
        let details = splits.iter().map(SplitDetail::of).collect::<Result<Vec<_>, _>>()?;
        let moves = self.spec.processed == ProcessedFiles::Move;
        if !moves || details.iter().all(|detail| detail.place == Place::Processed) {
            return Ok(());
        }
        let folder = self.folder()?;
        blocking(move || folder.can_move_processed()).await
    }

    async fn acknowledge(&self, outcomes: &[SplitOutcome]) -> Result<(), SourceError> {
        self.choose(None);
        let folder = self.folder()?;
        let (outcomes, processed) = (outcomes.to_vec(), self.spec.processed);
        blocking(move || {
            for outcome in &outcomes {
                let detail = SplitDetail::of(&outcome.split)?;
                match &outcome.result {
                    _ if detail.place == Place::Processed => {}
                    SplitResult::Read { .. } if processed == ProcessedFiles::Move => {
                        folder.move_processed(&detail.file, &detail.identity)?;
                    }
                    SplitResult::Read { .. } => {}
                    SplitResult::Broken { reason } => folder.move_broken(&detail.file, &detail.identity, reason)?,
                }
            }
            folder.move_orphaned_markers()
        })
        .await
    }
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(SourceError::new(Origin::Internal, "reading the drop folder ended unexpectedly").caused_by(error))
    })
}

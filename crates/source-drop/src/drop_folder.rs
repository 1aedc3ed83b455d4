//! The drop folder behind the `Source` trait: what is to be read, and what moves afterwards.

use std::sync::Arc;

use async_trait::async_trait;
use convoke_core::source::{
    Coverage, Discover, Discovery, Source, SourcePosition, SourceSchema, Split, SplitOutcome, SplitResult, SplitStream,
};
use convoke_core::spec::{CsvDropSpec, DropMode, ProcessedFiles};
use convoke_core::{Clock, Origin, SourceError};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::file::DroppedFile;
use crate::folder::Folder;
use crate::header::Aliases;
use crate::position::{Place, Position, SplitDetail};
use crate::reader::{FileReader, schema_of};
use crate::search::{Found, Search};
use crate::settle::{Judged, judge};

/// Items that wait between the reading thread and whoever takes them: a few megabytes at most.
const ITEMS_IN_FLIGHT: usize = 4;

/// A folder into which somebody drops CSV files.
pub struct CsvDrop {
    spec: CsvDropSpec,
    clock: Arc<dyn Clock>,
}

impl CsvDrop {
    /// A source over this folder; `clock` tells when a file has settled.
    pub fn new(spec: CsvDropSpec, clock: Arc<dyn Clock>) -> Self {
        Self { spec, clock }
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

    fn nothing_there(&self, notices: &[String]) -> SourceError {
        let (pattern, folder) = (&self.spec.pattern, self.spec.path.display());
        let notices: String = notices.iter().map(|notice| format!("; {notice}")).collect();
        SourceError::new(Origin::User, format!("no file matching `{pattern}` in `{folder}`; drop one{notices}"))
    }
}

#[async_trait]
impl Source for CsvDrop {
    async fn describe(&self) -> Result<SourceSchema, SourceError> {
        let folder = self.folder()?;
        let mut judged = self.judged(&folder).await?;
        let newest = match judged.settled.pop() {
            Some(file) => Some(file),
            None => folder.list_processed()?.pop(),
        };
        let newest = newest.ok_or_else(|| self.nothing_there(&judged.notices))?;
        let reader = self.reader(&newest)?;
        let columns = blocking(move || reader.columns()).await?.map_err(|reason| {
            let message = format!("cannot read the header of `{}`: {reason}", newest.path.display());
            SourceError::new(Origin::User, message)
        })?;
        Ok(SourceSchema { schema: schema_of(&columns), origin: newest.path.display().to_string() })
    }

    async fn discover(&self, request: Discover<'_>) -> Result<Discovery, SourceError> {
        let folder = self.folder()?;
        let stored = request.stored.map(Position::parse).transpose()?;
        let judged = self.judged(&folder).await?;
        let known = stored.unwrap_or_default().files;
        if known.is_empty() && judged.settled.is_empty() {
            return Err(self.nothing_there(&judged.notices));
        }
        let (mode, reread) = (self.spec.drop_mode, request.reread);
        let search = Search::new(folder, known, judged.notices);
        let found = blocking(move || search.run(mode, judged.settled, reread)).await?;
        let Found { splits, settled, notices } = found;
        Ok(Discovery { unchanged: splits.is_empty(), splits, coverage: self.coverage(), settled, notices })
    }

    async fn read(&self, split: &Split) -> Result<SplitStream, SourceError> {
        let detail = SplitDetail::of(split)?;
        let parent = match detail.place {
            Place::Folder => self.spec.path.clone(),
            Place::Processed => self.folder()?.processed(),
        };
        let path = parent.join(&detail.file);
        let reader = self.reader(&DroppedFile { name: detail.file, path, identity: detail.identity })?;
        let (sender, mut receiver) = mpsc::channel(ITEMS_IN_FLIGHT);
        // The thread ends by itself: at the end of the file, or when the stream is dropped.
        tokio::task::spawn_blocking(move || reader.run(&sender));
        Ok(futures::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed())
    }

    fn propose(&self, stored: Option<&SourcePosition>, outcomes: &[SplitOutcome]) -> SourcePosition {
        // `discover` has refused a position that is not ours before any outcome could come of it.
        let position = stored.and_then(|stored| Position::parse(stored).ok()).unwrap_or_default();
        position.after(outcomes, self.spec.drop_mode).store()
    }

    async fn acknowledge(&self, outcomes: &[SplitOutcome]) -> Result<(), SourceError> {
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
            Ok(())
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

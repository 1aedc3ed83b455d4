//! The drop folder behind the `Source` trait: what is to be read, and what moves afterwards.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use convoke_core::source::{
    Arrivals, Coverage, Discover, Discovery, Selection, Settling, Source, SourcePosition, SourceSchema, Split,
    SplitContent, SplitOutcome, SplitResult,
};
use convoke_core::spec::{CsvDropSpec, DropMode, DropPlace, ObjectStoreConnection, ProcessedFiles};
use convoke_core::{Clock, Origin, SourceError};
use convoke_formats::{CsvFormat, Delimiter, Encoding, FileFormat};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::arriving::arrivals;
use crate::claims::{self, Taker, leave_claimed};
use crate::columns::{FileColumns, all_columns, told_gaps};
use crate::file::{DroppedFile, LotName, Place};
use crate::folder::Folder;
use crate::known::Known;
use crate::listed::Checked;
use crate::local::LocalFolder;
use crate::moving::Attempts;
use crate::position::{Habits, Position, SplitDetail};
use crate::reader::{DroppedReader, schema_of};
use crate::remote::ObjectFolder;
use crate::search::{Found, Search};
use crate::selecting::select_files;
use crate::settle::{self, Judged, Rule, SecondLook, look, wait_for};
use crate::storage::Storage;

/// Items that wait between the reading thread and whoever takes them: a few megabytes at most.
const ITEMS_IN_FLIGHT: usize = 4;

/// A folder into which somebody drops CSV files.
pub struct CsvDrop {
    spec: CsvDropSpec,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    taker: Option<Taker>,
    /// The columns of the files that the last discovery chose, until these are acknowledged. Which files those are
    /// depends on what was read before, and any other file's header may be another one.
    chosen: Mutex<Option<SourceSchema>>,
    /// The files of the last discovery that were not read before, by their names in the folder.
    new: Mutex<HashSet<String>>,
    /// The manifest that the stored position names, as the last discovery was told: after a crash it may still lie there.
    last_lot: Mutex<Option<LotName>>,
    /// Renews the claim of a run for as long as it lasts.
    renewing: Mutex<Option<Renewing>>,
}

/// Ends with the value that holds it.
struct Renewing(AbortHandle);

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl CsvDrop {
    /// A source over this folder; `connection` is that of the spec, where files are dropped into an object store. `clock`
    /// tells when a file has settled. Sends nothing.
    ///
    /// A value serves one run at a time: between a discovery and its acknowledgement, `describe` is about the files
    /// that were discovered.
    ///
    /// # Errors
    ///
    /// A URL or a setting of the connection that no client can work with.
    pub fn open(
        spec: CsvDropSpec,
        connection: Option<&ObjectStoreConnection>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        let storage: Arc<dyn Storage> = match &spec.place {
            DropPlace::Folder { path } => Arc::new(LocalFolder::new(path.clone())),
            DropPlace::Prefix { url, connection: name } => {
                Arc::new(ObjectFolder::open(url, name.as_ref(), connection)?)
            }
        };
        let (chosen, last_lot, renewing) = (Mutex::new(None), Mutex::new(None), Mutex::new(None));
        Ok(Self { spec, storage, clock, taker: None, chosen, new: Mutex::default(), last_lot, renewing })
    }

    /// The same, for a taker of files that may not be the only one.
    pub fn for_taker(self, taker: Taker) -> Self {
        Self { taker: Some(taker), ..self }
    }

    fn chosen(&self) -> Option<SourceSchema> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn choose(&self, schema: Option<SourceSchema>) {
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = schema;
    }

    fn remember_new(&self, new: HashSet<String>) {
        *self.new.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn is_new(&self, file: &SplitDetail) -> bool {
        file.place == Place::Folder && self.new.lock().unwrap_or_else(PoisonError::into_inner).contains(&file.file)
    }

    fn keep_renewing(&self, renewing: Option<Renewing>) {
        *self.renewing.lock().unwrap_or_else(PoisonError::into_inner) = renewing;
    }

    fn folder(&self) -> Result<Arc<Folder>, SourceError> {
        Folder::of(&self.spec, Arc::clone(&self.storage)).map(Arc::new)
    }

    /// Who has to claim files here. Where files are kept, everybody may read them.
    fn taker(&self) -> Option<Taker> {
        self.taker.clone().filter(|_| self.spec.processed == ProcessedFiles::Move)
    }

    /// Judges what lies in the folder; waits, at most for `settle`, for files that were written to lately.
    async fn judged(
        &self,
        folder: &Arc<Folder>,
        known: &Arc<Known>,
        checked: Option<Arc<Checked>>,
    ) -> Result<Judged, SourceError> {
        let settle = self.spec.settle;
        let first = {
            let (folder, known, checked) = (Arc::clone(folder), Arc::clone(known), checked.clone());
            let now = self.clock.now();
            blocking(move || {
                let checked = checked.as_deref();
                look(Rule { folder: &folder, settle, known: &known, checked }, now)
            })
            .await?
        };
        if !wait_for(&first, settle, self.clock.as_ref()).await {
            return Ok(first.judged);
        }
        let second = SecondLook::after(first);
        let (folder, known, now) = (Arc::clone(folder), Arc::clone(known), self.clock.now());
        blocking(move || {
            let checked = checked.as_deref();
            second.judge(Rule { folder: &folder, settle, known: &known, checked }, now)
        })
        .await
    }

    fn remember_last_lot(&self, lot: Option<LotName>) {
        *self.last_lot.lock().unwrap_or_else(PoisonError::into_inner) = lot;
    }

    /// The manifests of which is known that their files are settled: those of these outcomes, and the one that was before.
    fn settled_lots(&self, outcomes: &[SplitOutcome]) -> Vec<LotName> {
        let details = outcomes.iter().filter_map(|outcome| SplitDetail::of(&outcome.split).ok());
        let mut lots: Vec<LotName> = details.filter_map(|detail| detail.lot).collect();
        lots.dedup();
        lots.extend(self.last_lot.lock().unwrap_or_else(PoisonError::into_inner).clone());
        lots
    }

    fn reader(&self, file: DroppedFile) -> Result<DroppedReader, SourceError> {
        let format = FileFormat::Csv(self.format()?);
        Ok(DroppedReader { storage: Arc::clone(&self.storage), file, format, max_malformed: self.spec.max_malformed })
    }

    fn format(&self) -> Result<CsvFormat, SourceError> {
        let refused = |message| SourceError::new(Origin::User, message);
        let delimiter = match self.spec.delimiter {
            None => Delimiter::Detected,
            Some(given) => {
                let byte = u8::try_from(given).ok().filter(u8::is_ascii);
                let byte =
                    byte.ok_or_else(|| refused(format!("`delimiter` must be one ASCII character, not `{given}`")));
                Delimiter::Is(byte?)
            }
        };
        let encoding = match &self.spec.encoding {
            None => Encoding::Detected,
            Some(name) => {
                let known = Encoding::named(name);
                known.ok_or_else(|| {
                    refused(format!("`encoding`: nobody knows `{name}`; write for example `windows-1252`"))
                })?
            }
        };
        let columns = Some(self.spec.columns.clone()).filter(|columns| !columns.is_empty());
        Ok(CsvFormat { delimiter, encoding, columns, aliases: self.spec.aliases.clone() })
    }

    fn coverage(&self) -> Coverage {
        match self.spec.drop_mode {
            DropMode::Snapshot => Coverage::Snapshot,
            DropMode::Append => Coverage::Delta,
        }
    }

    fn nothing_there(&self, notices: &[String]) -> SourceError {
        let (pattern, folder) = (&self.spec.pattern, self.storage.shown_folder());
        let notices: String = notices.iter().map(|notice| format!("; {notice}")).collect();
        SourceError::new(Origin::User, format!("no file matching `{pattern}` in `{folder}` to read; drop one{notices}"))
    }

    /// The columns of these files together, with a notice if not all have the same. A file without a header that can be
    /// read has none; `read` tells why.
    async fn schema_of_splits(&self, splits: &[Split]) -> Result<Option<(SourceSchema, Option<String>)>, SourceError> {
        let Some(newest) = splits.last() else { return Ok(None) };
        let newest = SplitDetail::of(newest)?.dropped();
        let readers = splits.iter().rev().map(|split| {
            let reader = self.reader(SplitDetail::of(split)?.dropped())?;
            Ok((split.name.clone(), reader))
        });
        let readers = readers.collect::<Result<Vec<_>, SourceError>>()?;
        let reading = readers.into_iter().map(|(file, reader)| {
            blocking(move || Ok(reader.columns()?.ok().map(|columns| FileColumns { file, columns })))
        });
        let files = futures::stream::iter(reading).buffered(self.storage.at_once().get());
        let files: Vec<_> = files.try_filter_map(|file| std::future::ready(Ok(file))).try_collect().await?;
        let newest = self.storage.shown(newest.place, &newest.name);
        let origin = match splits.len() {
            1 => newest,
            count => format!("{newest} and {} more files", count - 1),
        };
        Ok(Some((SourceSchema { schema: schema_of(&all_columns(&files)), origin }, told_gaps(&files))))
    }

    /// The header of the newest of these files that has one, or else why the newest has none. `files` oldest first.
    async fn newest_header(&self, files: Vec<DroppedFile>) -> Result<Option<SourceSchema>, SourceError> {
        let readers = files.into_iter().rev().map(|file| self.reader(file)).collect::<Result<Vec<_>, _>>()?;
        blocking(move || {
            let mut first_broken = None;
            for reader in readers {
                let origin = reader.shown();
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
        let judged = self.judged(&folder, &Arc::default(), None).await?;
        let mut files = blocking(move || folder.list_processed()).await?;
        files.extend(judged.settled.into_iter().flat_map(|lot| lot.files));
        self.newest_header(files).await?.ok_or_else(|| self.nothing_there(&judged.notices))
    }

    async fn settling(&self) -> Result<Option<Settling>, SourceError> {
        let (folder, settle, now) = (self.folder()?, self.spec.settle, self.clock.now());
        let known = Known::default();
        blocking(move || settle::settling(Rule { folder: &folder, settle, known: &known, checked: None }, now)).await
    }

    async fn arrivals(&self, stored: Option<&SourcePosition>) -> Result<Option<Arrivals>, SourceError> {
        let (folder, settle, now) = (self.folder()?, self.spec.settle, self.clock.now());
        let position = stored.map(Position::parse).transpose()?.unwrap_or_default();
        let taker = self.taker();
        blocking(move || {
            let known = Known::of(&position);
            let rule = Rule { folder: &folder, settle, known: &known, checked: None };
            arrivals(rule, &position, taker.as_ref(), now).map(Some)
        })
        .await
    }

    async fn discover(&self, request: Discover<'_>) -> Result<Discovery, SourceError> {
        self.choose(None);
        let folder = self.folder()?;
        let position = request.stored.map(Position::parse).transpose()?.unwrap_or_default();
        let is_first = position.is_empty();
        self.remember_last_lot(position.lot.clone());
        let known = Arc::new(Known::of(&position));
        let judged = self.judged(&folder, &known, Some(Arc::default())).await?;
        let (reread, taker, now) = (request.reread, self.taker(), self.clock.now());
        let found = blocking(move || {
            let Judged { settled, notices } = leave_claimed(&folder, judged, taker.as_ref(), now)?;
            Search::new(&folder, &position, &known, notices).run(settled, reread)
        });
        let Found { splits, settled, mut notices, new, is_whole } = found.await?;
        self.remember_new(new);
        let coverage = if is_whole { self.coverage() } else { Coverage::Delta };
        if is_first && splits.is_empty() {
            return Err(self.nothing_there(&notices));
        }
        if let Some((schema, gaps)) = self.schema_of_splits(&splits).await? {
            notices.extend(gaps);
            self.choose(Some(schema));
        }
        Ok(Discovery { unchanged: splits.is_empty(), splits, coverage, settled, notices })
    }

    async fn select(&self, selection: &Selection) -> Result<Discovery, SourceError> {
        self.choose(None);
        self.remember_new(HashSet::new());
        let folder = self.folder()?;
        let Judged { settled, mut notices } = self.judged(&folder, &Arc::default(), Some(Arc::default())).await?;
        let (mode, selection) = (self.spec.drop_mode, selection.clone());
        let splits = blocking(move || select_files(&folder, settled, mode, &selection)).await?;
        if splits.is_empty() {
            notices.push(format!("no file in `{}` is of the kind that was asked for", self.storage.shown_folder()));
        }
        if let Some((schema, gaps)) = self.schema_of_splits(&splits).await? {
            notices.extend(gaps);
            self.choose(Some(schema));
        }
        let unchanged = splits.is_empty();
        Ok(Discovery { splits, coverage: Coverage::Delta, unchanged, settled: Vec::new(), notices })
    }

    async fn read(&self, split: &Split) -> Result<SplitContent, SourceError> {
        let reader = self.reader(SplitDetail::of(split)?.dropped())?;
        let (sender, mut receiver) = mpsc::channel(ITEMS_IN_FLIGHT);
        // The thread ends by itself: at the end of the file, or when the stream is dropped.
        tokio::task::spawn_blocking(move || reader.run(&sender));
        let stream = futures::stream::poll_fn(move |context| receiver.poll_recv(context)).boxed();
        Ok(SplitContent::Stream(stream))
    }

    fn propose(&self, stored: Option<&SourcePosition>, outcomes: &[SplitOutcome]) -> SourcePosition {
        // `discover` has refused a position that is not ours before any outcome could come of it.
        let position = stored.and_then(|stored| Position::parse(stored).ok()).unwrap_or_default();
        let habits = Habits { mode: self.spec.drop_mode, processed: self.spec.processed };
        position.after(outcomes, habits).store()
    }

    fn splits_at_once(&self) -> NonZeroUsize {
        self.storage.at_once()
    }

    async fn can_acknowledge(&self, splits: &[Split]) -> Result<(), SourceError> {
        let files = dropped_files(splits.iter())?;
        if self.spec.processed != ProcessedFiles::Move || files.is_empty() {
            return Ok(());
        }
        let storage = Arc::clone(&self.storage);
        blocking(move || storage.can_move_processed(&files)).await
    }

    /// A new file would empty cells. What was read before, or is asked for by somebody, is taken as it was.
    fn may_lack_columns(&self, split: &Split) -> bool {
        !SplitDetail::of(split).is_ok_and(|detail| self.is_new(&detail))
    }

    fn quarantines(&self) -> bool {
        self.spec.processed == ProcessedFiles::Move
    }

    async fn claim(&self, splits: &[Split]) -> Result<(), SourceError> {
        let files = dropped_files(splits.iter())?;
        let Some(taker) = self.taker().filter(|_| !files.is_empty()) else { return Ok(()) };
        let (folder, now, claiming) = (self.folder()?, self.clock.now(), taker.clone());
        blocking(move || claims::claim(&folder, &claiming, &files, now)).await?;
        let (storage, clock) = (Arc::clone(&self.storage), Arc::clone(&self.clock));
        let renewing = tokio::spawn(async move {
            loop {
                clock.sleep(claims::RENEWED_EVERY).await;
                let (storage, taker, now) = (Arc::clone(&storage), taker.clone(), clock.now());
                // What fails now is tried again, long before the claim ends.
                let _ = blocking(move || claims::renew(storage.as_ref(), &taker, now)).await;
            }
        });
        self.keep_renewing(Some(Renewing(renewing.abort_handle())));
        Ok(())
    }

    async fn acknowledge(&self, outcomes: &[SplitOutcome]) -> Result<(), SourceError> {
        self.choose(None);
        self.keep_renewing(None);
        let folder = self.folder()?;
        // Other syncs read the same files, broken ones too.
        if self.spec.processed == ProcessedFiles::Keep {
            return Ok(());
        }
        let (done, taker) = (self.settled_lots(outcomes), self.taker());
        let moves = outcomes.iter().cloned().map(|outcome| {
            let folder = Arc::clone(&folder);
            blocking(move || put_away(&folder, &outcome))
        });
        // One that cannot be moved stands in no other one's way.
        let mut attempts = Attempts::default();
        for moved in futures::stream::iter(moves).buffered(self.storage.at_once().get()).collect::<Vec<_>>().await {
            attempts.note(moved);
        }
        blocking(move || {
            attempts.note(folder.move_what_is_left(&done));
            attempts.note(taker.map_or(Ok(()), |taker| claims::release(folder.storage.as_ref(), &taker)));
            attempts.end()
        })
        .await
    }
}

/// Moves the file of an outcome, if it lies in the drop folder itself.
fn put_away(folder: &Folder, outcome: &SplitOutcome) -> Result<(), SourceError> {
    let SplitDetail { place, file, identity, .. } = SplitDetail::of(&outcome.split)?;
    match &outcome.result {
        _ if place != Place::Folder => Ok(()),
        SplitResult::Read { .. } => folder.move_processed(&file, &identity),
        SplitResult::Broken { reason } => folder.move_broken(&file, &identity, reason),
    }
}

/// The files of these splits that lie in the drop folder itself.
fn dropped_files<'s>(splits: impl Iterator<Item = &'s Split>) -> Result<Vec<DroppedFile>, SourceError> {
    let files = splits.map(|split| SplitDetail::of(split).map(|detail| detail.dropped()));
    let files = files.filter(|file| file.as_ref().map_or(true, |file| file.place == Place::Folder));
    files.collect()
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(SourceError::new(Origin::Internal, "reading the drop folder ended unexpectedly").caused_by(error))
    })
}

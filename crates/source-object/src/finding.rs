//! What is listed, settled and to be read.

use std::collections::HashMap;
use std::time::Duration;

use convoke_core::source::{Coverage, Discover, Discovery, Settling, Split};
use convoke_core::spec::ObjectsMode;
use convoke_core::{Origin, SourceError, Timestamp};
use convoke_objects::{ListedObject, Listing, Pin};

use crate::object_source::ObjectSource;
use crate::position::{Position, Sift, mark_of};

/// How often objects that count only together are waited for before the run gives up.
const WAITS: usize = 3;

/// Objects that are named in a notice; the others are counted.
const NAMED: usize = 3;

impl ObjectSource {
    /// Lists all that the URL names, but for folders that the filter rules out.
    pub(crate) async fn list(&self) -> Result<Listing, SourceError> {
        let mut objects = Vec::new();
        let notices = self.list_each(|object| objects.push(object)).await?;
        objects.sort_by(|one: &ListedObject, other| one.age_order().cmp(&other.age_order()));
        Ok(Listing { objects, notices })
    }

    async fn list_each(&self, take: impl FnMut(ListedObject) + Send) -> Result<Vec<String>, SourceError> {
        match &self.pruning {
            Some(pruning) => {
                let root = self.location.root();
                let enters = |folder: &str| pruning.entering(&format!("{root}{folder}"));
                self.store.list_each(&self.location, Some(&enters), take).await
            }
            None => self.store.list_each(&self.location, None, take).await,
        }
    }

    /// How long until an object counts; nothing if it does. A clock that is ahead of ours makes nobody wait longer than
    /// `settle`.
    fn time_to_settle(&self, object: &ListedObject, now: Timestamp) -> Duration {
        let settle = self.spec.settle;
        let age = Duration::from_millis(u64::try_from(now.0.saturating_sub(object.modified.0)).unwrap_or(0));
        settle.saturating_sub(age)
    }

    /// Takes out the objects that do not count yet; tells which.
    pub(crate) fn leave_young(&self, objects: &mut Vec<ListedObject>) -> Option<String> {
        let now = self.clock.now();
        let young: Vec<_> = objects.extract_if(.., |object| !self.time_to_settle(object, now).is_zero()).collect();
        left_young(&young)
    }

    /// What a snapshot would wait for.
    pub(crate) async fn unsettled(&self) -> Result<Option<Settling>, SourceError> {
        if self.spec.settle.is_zero() || self.spec.mode == ObjectsMode::Append {
            return Ok(None);
        }
        let objects = self.list().await?.objects;
        let now = self.clock.now();
        let young: Vec<&ListedObject> =
            objects.iter().filter(|object| !self.time_to_settle(object, now).is_zero()).collect();
        let wait = young.iter().map(|object| self.time_to_settle(object, now)).max();
        Ok(wait.map(|wait| Settling { what: named(&young), wait }))
    }

    /// Lists a snapshot whose objects have all settled: with one of them missing it would not be whole.
    async fn list_settled(&self) -> Result<Listing, SourceError> {
        let mut before: HashMap<String, Pin> = HashMap::new();
        for _ in 0..=WAITS {
            let listing = self.list().await?;
            let now = self.clock.now();
            let was_there = |object: &ListedObject| before.get(&object.name) == Some(&object.pin);
            // Whoever was as it is now before the last wait has settled, whatever the store's clock says.
            let young = listing.objects.iter().filter(|object| !was_there(object));
            let Some(wait) = young.map(|object| self.time_to_settle(object, now)).max().filter(|wait| !wait.is_zero())
            else {
                return Ok(listing);
            };
            self.clock.sleep(wait).await;
            before = listing.objects.into_iter().map(|object| (object.name, object.pin)).collect();
        }
        let message = format!(
            "objects of `{}` keep changing, and they count only together; run again when they are complete, or lower `settle`",
            self.location.url()
        );
        Err(SourceError::new(Origin::External, message))
    }

    pub(crate) async fn find(
        &self,
        known: Option<&Position>,
        request: &Discover<'_>,
    ) -> Result<Discovery, SourceError> {
        match self.spec.mode {
            ObjectsMode::Snapshot => self.find_snapshot(known, request).await,
            ObjectsMode::Append => self.find_additions(known, request).await,
        }
    }

    async fn find_snapshot(&self, known: Option<&Position>, request: &Discover<'_>) -> Result<Discovery, SourceError> {
        let Listing { objects, mut notices } = match self.spec.settle.is_zero() {
            true => self.list().await?,
            false => self.list_settled().await?,
        };
        if objects.is_empty() && known.is_none() {
            return Err(self.nothing_there(&notices));
        }
        let is_known = known.is_some_and(|known| known.is_exactly(&self.location, &objects));
        if objects.is_empty() {
            notices.insert(0, format!("no object matches `{}` any more: the snapshot is empty", self.location.url()));
        }
        let unchanged = is_known && (objects.is_empty() || !request.reread);
        let splits = if unchanged { Vec::new() } else { objects.iter().map(ListedObject::split).collect() };
        if !unchanged {
            self.choose(objects, known);
        }
        // What is as it was tells nothing new.
        if !unchanged && !is_known {
            notices.extend(self.drift_notices().await);
        }
        Ok(Discovery { splits, coverage: Coverage::Snapshot, unchanged, settled: Vec::new(), notices })
    }

    async fn find_additions(&self, known: Option<&Position>, request: &Discover<'_>) -> Result<Discovery, SourceError> {
        let mut sift = Sift::new(known);
        let (mut objects, mut young, now) = (Vec::new(), Vec::new(), self.clock.now());
        let mut is_empty = true;
        let sifting = |object: ListedObject| {
            is_empty = false;
            if !self.time_to_settle(&object, now).is_zero() {
                // What it was before is not forgotten: it counts as it is once it has settled.
                sift.put_off(&mark_of(&self.location, &object.pin));
                young.push(object);
            } else if !sift.is_settled(mark_of(&self.location, &object.pin)) || request.reread {
                objects.push(object);
            }
        };
        let mut notices = self.list_each(sifting).await?;
        if is_empty && known.is_none() {
            return Err(self.nothing_there(&notices));
        }
        notices.extend(left_young(&young));
        objects.sort_by(|one, other| one.age_order().cmp(&other.age_order()));
        let splits: Vec<Split> = objects.iter().map(ListedObject::split).collect();
        let unchanged = splits.is_empty();
        if !unchanged {
            let (kept, gone) = sift.finish();
            if gone > 0 {
                let objects = if gone == 1 { "object that was" } else { "objects that were" };
                notices.push(format!("{gone} {objects} read before are there no more; what they added stays"));
            }
            self.choose(objects, known);
            self.run().kept = Some(kept);
            notices.extend(self.drift_notices().await);
        }
        Ok(Discovery { splits, coverage: Coverage::Delta, unchanged, settled: Vec::new(), notices })
    }

    /// What has become of the columns. What stands in the way of knowing is told by whoever asks for them next.
    async fn drift_notices(&self) -> Vec<String> {
        let (chosen, known) = {
            let run = self.run();
            (run.chosen.clone(), run.known.clone())
        };
        let (Some(objects), Some(known)) = (chosen, known) else { return Vec::new() };
        let Ok(described) = self.schema_of(&objects, Some(&known)).await else { return Vec::new() };
        let notices = described.notices.clone();
        self.run().described = Some(described);
        notices
    }
}

fn left_young(young: &[ListedObject]) -> Option<String> {
    let young: Vec<&ListedObject> = young.iter().collect();
    let told = || format!("left for the next run: {}, written less than `settle` ago", named(&young));
    (!young.is_empty()).then(told)
}

/// Names for a notice: `` `a`, `b` and 3 more ``.
fn named(objects: &[&ListedObject]) -> String {
    let mut named: Vec<String> = objects.iter().take(NAMED).map(|object| format!("`{}`", object.name)).collect();
    if objects.len() > NAMED {
        named.push(format!("{} more", objects.len() - NAMED));
    }
    named.join(", ")
}

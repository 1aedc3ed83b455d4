//! Whose the records of a stretch are: those of one split, or of small ones that share a file.

use std::sync::Arc;

/// The names of splits, each with the number of its first record in the stretch, ascending from 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct SplitNames(Vec<(u64, Arc<str>)>);

impl SplitNames {
    /// All records are of this split.
    pub(super) fn only(name: Arc<str>) -> Self {
        Self(vec![(0, name)])
    }

    /// From this record on they are of this split.
    pub(super) fn add(&mut self, first_record: u64, name: Arc<str>) {
        debug_assert!(self.0.last().is_none_or(|(before, _)| *before < first_record), "each has a record at least");
        self.0.push((first_record, name));
    }

    /// The split of a record.
    pub(super) fn of(&self, record: u64) -> &str {
        let behind = self.0.partition_point(|(first, _)| *first <= record);
        &self.0[behind - 1].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_of_the_last_split_that_began_before_it_or_with_it() {
        let mut names = SplitNames::only("a".into());
        names.add(3, "b".into());
        names.add(4, "c".into());
        let told: Vec<_> = (0..6).map(|record| names.of(record)).collect();
        assert_eq!(told, ["a", "a", "a", "b", "c", "c"]);
    }
}

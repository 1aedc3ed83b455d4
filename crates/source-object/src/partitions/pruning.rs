//! Folders that a rule rules out before they are listed.
//!
//! A rule over the columns of partitions is decided by a folder's name as far as that tells them; what it does not tell may
//! be anything. A folder is ruled out only if the rule is false whatever stands in its files. That takes a file that has no
//! column of its own by the name of a partition: where the rule is about it, such a file is refused.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Field, Schema};
use chrono::NaiveDate;
use convoke_core::rule::{Condition, Operator, Rule};
use convoke_objects::Entering;
use convoke_rules::{Cell, evaluate, validate};

use super::{Partition, partitions_of};

/// A filter as far as folders can tell about it.
#[derive(Debug)]
pub(crate) struct Pruning {
    rule: Rule,
    columns: BTreeSet<String>,
}

impl Pruning {
    /// None if the rule is about nothing.
    pub(crate) fn of(rule: &Rule) -> Option<Self> {
        let mut columns = BTreeSet::new();
        collect_columns(rule, &mut columns);
        (!columns.is_empty()).then(|| Self { rule: rule.clone(), columns })
    }

    /// Whether folders are left out by the values of this column.
    pub(crate) fn is_about(&self, column: &str) -> bool {
        self.columns.contains(column)
    }

    /// What is done about a folder, told by its key, without a final `/`.
    pub(crate) fn entering(&self, folder: &str) -> Entering {
        let partitions = partitions_of(&format!("{folder}/"));
        if may_hold(&self.rule, &partitions) == Some(false) {
            return Entering::No;
        }
        let is_partition = folder.rsplit('/').next().is_some_and(|last| last.contains('='));
        let is_known = |column: &String| partitions.iter().any(|(name, _)| name == column);
        // What lies beneath other folders has mostly no partitions, and what is known already tells no more.
        match is_partition && !self.columns.iter().all(is_known) {
            true => Entering::Stepwise,
            false => Entering::Whole,
        }
    }
}

fn collect_columns(rule: &Rule, columns: &mut BTreeSet<String>) {
    match rule {
        Rule::All(parts) | Rule::Any(parts) => parts.iter().for_each(|part| collect_columns(part, columns)),
        Rule::Condition(condition) => drop(columns.insert(condition.column.clone())),
    }
}

/// Whether the rule holds for records beneath these partitions; none if that depends on the records.
fn may_hold(rule: &Rule, partitions: &[Partition]) -> Option<bool> {
    match rule {
        Rule::All(parts) => {
            let told: Vec<Option<bool>> = parts.iter().map(|part| may_hold(part, partitions)).collect();
            if told.contains(&Some(false)) {
                return Some(false);
            }
            told.iter().all(|told| *told == Some(true)).then_some(true)
        }
        Rule::Any(parts) => {
            let told: Vec<Option<bool>> = parts.iter().map(|part| may_hold(part, partitions)).collect();
            if told.contains(&Some(true)) {
                return Some(true);
            }
            told.iter().all(|told| *told == Some(false)).then_some(false)
        }
        Rule::Condition(condition) => condition_holds(condition, partitions),
    }
}

fn condition_holds(condition: &Condition, partitions: &[Partition]) -> Option<bool> {
    // What today is, is known when the records are looked at, and no sooner.
    if condition.operator == Operator::RollingRange {
        return None;
    }
    let (_, value) = partitions.iter().find(|(name, _)| *name == condition.column)?;
    let schema = Schema::new(vec![Field::new(&condition.column, DataType::Utf8, true)]);
    let valid = validate(&Rule::Condition(condition.clone()), &schema).ok()?;
    let cell = || value.clone().map_or(Cell::Null, Cell::Text);
    Some(evaluate(&valid, &|_| cell(), NaiveDate::default()))
}

#[cfg(test)]
mod tests {
    use convoke_core::rule::Literal;

    use super::*;

    fn condition(column: &str, operator: Operator, value: &str) -> Rule {
        let values = if value.is_empty() { Vec::new() } else { vec![Literal::Text(value.to_owned())] };
        Rule::Condition(Condition { column: column.to_owned(), operator, values })
    }

    fn entering(rule: Rule, folder: &str) -> Entering {
        Pruning::of(&rule).unwrap().entering(folder)
    }

    #[test]
    fn a_folder_is_ruled_out_only_if_nothing_in_its_files_could_save_it() {
        use Operator::{After, Empty, Equals, NotEquals, RollingRange, StartsWith};
        let cases = [
            (condition("dt", Equals, "2026-01-01"), "dt=2026-01-01", Entering::Whole),
            (condition("dt", Equals, "2026-01-01"), "dt=2026-01-02", Entering::No),
            (condition("dt", NotEquals, "2026-01-01"), "dt=2026-01-01", Entering::No),
            (condition("dt", StartsWith, "2026-02"), "dt=2026-01-02", Entering::No),
            (condition("dt", After, "2026-01-01"), "dt=2025-12-31", Entering::No),
            (condition("dt", After, "2026-01-01"), "dt=2026-01-02", Entering::Whole),
            (condition("dt", RollingRange, "3"), "dt=2020-01-01", Entering::Whole),
            (condition("dt", Empty, ""), "dt=__HIVE_DEFAULT_PARTITION__", Entering::Whole),
            (condition("dt", Equals, "x"), "dt=__HIVE_DEFAULT_PARTITION__", Entering::No),
            (condition("country", Equals, "DE"), "dt=1", Entering::Stepwise),
            (condition("country", Equals, "DE"), "dt=1/country=FR", Entering::No),
            (condition("country", Equals, "de"), "dt=1/country=DE", Entering::Whole),
            (condition("city", Equals, "Bonn"), "archive", Entering::Whole),
        ];
        for (rule, folder, expected) in cases {
            assert_eq!(entering(rule.clone(), folder), expected, "{rule:?} {folder}");
        }
        let of_country = condition("country", Equals, "DE");
        let either = Rule::Any(vec![condition("dt", Equals, "1"), of_country.clone()]);
        assert_eq!(entering(either, "dt=2"), Entering::Stepwise);
        let both = Rule::All(vec![condition("dt", Equals, "1"), of_country]);
        assert_eq!(entering(both, "dt=2"), Entering::No);
        // The outer folder counts, as for the records.
        let of_day = condition("dt", Equals, "3");
        assert_eq!(entering(of_day.clone(), "dt=3/country=DE/dt=1"), Entering::Whole);
        assert_eq!(entering(of_day, "dt=1/country=DE/dt=3"), Entering::No);
        assert!(Pruning::of(&Rule::All(Vec::new())).is_none());
    }
}

//! What commands print: tables for people, JSON for machines. The only place that writes to standard output.

use std::io::{self, Write};

use convoke_core::enrichment::{EnrichedColumn, EnrichmentReport};
use convoke_core::plan::{DeliveryCounts, PlanCounts, PlanManifest, WithheldDeletes};
use serde::Serialize;

use crate::forecast;

/// Prints a line to standard output. A reader that went away (`convoke runs | head`) is no error of ours.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_ref().as_bytes());
    let _ = out.write_all(b"\n");
}

/// Standard output, for what is too much to be held at once.
pub(crate) fn stream() -> io::Stdout {
    io::stdout()
}

/// Prints facts as one JSON document.
pub(crate) fn json(facts: &impl Serialize) {
    match serde_json::to_string_pretty(facts) {
        Ok(text) => line(text),
        Err(error) => tracing::error!(error = %error, "the facts could not be written as JSON"),
    }
}

/// Prints rows under a header, columns aligned; the last column is not padded.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    for text in layout(header, rows) {
        line(text);
    }
}

fn layout(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = header.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let titles = header.iter().map(|title| (*title).to_owned()).collect();
    std::iter::once(&titles)
        .chain(rows)
        .map(|row: &Vec<String>| {
            let padded: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        })
        .collect()
}

/// The plan in words: what came in, what will change, what it costs, what stands against it.
pub(crate) fn describe_plan(manifest: &PlanManifest, hash: &str) -> Vec<String> {
    let mut lines = vec![format!("plan {} for `{}` (hash {})", manifest.id, manifest.sync, short(hash))];
    if let Some(window) = manifest.window.filter(|window| window.of > 1) {
        lines.push(format!("  window    {} of {} of a backfill", window.number, window.of));
    }
    lines.push(format!("  records   {}", describe_records(&manifest.counts)));
    lines.push(format!("  changes   {}", describe_changes(&manifest.counts)));
    if manifest.counts.changes() > 0 {
        lines.push(format!("  forecast  {}", forecast::describe(&manifest.forecast, manifest.created_at)));
    }
    lines.extend(manifest.withheld.as_ref().map(describe_withheld));
    lines.extend(manifest.setup.iter().map(|what| format!("  set-up    {what}")));
    lines.extend(manifest.source.notices.iter().map(|notice| format!("  note      {notice}")));
    lines.extend(manifest.guard_hits.iter().map(|hit| format!("  guard     {}: {}", hit.guard, hit.message)));
    lines
}

fn describe_withheld(withheld: &WithheldDeletes) -> String {
    let WithheldDeletes { deletes, unreadable, first } = withheld;
    format!(
        "  withheld  {deletes} delete: {unreadable} records cannot be read (first: {first}), and a row that lacks a record may have one of these; repair them, or raise `guards.max_unreadable`"
    )
}

/// What became of refused records that somebody asked for.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ResentFacts {
    /// Records asked for.
    pub(crate) chosen: u64,
    /// Of these: created or updated by the plan.
    pub(crate) planned: u64,
    /// None if the plan was not delivered to its end.
    pub(crate) accepted: Option<u64>,
    pub(crate) refused_again: u64,
}

pub(crate) fn describe_resent(resent: ResentFacts) -> String {
    let ResentFacts { chosen, planned, accepted, refused_again } = resent;
    let became = match accepted {
        Some(accepted) => format!("{planned} sent: {accepted} accepted, {refused_again} refused again"),
        None => format!("{planned} planned, not all of them sent; {refused_again} refused again"),
    };
    let rest = match chosen.saturating_sub(planned) {
        0 => String::new(),
        rest => format!("; {rest} no longer to be sent, as the source is now"),
    };
    format!("refused records: {chosen} asked for, {became}{rest}")
}

/// The parts of the records balance that are not zero.
pub(crate) fn describe_records(counts: &PlanCounts) -> String {
    let parts = [
        ("read", counts.read),
        ("carried over", counts.carried_over),
        ("filtered", counts.filtered),
        ("invalid", counts.invalid),
        ("superseded", counts.superseded),
        ("suppressed", counts.suppressed),
        ("unchanged", counts.unchanged),
        ("skipped by mode", counts.skipped_by_mode),
        ("removed at the destination", counts.removed_respected),
        ("held back", counts.held_back),
        ("refused before", counts.refused_before),
        ("listed for deletion", counts.listed),
        ("deleted at the source", counts.deleted),
    ];
    join_counts(&parts, "none")
}

pub(crate) fn describe_changes(counts: &PlanCounts) -> String {
    let parts = [
        ("create", counts.creates),
        ("update", counts.updates),
        ("delete", counts.deletes),
        ("delete withheld", counts.withheld),
    ];
    join_counts(&parts, "none")
}

pub(crate) fn describe_delivery(counts: &DeliveryCounts) -> String {
    let parts = [
        ("created", counts.creates.acknowledged),
        ("updated", counts.updates.acknowledged),
        ("deleted", counts.deletes.acknowledged),
        ("in part", counts.failed()),
        ("rejected", counts.rejected()),
        ("gone at the destination", counts.updates.found_removed),
        ("cancelled", counts.cancelled()),
        ("doubles removed", counts.doubles_removed),
    ];
    join_counts(&parts, "nothing sent")
}

/// What became of enrichments: their jobs, the cells of each column, and what went wrong.
pub(crate) fn describe_enrichment(report: &EnrichmentReport) -> Vec<String> {
    let EnrichmentReport { jobs, from_earlier_runs, rows_looked_at, is_sample, columns, messages } = report;
    let earlier = match from_earlier_runs {
        0 => String::new(),
        count => format!(" ({count} of earlier runs)"),
    };
    let mut lines = vec![format!("jobs: {}{earlier}", join_counts(&jobs.parts(), "none"))];
    let sample = if *is_sample { "the first " } else { "" };
    lines.extend(columns.iter().map(|column| format!("{} in {sample}{rows_looked_at} rows", describe_column(column))));
    let failed = columns.iter().flat_map(|column| &column.samples);
    lines.extend(failed.map(|row| format!("row {}: {}", row.row_id, row.summary)));
    lines.extend(messages.iter().cloned());
    lines
}

fn describe_column(column: &EnrichedColumn) -> String {
    let parts = [
        ("with a result", column.result),
        ("without a result", column.no_result),
        ("in error", column.error),
        ("still loading", column.loading),
        ("blank", column.blank),
        ("in another state", column.other),
    ];
    format!("column `{}`: {}", column.name, join_counts(&parts, "none"))
}

pub(crate) fn join_counts(parts: &[(&str, u64)], none: &str) -> String {
    let shown: Vec<_> =
        parts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")).collect();
    if shown.is_empty() { none.to_owned() } else { shown.join(", ") }
}

/// The first digits of a hash or id: enough for people to tell them apart.
pub(crate) fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_script() {
        let rows = vec![vec!["Łukasz".to_owned(), "1".to_owned()], vec!["Zoë".to_owned(), "22".to_owned()]];
        assert_eq!(layout(&["name", "n"], &rows), ["name    n", "Łukasz  1", "Zoë     22"]);
    }
}

//! Guards: a whole plan is held against its limits before the first write.
//!
//! Pure: figures in, hits out. A plan with hits waits for an approval that is bound to its hash.

use convoke_core::plan::{GuardHit, PlanCounts};
use convoke_core::spec::{Guards, Limit};

/// The guard that looks at rows of others in the audience.
pub(crate) const UNEXPLAINED_ROWS: &str = "unexplained_rows";

/// What the guards look at.
#[derive(Clone, Debug)]
pub(crate) struct GuardInputs<'a> {
    pub(crate) guards: &'a Guards,
    pub(crate) counts: &'a PlanCounts,
    /// Live rows of this sync, by the ledger.
    pub(crate) own_rows: u64,
    pub(crate) first_load: bool,
    /// False if the source is as it was, so that this run did not read it, or if what it read only adds to what was there.
    pub(crate) source_was_read: bool,
    /// Records of the last snapshot, if this is a snapshot and there was one.
    pub(crate) last_snapshot: Option<u64>,
    /// Rows that the audience holds, and rows that the ledger explains, if the audience exists.
    pub(crate) audience_rows: Option<AudienceRows>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct AudienceRows {
    pub(crate) held: u64,
    pub(crate) explained: u64,
    /// Whether the audience has a ledger: then it is one that we have filled or taken over.
    pub(crate) is_ours: bool,
}

impl AudienceRows {
    /// Once it is known that `absent` rows are gone, and that `surplus` rows are doubles of ours.
    pub(crate) fn knowing(self, absent: u64, surplus: u64) -> Self {
        Self { explained: self.explained.saturating_sub(absent) + surplus, ..self }
    }
}

/// Returns every guard whose limit the plan passes.
pub(crate) fn evaluate(inputs: &GuardInputs<'_>) -> Vec<GuardHit> {
    let counts = inputs.counts;
    let guards = inputs.guards;
    let mut hits = Vec::new();

    // A plan that changes nothing needs nobody's leave.
    let audience_rows = inputs.audience_rows.filter(|_| counts.changes() > 0);
    hits.extend(audience_rows.and_then(|rows| unexplained(rows, guards.max_unexplained)));
    let is_empty = counts.read == 0 && counts.carried_over == 0;
    // An empty source that was let through is not asked about again until it says something else.
    if is_empty && inputs.source_was_read && !guards.allow_empty {
        hits.push(GuardHit {
            guard: "allow_empty".to_owned(),
            message: "the source holds no record at all; set `guards.allow_empty: true` if that can be right"
                .to_owned(),
            approvable: true,
        });
    }

    let changes = [
        ("max_delete", guards.max_delete, counts.deletes, inputs.own_rows, "rows of this sync would be deleted"),
        ("max_update", guards.max_update, counts.updates, inputs.own_rows, "rows of this sync would be updated"),
    ];
    for (guard, limit, count, base, what) in changes {
        hits.extend(over_limit(guard, limit, (count, base), what));
    }
    // Invalid records of a source that was not read were judged when it was.
    if counts.read > 0 {
        hits.extend(over_limit(
            "max_invalid",
            guards.max_invalid,
            (counts.invalid, counts.read),
            "records read are invalid (see `rejects list`)",
        ));
    }
    if !inputs.first_load {
        let (creates, own) = (counts.creates, inputs.own_rows);
        let what = format!("{creates} rows would be created beside the {own} rows of this sync");
        hits.extend(hit("max_create", guards.max_create, (creates, own), &what));
    }
    if let Some(last) = inputs.last_snapshot {
        let missing = last.saturating_sub(counts.read + counts.carried_over);
        let what = "records fewer than in the last snapshot";
        hits.extend(over_limit("max_shrink", guards.max_shrink, (missing, last), what));
    }
    hits
}

/// Rows that the ledger cannot explain, if there are any. An audience that was never ours cannot be approved into being
/// ours: that is what `adopt` is for.
pub(crate) fn unexplained(rows: AudienceRows, limit: Limit) -> Option<GuardHit> {
    let AudienceRows { held, explained, is_ours } = rows;
    let others = held.saturating_sub(explained);
    if others == 0 || (is_ours && !limit.is_passed(others, held)) {
        return None;
    }
    let remedy = if !is_ours {
        "take them over with `convoke adopt`, or give the sync another audience name"
    } else {
        "somebody added rows; take over those with known keys by `convoke adopt`, approve the plan to leave them this time, or let so many be with `guards.max_unexplained`"
    };
    Some(GuardHit {
        guard: UNEXPLAINED_ROWS.to_owned(),
        message: format!("the audience holds {held} rows, the ledger explains {explained}; {remedy}"),
        approvable: is_ours,
    })
}

fn over_limit(guard: &str, limit: Limit, (count, base): (u64, u64), what: &str) -> Option<GuardHit> {
    hit(guard, limit, (count, base), &format!("{count} of {base} {what}"))
}

fn hit(guard: &str, limit: Limit, (count, base): (u64, u64), what: &str) -> Option<GuardHit> {
    if count == 0 || !limit.is_passed(count, base) {
        return None;
    }
    let message = format!("{what}; the limit is {}", describe(limit));
    Some(GuardHit { guard: guard.to_owned(), message, approvable: true })
}

fn describe(limit: Limit) -> String {
    match (limit.percent, limit.records) {
        (Some(percent), Some(records)) => format!("{percent} %, once it is more than {records}"),
        (Some(percent), None) => format!("{percent} %"),
        (None, Some(records)) => records.to_string(),
        (None, None) => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits_of(counts: PlanCounts, own_rows: u64, change: impl FnOnce(&mut GuardInputs<'_>)) -> Vec<String> {
        let guards = Guards::default();
        let mut inputs = GuardInputs {
            guards: &guards,
            counts: &counts,
            own_rows,
            first_load: false,
            source_was_read: true,
            last_snapshot: None,
            audience_rows: None,
        };
        change(&mut inputs);
        evaluate(&inputs).into_iter().map(|hit| hit.guard).collect()
    }

    fn read(read: u64) -> PlanCounts {
        PlanCounts { read, ..PlanCounts::default() }
    }

    #[test]
    fn deletes_stop_a_plan_only_when_both_share_and_number_are_passed() {
        let deletes = |deletes| PlanCounts { deletes, ..read(1000) };
        assert_eq!(hits_of(deletes(101), 1000, |_| ()), ["max_delete"]);
        assert!(hits_of(deletes(100), 1000, |_| ()).is_empty(), "exactly ten percent passes");
        assert!(hits_of(deletes(50), 60, |_| ()).is_empty(), "fifty rows pass whatever the share");
        assert_eq!(hits_of(deletes(51), 60, |_| ()), ["max_delete"]);
    }

    #[test]
    fn creates_are_free_on_a_first_load_only() {
        let creates = PlanCounts { creates: 900, ..read(1000) };
        assert_eq!(hits_of(creates, 100, |_| ()), ["max_create"]);
        assert!(hits_of(creates, 0, |inputs| inputs.first_load = true).is_empty());
    }

    #[test]
    fn an_empty_or_shrunken_source_stops() {
        assert_eq!(hits_of(read(0), 10, |_| ()), ["allow_empty"]);
        let shrunken = hits_of(read(400), 1000, |inputs| inputs.last_snapshot = Some(1000));
        assert_eq!(shrunken, ["max_shrink"]);
        let carried = PlanCounts { carried_over: 1000, ..read(0) };
        assert!(hits_of(carried, 1000, |inputs| inputs.last_snapshot = Some(1000)).is_empty());
        assert!(hits_of(read(0), 0, |inputs| inputs.source_was_read = false).is_empty(), "it was let through before");
    }

    #[test]
    fn invalid_records_are_judged_when_they_are_read_and_not_again() {
        let invalid = PlanCounts { invalid: 200, ..read(1000) };
        assert_eq!(hits_of(invalid, 1000, |_| ()), ["max_invalid"]);
        let carried = PlanCounts { invalid: 200, carried_over: 1000, ..read(0) };
        assert!(hits_of(carried, 1000, |_| ()).is_empty());
    }

    #[test]
    fn rows_that_were_never_ours_cannot_be_approved() {
        let guards = Guards::default();
        let counts = PlanCounts { creates: 1, ..read(1) };
        let with_rows = |explained, is_ours| {
            let inputs = GuardInputs {
                guards: &guards,
                counts: &counts,
                own_rows: explained,
                first_load: explained == 0,
                source_was_read: true,
                last_snapshot: None,
                audience_rows: Some(AudienceRows { held: 12, explained, is_ours }),
            };
            evaluate(&inputs).pop().map(|hit| (hit.guard, hit.approvable))
        };
        assert_eq!(with_rows(0, false), Some(("unexplained_rows".to_owned(), false)));
        // All of ours may be gone.
        assert_eq!(with_rows(0, true), Some(("unexplained_rows".to_owned(), true)));
        assert_eq!(with_rows(10, true), Some(("unexplained_rows".to_owned(), true)));
        assert_eq!(with_rows(12, true), None);
        assert!(
            hits_of(read(1), 10, |inputs| inputs.audience_rows =
                Some(AudienceRows { held: 12, explained: 10, is_ours: true }))
            .is_empty()
        );
    }
}

//! Decodes `schedule`.

use std::time::Duration;

use convoke_core::Timestamp;
use convoke_core::spec::{ArrivalSpec, CronSpec, ScheduleSpec, SourceSpec};
use convoke_schedule::Schedule;

use crate::field::Field;
use crate::report::Report;
use crate::yaml::Value;

/// The presets as cron expressions; `manual` and `arrival` have none.
const PRESETS: &[(&str, Option<&str>)] =
    &[("daily", Some("0 9 * * *")), ("weekly", Some("0 18 * * 6")), (ARRIVAL, None), ("manual", None)];

const ARRIVAL: &str = "arrival";

/// A look lists a whole folder.
const SHORTEST_SCAN: Duration = Duration::from_secs(1);

const CATCH_UP: &[(&str, bool)] = &[("latest", true), ("none", false)];

pub(super) fn decode(schedule: &Field<'_>, report: &mut Report) -> Option<ScheduleSpec> {
    let Some(node) = schedule.given() else { return Some(ScheduleSpec::Manual) };
    let cron = schedule.field("cron");
    let expression = match &node.value {
        Value::Map(_) => {
            check(&cron, |expression| Schedule::cron(expression, "UTC"), "a cron expression of five fields", report);
            match schedule.field(ARRIVAL).boolean() {
                Some(true) if !cron.is_given() => return Some(ScheduleSpec::Manual),
                Some(false) if !cron.is_given() => {
                    let message = "is missing; give a cron expression, or set `arrival: true`";
                    report.problem(cron.place, &cron.path, message);
                }
                _ => {}
            }
            cron.text()?
        }
        _ => match schedule.choice(PRESETS)? {
            Some(expression) => expression,
            None => return Some(ScheduleSpec::Manual),
        },
    };
    let timezone = schedule.field("timezone");
    check(&timezone, |zone| Schedule::cron("0 0 * * *", zone), "a time zone of the IANA database", report);
    let (timezone, jitter) = (timezone.text()?, schedule.field("jitter"));
    check_jitter(&jitter, expression, timezone, report);
    Some(ScheduleSpec::Cron(CronSpec {
        expression: expression.trim().to_owned(),
        timezone: timezone.to_owned(),
        jitter: jitter.duration()?,
        catch_up: schedule.field("catch_up").choice(CATCH_UP)?,
    }))
}

/// Whether the sync runs as soon as something has come to its source; the inner value is none if not.
pub(super) fn decode_arrival(
    schedule: &Field<'_>,
    source: Option<&SourceSpec>,
    report: &mut Report,
) -> Option<Option<ArrivalSpec>> {
    let Some(node) = schedule.given() else { return Some(None) };
    let (arrival, scan) = (schedule.field(ARRIVAL), schedule.field("scan"));
    let (runs, told) = match &node.value {
        Value::Map(_) => (arrival.boolean()?, &arrival),
        _ => (schedule.text() == Some(ARRIVAL), schedule),
    };
    if !runs {
        if scan.is_given() {
            report.problem(scan.place, &scan.path, "means nothing without `arrival: true`; leave it out");
        }
        return Some(None);
    }
    if source.is_some_and(|source| !matches!(source, SourceSpec::CsvDrop(_))) {
        let message = "only `source.csv_drop` can tell that something has come; give a cron expression";
        report.problem(told.place, &told.path, message);
    }
    let every = scan.duration()?;
    if every < SHORTEST_SCAN {
        report.problem(scan.place, &scan.path, "is too often; give `1s` or more");
    }
    Some(Some(ArrivalSpec { scan: every }))
}

/// A run that may start after the next one is due is a run less.
fn check_jitter(jitter: &Field<'_>, expression: &str, timezone: &str, report: &mut Report) {
    let (Some(up_to), Ok(schedule)) = (jitter.duration(), Schedule::cron(expression, timezone)) else { return };
    let Some(gap) = schedule.shortest_gap(Timestamp(0)).filter(|gap| up_to > *gap) else { return };
    let minutes = gap.as_secs() / 60;
    let message = format!("is longer than the time between two runs, {minutes}m; make it shorter");
    report.problem(jitter.place, &jitter.path, message);
}

/// Reports what the scheduler says of a text, but nothing of a text that came in by reference.
fn check<T, E: std::fmt::Display>(
    field: &Field<'_>,
    parse: impl Fn(&str) -> Result<T, E>,
    expected: &str,
    report: &mut Report,
) {
    let Some(Err(error)) = field.text().map(parse) else { return };
    let came_by_reference = field.given_scalar().is_some_and(|scalar| scalar.written.is_some());
    let message = if came_by_reference { format!("`{}` is not {expected}", field.shown()) } else { error.to_string() };
    report.problem(field.place, &field.path, message);
}

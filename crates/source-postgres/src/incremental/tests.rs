use super::*;

const SECOND: i64 = 1_000_000;

fn standing(kind: Kind) -> Standing {
    let (shape, database) = ("columns".to_owned(), Some("here".to_owned()));
    Standing { kind, shape, database, parts: vec![1], now: 1_000 * SECOND, next_transaction: 500 }
}

fn by_column() -> Incremental {
    let nulls = NullCursors::Read;
    let by = ChangeSign::Column { name: "at".to_owned(), overlap: Duration::from_secs(60), nulls };
    Incremental { by, full_every: None }
}

/// Times are seconds since 1970.
fn arrival(kind: Kind, since: i64, prepared: i64, greatest: Option<i64>) -> Arrival {
    let running = Some(Running { since: since * SECOND, prepared });
    let snapshot = Snapshot { first_running: 400, opened_at: 1_000 * SECOND, running, number: None };
    let greatest = greatest.map(|greatest| postgres_micros(greatest * SECOND));
    Arrival { standing: standing(kind), is_whole: true, snapshot, seen: Seen { greatest, nulls: 0 } }
}

fn bound(stored: Option<&Mark>, arrival: &Arrival) -> Option<i64> {
    let mark = Mark::after(stored, arrival, &by_column());
    mark.bound.map(|bound| (bound - postgres_micros(0)) / SECOND)
}

#[test]
fn a_bound_lies_below_every_stamp_that_can_still_be_committed() {
    let kind = Kind::TimestampTz;
    assert_eq!(bound(None, &arrival(kind, 900, 0, Some(950))), Some(840), "the start of what runs, less the overlap");
    assert_eq!(bound(None, &arrival(kind, 900, 0, Some(700))), Some(700), "or the newest, if that is older");
    assert_eq!(bound(None, &arrival(kind, 900, 0, None)), Some(840), "in an empty table there is no newest");
    let twelve_hours = 12 * 3600;
    assert_eq!(bound(None, &arrival(Kind::Timestamp, 900, 0, Some(950))), Some(840 - twelve_hours));
}

#[test]
fn a_bound_that_is_known_stays_while_nothing_better_is() {
    let kind = Kind::TimestampTz;
    let stored = Mark::after(None, &arrival(kind, 900, 0, Some(950)), &by_column());
    assert_eq!(bound(Some(&stored), &arrival(kind, 990, 1, Some(980))), Some(840), "something is prepared");
    assert_eq!(bound(None, &arrival(kind, 990, 1, Some(980))), None);
    assert_eq!(bound(Some(&stored), &arrival(kind, 990, 0, None)), Some(840), "the newest row was deleted");
    assert_eq!(bound(Some(&stored), &arrival(kind, 990, 0, Some(980))), Some(930));
}

#[test]
fn numbers_are_bounded_by_a_moment_before_the_start_of_what_runs() {
    let read = |stored: Option<&Mark>, since: i64, at: i64, greatest: i64| {
        let mut arrival = arrival(Kind::Number, since, 0, None);
        arrival.snapshot.number = Some(Numbered { at: at * SECOND, greatest: Some(greatest) });
        Mark::after(stored, &arrival, &by_column())
    };
    let first = read(None, 105, 100, 10);
    assert_eq!(first.bound, Some(10), "what runs began after that was the greatest");
    let second = read(Some(&first), 105, 200, 20);
    assert_eq!(second.bound, Some(10), "a transaction goes on");
    let third = read(Some(&second), 150, 300, 30);
    assert_eq!(third.bound, Some(10));
    assert_eq!(read(Some(&third), 250, 400, 40).bound, Some(20), "it has ended");
    assert_eq!(read(Some(&third), 405, 400, 40).bound, Some(40));
    let mut mark = read(None, 50, 100, 10);
    assert_eq!(mark.bound, None, "it began before anything was known");
    for number in 0..100 {
        mark = read(Some(&mark), 50, 200 + number, 20 + number);
    }
    assert!(mark.numbers.len() <= MAX_NUMBERS);
    assert_eq!(read(Some(&mark), 1_000, 999, 999).bound, Some(999));
}

#[test]
fn what_makes_a_position_worthless_makes_the_read_a_whole_one() {
    let version = standing(Kind::Version);
    let mark = Mark::after(None, &arrival(Kind::Version, 0, 0, None), &by_column());
    let is = |mark: Option<&Mark>, standing: &Standing| since(mark, standing, None).map(|since| since.bound);
    assert_eq!(is(Some(&mark), &version), Ok(400));
    assert_eq!(is(None, &version), Err(Whole::First));
    let other = Standing { shape: "others".to_owned(), ..version.clone() };
    assert_eq!(is(Some(&mark), &other), Err(Whole::OtherColumns));
    assert_eq!(is(Some(&mark), &standing(Kind::Date)), Err(Whole::OtherColumns));
    let other = Standing { database: Some("there".to_owned()), ..version.clone() };
    assert_eq!(is(Some(&mark), &other), Err(Whole::OtherDatabase));
    let far = |next_transaction| Standing { next_transaction, ..version.clone() };
    assert_eq!(is(Some(&mark), &far(400 + MAX_TRANSACTIONS)), Err(Whole::TooOld));
    assert_eq!(is(Some(&mark), &far(399)), Err(Whole::TooOld), "the database has forgotten what was read");
    assert_eq!(is(Some(&Mark { bound: None, ..mark.clone() }), &version), Err(Whole::Unbounded));
    let due = |seconds, now| {
        since(Some(&mark), &Standing { now: now * SECOND, ..version.clone() }, Some(Duration::from_secs(seconds)))
    };
    assert!(due(100, 1_099).is_ok());
    assert_eq!(due(100, 1_100), Err(Whole::Due));
}

#[test]
fn a_transaction_number_is_compared_by_its_lower_bits() {
    let since = Since { kind: Kind::Version, bound: (3 << 32) + 17, new_parts: vec![] };
    assert_eq!(
        since.condition(&ChangeSign::RowVersions),
        "pg_catalog.age(xmin) <= pg_catalog.age('17'::pg_catalog.xid)"
    );
}

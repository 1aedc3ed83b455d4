use super::*;

const SECOND: i64 = 1_000_000;

fn standing(kind: Kind) -> Standing {
    let (shape, database) = ("columns".to_owned(), Some("here".to_owned()));
    let column = (kind != Kind::Version).then(|| "at".to_owned());
    let parts = vec![PartId(1, 0)];
    Standing { kind, column, shape, database, parts, now: 1_000 * SECOND, next_transaction: 500 }
}

fn by_column() -> Incremental {
    let nulls = NullCursors::Read;
    let by = ChangeSign::Column { name: "at".to_owned(), overlap: Duration::from_secs(60), nulls };
    Incremental { by, full_every: None }
}

/// Times are seconds since 1970.
fn arrival(kind: Kind, since: i64, undated: i64, greatest: Option<i64>) -> Arrival {
    let running = Some(Running { since: since * SECOND, undated });
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

/// A read of what has changed that finds this greatest number at this time.
fn counted(since: i64, undated: i64, (at, greatest): (i64, i64)) -> Arrival {
    let mut arrival = Arrival { is_whole: false, ..arrival(Kind::Number, since, undated, None) };
    arrival.snapshot.number = Some(Numbered { at: at * SECOND, greatest: Some(greatest) });
    arrival
}

#[test]
fn numbers_are_bounded_by_a_moment_before_the_start_of_what_runs() {
    let read = |stored: Option<&Mark>, since: i64, at: i64, greatest: i64| {
        Mark::after(stored, &counted(since, 0, (at, greatest)), &by_column())
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
fn a_bound_by_numbers_does_not_survive_another_column_table_or_count() {
    let stored = Mark::after(None, &counted(105, 0, (100, 1_000_000)), &by_column());
    assert_eq!(stored.bound, Some(1_000_000));
    let read = |undated: i64, change: &dyn Fn(&mut Arrival)| {
        let mut arrival = counted(205, undated, (200, 500));
        arrival.is_whole = true;
        change(&mut arrival);
        Mark::after(Some(&stored), &arrival, &by_column())
    };
    let changes: [&dyn Fn(&mut Arrival); 5] = [
        &|arrival| arrival.standing.column = Some("rev".to_owned()),
        &|arrival| arrival.standing.shape = "others".to_owned(),
        &|arrival| arrival.standing.database = Some("there".to_owned()),
        &|arrival| arrival.standing.parts = vec![PartId(1, 7)],
        &|_| {},
    ];
    for change in changes {
        assert_eq!(read(0, change).bound, Some(500));
        assert_eq!(read(1, change).bound, None, "nor beside a prepared transaction");
    }
    // Also where the new greatest number is the greater one.
    for change in &changes[..4] {
        let greater = |arrival: &mut Arrival| {
            change(arrival);
            arrival.snapshot.number = Some(Numbered { at: 200 * SECOND, greatest: Some(2_000_000) });
            arrival.snapshot.running = Some(Running { since: 150 * SECOND, undated: 0 });
        };
        assert_eq!(read(0, &greater).bound, None, "what began at 150 may have drawn anything");
    }
}

#[test]
fn a_greatest_number_that_falls_makes_the_next_read_a_whole_one_and_that_one_begins_anew() {
    let stored = Mark::after(None, &counted(105, 0, (100, 1_000)), &by_column());
    let fallen = Mark::after(Some(&stored), &counted(205, 0, (200, 500)), &by_column());
    assert_eq!(since(Some(&fallen), &standing(Kind::Number), None), Err(Whole::Fallen));
    let whole = Mark::after(Some(&fallen), &Arrival { is_whole: true, ..counted(305, 0, (300, 600)) }, &by_column());
    assert_eq!((whole.bound, whole.has_fallen), (Some(600), false));
    // A whole read for another reason says the same.
    let due = Mark::after(Some(&stored), &Arrival { is_whole: true, ..counted(205, 0, (200, 500)) }, &by_column());
    assert_eq!(due.bound, Some(500));
    let next = Mark::after(Some(&due), &counted(205, 0, (300, 600)), &by_column());
    assert_eq!(next.bound, Some(500), "what goes on began after that was the greatest");
}

#[test]
fn a_whole_read_does_not_forget_moments_that_still_hold() {
    let stored = Mark::after(None, &counted(105, 0, (100, 10)), &by_column());
    let due = Mark::after(Some(&stored), &Arrival { is_whole: true, ..counted(150, 0, (200, 20)) }, &by_column());
    assert_eq!(due.bound, Some(10), "something goes on that began after it was the greatest");
}

#[test]
fn moments_are_few_however_long_a_transaction_stays_prepared() {
    let mut mark = Mark::after(None, &counted(105, 0, (100, 10)), &by_column());
    for run in 0..200 {
        mark = Mark::after(Some(&mark), &counted(300 + run, 1, (300 + run, 20 + run)), &by_column());
        assert!(mark.numbers.len() <= MAX_NUMBERS);
        assert_eq!(mark.bound, Some(10));
    }
    let ended = Mark::after(Some(&mark), &counted(499, 0, (600, 999)), &by_column());
    assert_eq!(ended.bound, Some(219));
}

#[test]
fn a_bound_by_time_is_not_taken_over_for_another_column() {
    let kind = Kind::TimestampTz;
    let stored = Mark::after(None, &arrival(kind, 900, 0, Some(950)), &by_column());
    let mut other = arrival(kind, 990, 1, Some(980));
    assert_eq!(bound(Some(&stored), &other), Some(840));
    other.standing.column = Some("created_at".to_owned());
    assert_eq!(bound(Some(&stored), &other), None);
    assert_eq!(since(Some(&stored), &other.standing, None), Err(Whole::OtherColumns));
}

#[test]
fn parts_that_are_new_are_read_whole_and_where_all_are_everything_is() {
    let stored = Mark::after(None, &counted(105, 0, (100, 10)), &by_column());
    let with = |parts: &[(u32, u32)]| {
        let parts = parts.iter().map(|(oid, file)| PartId(*oid, *file)).collect();
        since(Some(&stored), &Standing { parts, ..standing(Kind::Number) }, None).map(|since| since.new_parts)
    };
    assert_eq!(with(&[(1, 0)]), Ok(vec![]));
    assert_eq!(with(&[(1, 0), (2, 5)]), Ok(vec![2]));
    let others: [&[(u32, u32)]; 3] = [&[(2, 0)], &[(1, 6)], &[]];
    for replaced in others {
        assert_eq!(with(replaced), Err(Whole::OtherTable), "{replaced:?}");
    }
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

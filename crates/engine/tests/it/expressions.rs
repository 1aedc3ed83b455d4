//! Which expressions are let through, and what they do with odd values.

use convoke_core::DataType;
use convoke_core::rule::{Condition, Literal, Operator, Rule};
use convoke_core::spec::{Expression, Filter, SyncMode};
use convoke_engine::EngineError;

use crate::fixture::*;

#[tokio::test]
async fn every_problem_is_told_at_once_with_its_place() {
    let world = World::new();
    let mut wrong = spec(SyncMode::Upsert);
    wrong.columns[0].expression = Expression::Sql("lower(emial)".to_owned());
    wrong.columns[1].expression = Expression::Column("Name".to_owned());
    wrong.columns.push(column("When", "now()", DataType::Text));
    wrong.columns.push(column("Sum", "sum(name)", DataType::Text));
    wrong.columns.push(column("Odd", "frobnicate(name)", DataType::Text));
    wrong.columns.push(column("Broken", "lower(", DataType::Text));
    wrong.columns.push(column("Two", "name, email", DataType::Text));
    wrong.filter = Some(Filter::Sql("name".to_owned()));
    wrong.dedupe.by = vec![by("nothing")];
    let problems = world.engine.check(&wrong, &columns()).await;
    let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
    let expected = [
        "where.sql",
        "map.Email.sql",
        "map.Name",
        "map.When.sql",
        "map.Sum.sql",
        "map.Odd.sql",
        "map.Broken.sql",
        "map.Two.sql",
        "dedupe.by",
    ];
    assert_eq!(places, expected, "{problems:#?}");
    assert!(problems[1].message.contains("did you mean `email`?"), "{}", problems[1].message);
    assert!(problems[2].message.contains("did you mean `name`?"), "{}", problems[2].message);
    assert!(problems[3].message.contains("another value each time"), "{}", problems[3].message);
    assert!(problems[4].message.contains("one record at a time"), "{}", problems[4].message);
}

#[tokio::test]
async fn a_column_whose_name_is_a_word_of_sql_is_told_to_be_quoted() {
    use arrow::datatypes::{DataType as Type, Field, Fields, Schema};
    let world = World::new();
    let parts = Fields::from(vec![Field::new("email", Type::Utf8, true)]);
    let fields = vec![Field::new("user", Type::Struct(parts), true), Field::new("order", Type::Utf8, true)];
    let schema = std::sync::Arc::new(Schema::new(fields));
    let mut wrong = spec(SyncMode::Upsert);
    wrong.columns[0].expression = Expression::Sql("lower(user.email)".to_owned());
    wrong.columns[1].expression = Expression::Sql("order".to_owned());
    let problems = world.engine.check(&wrong, &schema).await;
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.message.ends_with("stands in double quotes: `lower(\"user\".email)`"), "{}", problem.message);
    assert!(!problem.message.contains('{'), "{}", problem.message);
    wrong.columns[0].expression = Expression::Sql("lower(\"user\".email)".to_owned());
    assert_eq!(world.engine.check(&wrong, &schema).await, []);
}

#[tokio::test]
async fn the_first_record_of_a_file_without_a_header_is_not_shown() {
    let world = World::new();
    let headless: Vec<_> = ["ada@b.co", "Ada"]
        .map(|name| arrow::datatypes::Field::new(name, arrow::datatypes::DataType::Utf8, true))
        .into();
    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(headless));
    let problems = world.engine.check(&spec(SyncMode::Upsert), &schema).await;
    assert_eq!(problems.len(), 2, "{problems:?}");
    for problem in problems {
        assert!(problem.message.contains("header line") && !problem.message.contains("ada@"), "{}", problem.message);
        assert!(!problem.message.contains("Ada"), "{}", problem.message);
    }
}

#[tokio::test]
async fn volatile_functions_and_queries_are_refused() {
    let world = World::new();
    for sql in ["now()", "current_date()", "uuid()", "random()", "(select 1)", "count(*)", "row_number() over ()"] {
        let mut wrong = spec(SyncMode::Upsert);
        wrong.columns[1].expression = Expression::Sql(sql.to_owned());
        assert_eq!(world.engine.check(&wrong, &columns()).await.len(), 1, "{sql}");
    }
}

#[tokio::test]
async fn column_names_count_exactly_as_in_the_header() {
    let world = World::new();
    let schema = schema(&["E-Mail Address", "Name", "name"]);
    let mut mixed = spec(SyncMode::Upsert);
    mixed.columns[0].expression = Expression::Sql("LOWER(\"E-Mail Address\")".to_owned());
    mixed.columns[1].expression = Expression::Sql("concat(Name, '/', name)".to_owned());
    assert_eq!(world.engine.check(&mixed, &schema).await, []);
    let spool = world.spool(&schema, &[&[record(&["A@b.co", "Upper", "lower"])]]).await;
    let (planned, _) = world.plan(&mixed, &spool, None).await;
    assert_eq!(planned.samples[0].cells[1].1.as_deref(), Some("Upper/lower"));
    assert_eq!(planned.samples[0].cells[0].1.as_deref(), Some("a@b.co"));
}

#[tokio::test]
async fn one_odd_value_becomes_null_and_never_ends_the_run() {
    let world = World::new();
    let mut casting = spec(SyncMode::Upsert);
    casting.columns.push(column("Age", "CAST(updated_at AS BIGINT) + 1", DataType::Integer));
    casting.columns.push(column("Share", "100 / CAST(updated_at AS BIGINT)", DataType::Integer));
    casting.filter =
        Some(Filter::Sql("updated_at IS NOT NULL AND coalesce(CAST(updated_at AS INT), 0) >= 0".to_owned()));
    let records = [record(&["a@b.co", "A", "odd"]), record(&["c@d.co", "C", "0"]), record(&["e@f.co", "E", "50"])];
    let spool = world.spool(&columns(), &[&records]).await;
    let (planned, _) = world.plan(&casting, &spool, None).await;
    assert_eq!(planned.counts.creates, 3);
    let cells: Vec<Vec<_>> =
        planned.samples.iter().map(|sample| sample.cells[2..].iter().map(|cell| cell.1.as_deref()).collect()).collect();
    assert_eq!(cells, [[None, None], [Some("1"), None], [Some("51"), Some("2")]]);
}

#[tokio::test]
async fn an_expression_that_fails_is_named_with_the_record_but_not_the_value() {
    let world = World::new();
    let mut failing = spec(SyncMode::Upsert);
    failing.columns.push(column("Day", "to_timestamp(updated_at)", DataType::Date));
    let records = [record(&["a@b.co", "A", "2024-01-01"]), record(&["c@d.co", "C", "secret-value"])];
    let spool = world.spool(&columns(), &[&records]).await;
    let error = world.try_plan(&failing, &spool, None, &world.fresh("plan")).await.unwrap_err();
    let EngineError::Evaluation { place, origin, .. } = &error else { panic!("{error:?}") };
    assert_eq!((place.as_str(), origin.as_str()), ("map.Day.sql", "file-0.csv:3"));
    assert!(!format!("{error:?} {error}").contains("secret"));
}

#[tokio::test]
async fn rules_filter_records() {
    let world = World::new();
    let mut filtered = spec(SyncMode::Upsert);
    let condition = Condition {
        column: "name".to_owned(),
        operator: Operator::Equals,
        values: vec![Literal::Text("ada".to_owned())],
    };
    filtered.filter = Some(Filter::Rule(Rule::All(vec![Rule::Condition(condition)])));
    let spool = world.spool(&columns(), &[&[record(&["a@b.co", "Ada", "1"]), record(&["c@d.co", "Bob", "1"])]]).await;
    let (planned, _) = world.plan(&filtered, &spool, None).await;
    assert_eq!((planned.counts.creates, planned.counts.filtered), (1, 1));
}

#[tokio::test]
async fn our_functions_take_every_string_type() {
    let world = World::new();
    let mut typed = spec(SyncMode::Upsert);
    for (index, arrow_type) in ["Utf8View", "LargeUtf8", "Dictionary(Int32, Utf8)"].iter().enumerate() {
        let sql = format!("title_case(arrow_cast(name, '{arrow_type}'))");
        typed.columns.push(column(&format!("Name {index}"), &sql, DataType::Text));
    }
    typed.columns.push(column("Phone", "normalize_phone(updated_at, 'DE')", DataType::Phone));
    typed.columns.push(column("Domain", "normalize_domain(email)", DataType::Text));
    typed.columns.push(column("Hash", "sha256_hex(NULL)", DataType::Text));
    let spool = world.spool(&columns(), &[&[record(&["a@mail.co", "ada lovelace", "030 901820"])]]).await;
    assert_eq!(world.engine.check(&typed, &columns()).await, []);
    let (planned, _) = world.plan(&typed, &spool, None).await;
    let cells: Vec<_> = planned.samples[0].cells[2..].iter().map(|cell| cell.1.as_deref()).collect();
    let name = Some("Ada Lovelace");
    assert_eq!(cells, [name, name, name, Some("+4930901820"), Some("mail.co"), None]);
}

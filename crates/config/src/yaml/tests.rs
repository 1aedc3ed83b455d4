//! Places, repeated keys, and what is refused.

use super::*;

fn problems(text: &str) -> Vec<(usize, String, String)> {
    let problems = parse(text.as_bytes()).err().expect("the text must be refused");
    let line = |problem: &YamlProblem| problem.place.map_or(0, |place| place.line);
    problems.into_iter().map(|problem| (line(&problem), problem.key.clone(), problem.message)).collect()
}

#[test]
fn values_know_where_they_stand() {
    let root = parse(b"a:\n  - b: one\n  - [x, 'y']\n").expect("valid");
    let Value::List(items) = &root.get("a").expect("a").value else { panic!("a list") };
    assert_eq!(items[0].get("b").expect("b").place, Place { line: 2, column: 8 });
    assert_eq!(items[1].place, Place { line: 3, column: 5 });
}

#[test]
fn every_repeated_key_is_reported_with_its_path() {
    let found = problems("a:\n  - {}\n  - b: 1\n    c: 2\n    b: 3\na: 4\n");
    assert_eq!(
        found,
        [
            (5, "a[1].b".to_owned(), "is given twice; it stands in line 3 already".to_owned()),
            (6, "a".to_owned(), "is given twice; it stands in line 1 already".to_owned()),
        ]
    );
}

#[test]
fn what_yaml_allows_and_configuration_does_not_is_refused() {
    let cases = [
        ("a: !secret b", 1, "YAML tags (`!…`) are not supported; remove it"),
        ("a: 1\n---\nb: 2\n", 2, "holds several documents; write one file for each"),
        ("[a, b]: c", 1, "a key must be a plain text"),
        ("a: &x [*x]", 1, "an alias must come after the end of what it stands for"),
    ];
    for (text, line, message) in cases {
        let found = problems(text);
        assert_eq!((found[0].0, found[0].2.as_str()), (line, message), "{text}");
    }
}

#[test]
fn aliases_stand_for_their_anchor_but_not_for_a_bomb() {
    let root = parse(b"a: &x {k: v}\nb: *x\n").expect("valid");
    assert!(root.get("b").and_then(|node| node.get("k")).is_some());
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert_eq!(problems(&bomb)[0].2, "its aliases stand for too much");
}

#[test]
fn broken_text_is_refused_with_its_line() {
    assert_eq!(problems("a: b\nc: [1, 2\nd: e\n")[0].0, 3);
    let found = parse(b"a: b\nc: \xff\n").err().expect("refused");
    assert_eq!(found[0].place, Some(Place { line: 2, column: 1 }));
}

#[test]
fn unquoted_scalars_become_json_as_the_core_schema_has_it() {
    let root = parse(b"[true, 'true', 12, 1.5, 2026-01-02, ~, inf, text]").expect("valid");
    let expected = serde_json::json!([true, "true", 12, 1.5, "2026-01-02", null, "inf", "text"]);
    assert_eq!(root.to_json(), expected);
}

#[test]
fn an_empty_file_is_an_empty_map() {
    for text in ["", "# only a comment\n", "---\n"] {
        assert!(matches!(parse(text.as_bytes()).expect("valid").value, Value::Map(entries) if entries.is_empty()));
    }
}

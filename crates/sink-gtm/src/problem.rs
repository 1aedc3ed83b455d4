//! What the destination says is wrong with a request, in either of its two published shapes.
//!
//! `{errors: [{code, title, detail, source: {pointer}}]}` and `{error: {code, message}}` are both understood;
//! anything else is no problem at all, only a status. Texts are taken over only as far as [`Echo`] finds that they
//! do not repeat a value.

use convoke_core::sink::{Problem, Refusal};
use serde_json::Value;

use crate::echo::Echo;

/// More problems than this are not looked at; a request has no more rows.
const PROBLEM_LIMIT: usize = 1000;

/// Longest code that is taken for one.
const CODE_LIMIT: usize = 64;

/// Stands where the destination gave no usable code.
const NO_CODE: &str = "unspecified";

/// Member names that a pointer into one of our requests can hold; others could repeat anything.
const POINTER_NAMES: [&str; 7] = ["data", "attributes", "values", "value", "columnId", "id", "type"];

/// One error object, as the destination sent it. Not to be shown before [`Echo`] has seen it.
#[derive(Default)]
pub(crate) struct RawProblem {
    code: String,
    title: Option<String>,
    detail: Option<String>,
    pointer: Option<String>,
}

/// How a request's rows and cells are counted, to read pointers.
pub(crate) struct RowShape<'a> {
    pub(crate) row_count: usize,
    /// Column names in the order of a row's cells.
    pub(crate) columns: Vec<&'a str>,
}

/// Reads either shape.
pub(crate) fn parse(body: &[u8]) -> Vec<RawProblem> {
    let Ok(document) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    if let Some(errors) = document.get("errors").and_then(Value::as_array).filter(|errors| !errors.is_empty()) {
        return errors.iter().take(PROBLEM_LIMIT).map(read_object).collect();
    }
    match document.get("error") {
        Some(error) if error.is_object() => vec![read_object(error)],
        Some(Value::String(code)) => vec![RawProblem { code: clean_code(Some(code)), ..RawProblem::default() }],
        _ if document.get("title").is_some() || document.get("detail").is_some() => vec![read_object(&document)],
        _ => Vec::new(),
    }
}

/// The problems of a refused write of rows.
pub(crate) fn refusal(body: &[u8], too_large: bool, shape: &RowShape<'_>, echo: &Echo) -> Refusal {
    let problems = parse(body).into_iter().map(|raw| raw.into_problem(shape, echo)).collect();
    Refusal { too_large, problems }
}

/// The codes and titles, for a message about a request that holds no records: `: PFAPI0003 invalid body`.
pub(crate) fn describe(problems: &[RawProblem]) -> String {
    listed(problems, |problem| {
        let title = problem.title.as_deref().and_then(|title| Echo::default().clean_title(title));
        title.map_or_else(|| problem.code.clone(), |title| format!("{} {title}", problem.code))
    })
}

/// The codes alone, for a message about a request that may hold records.
pub(crate) fn describe_codes(problems: &[RawProblem]) -> String {
    listed(problems, |problem| problem.code.clone())
}

fn listed(problems: &[RawProblem], text: impl Fn(&RawProblem) -> String) -> String {
    let mut texts: Vec<String> = problems.iter().map(text).collect();
    texts.dedup();
    texts.truncate(3);
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join("; ")) }
}

fn read_object(object: &Value) -> RawProblem {
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    RawProblem {
        code: clean_code(object.get("code").and_then(Value::as_str)),
        title: text("title"),
        // The second shape calls it `message`.
        detail: text("detail").or_else(|| text("message")),
        pointer: object.pointer("/source/pointer").and_then(Value::as_str).map(str::to_owned),
    }
}

fn clean_code(code: Option<&str>) -> String {
    let is_code = |code: &&str| {
        let is_code_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        !code.is_empty() && code.len() <= CODE_LIMIT && code.bytes().all(is_code_byte)
    };
    code.filter(is_code).unwrap_or(NO_CODE).to_owned()
}

impl RawProblem {
    fn into_problem(self, shape: &RowShape<'_>, echo: &Echo) -> Problem {
        let steps: Vec<&str> = self.pointer.as_deref().unwrap_or_default().split('/').skip(1).collect();
        let index = row_index(&steps).filter(|index| *index < shape.row_count);
        let column = index.and_then(|_| cell_index(&steps)).and_then(|cell| shape.columns.get(cell));
        let place = if index.is_none() { safe_pointer(&steps) } else { None };
        let title = self.title.as_deref().and_then(|title| echo.clean_title(title));
        let detail = self.detail.as_deref().and_then(|detail| echo.clean_detail(detail));
        let text = match (title, detail) {
            (Some(title), Some(detail)) if title != detail => format!("{title}: {detail}"),
            (Some(text), _) | (None, Some(text)) => text,
            (None, None) => "the destination gives no reason that can be shown".to_owned(),
        };
        let detail = place.map_or_else(|| text.clone(), |place| format!("{text} (at {place})"));
        Problem { index, column: column.map(|&name| name.to_owned()), code: self.code, detail }
    }
}

/// The 17 of `/data/17/…`.
fn row_index(steps: &[&str]) -> Option<usize> {
    match steps {
        ["data", index, ..] => index.parse().ok(),
        _ => None,
    }
}

/// The 2 of `/data/17/attributes/values/2/…`.
fn cell_index(steps: &[&str]) -> Option<usize> {
    match steps {
        ["data", _, "attributes", "values", index, ..] => index.parse().ok(),
        _ => None,
    }
}

fn safe_pointer(steps: &[&str]) -> Option<String> {
    let is_index = |step: &str| !step.is_empty() && step.len() <= 4 && step.bytes().all(|byte| byte.is_ascii_digit());
    let is_safe = steps.iter().all(|step| POINTER_NAMES.contains(step) || is_index(step));
    (is_safe && !steps.is_empty()).then(|| format!("/{}", steps.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> RowShape<'static> {
        RowShape { row_count: 20, columns: vec!["Name", "Phone", "Email", "convoke_key"] }
    }

    fn problems(body: &str) -> Vec<Problem> {
        refusal(body.as_bytes(), false, &shape(), &Echo::default()).problems
    }

    #[test]
    fn a_pointer_into_a_cell_names_row_and_column() {
        let body = r#"{"title":"Bad Request","errors":[{"id":"1","code":"PFAPI0008","status":"400","title":"Invalid value",
            "source":{"pointer":"/data/17/attributes/values/2/value"}}]}"#;
        let expected = Problem {
            index: Some(17),
            column: Some("Email".to_owned()),
            code: "PFAPI0008".to_owned(),
            detail: "Invalid value".to_owned(),
        };
        assert_eq!(problems(body), [expected]);
    }

    #[test]
    fn a_pointer_to_a_row_names_the_row_and_one_beyond_the_request_names_none() {
        let body = r#"{"errors":[{"code":"A","source":{"pointer":"/data/3/id"}},
            {"code":"B","source":{"pointer":"/data/20/id"}},
            {"code":"C","source":{"pointer":"/data/4/attributes/values/9/value"}},
            {"code":"D","source":{"pointer":"/data/bob@example.org"}}]}"#;
        let found = problems(body);
        let places: Vec<_> = found.iter().map(|problem| (problem.index, problem.column.clone())).collect();
        assert_eq!(places, [(Some(3), None), (None, None), (Some(4), None), (None, None)]);
        assert!(found[1].detail.ends_with("(at /data/20/id)"), "{}", found[1].detail);
        assert!(!found[3].detail.contains("bob"), "{}", found[3].detail);
    }

    #[test]
    fn the_second_shape_gives_code_and_message() {
        let body = r#"{"error":{"code":"PFAPI0003","message":"Unknown field","status":400,"requestId":"r","retryable":false}}"#;
        let found = problems(body);
        assert_eq!((found[0].code.as_str(), found[0].detail.as_str()), ("PFAPI0003", "Unknown field"));
    }

    #[test]
    fn odd_bodies_give_no_problem_and_odd_members_are_left_out() {
        for body in ["", "<html>oops</html>", "[]", "{}", r#"{"errors":[]}"#, r#"{"errors":7}"#] {
            assert!(problems(body).is_empty(), "{body}");
        }
        let found = problems(r#"{"errors":[{"code":7,"title":["x"],"source":"y"},"text"]}"#);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|problem| problem.code == NO_CODE && problem.index.is_none()));
        assert_eq!(problems(r#"{"errors":[{"code":"bob@example.org"}]}"#)[0].code, NO_CODE);
    }

    #[test]
    fn messages_list_few_codes_and_titles() {
        let raw = parse(
            br#"{"errors":[{"code":"A","title":"Wrong name"},{"code":"B"},{"code":"B"},{"code":"C"},{"code":"D"}]}"#,
        );
        assert_eq!(describe(&raw), ": A Wrong name; B; C");
        assert_eq!(describe_codes(&raw), ": A; B; C");
        assert_eq!(describe(&[]), "");
    }
}

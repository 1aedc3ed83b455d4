//! The DataFusion dialect: a self-contained predicate over source columns, literals quoted within.

use chrono::NaiveDate;
use convoke_core::rule::{Condition, Literal, Operator, Rule};

use super::{any_of, group};
use crate::semantics::{DayRange, FALSE_TEXTS, SEPARATORS, TRUE_TEXTS, day_range, folded_texts, numbers, opposite};
use crate::{ColumnKind, Columns, RuleError, validate};

/// Compiles a rule into a predicate over source columns that is true or false, never NULL.
///
/// The functions it calls are stock: `translate`, `contains`, `starts_with`, `regexp_like`, `btrim`, `coalesce`.
///
/// # Errors
///
/// Everything in which the rule does not fit the columns.
pub fn datafusion(rule: &Rule, columns: &dyn Columns, today: NaiveDate) -> Result<String, RuleError> {
    let valid = validate(rule, columns).map_err(|problems| RuleError { problems })?;
    let predicate = group(&valid, &mut |condition| {
        let kind = columns.kind(&condition.column).unwrap_or(ColumnKind::Unfilterable);
        compile(condition, kind, today)
    });
    Ok(format!("coalesce({predicate}, FALSE)"))
}

/// One column in this dialect.
struct Column {
    sql: String,
    kind: ColumnKind,
}

fn compile(condition: &Condition, kind: ColumnKind, today: NaiveDate) -> String {
    let column = Column { sql: identifier(&condition.column), kind };
    match opposite(condition.operator) {
        Some(Operator::Empty) => format!("NOT {}", column.is_empty()),
        Some(positive) => {
            format!("NOT coalesce({}, FALSE)", column.positive(positive, &condition.values, today))
        }
        None => column.positive(condition.operator, &condition.values, today),
    }
}

impl Column {
    /// True if a non-empty cell satisfies the operator; NULL or false otherwise.
    fn positive(&self, operator: Operator, values: &[Literal], today: NaiveDate) -> String {
        if let Some(range) = day_range(operator, values, today) {
            return self.within_days(&range);
        }
        match operator {
            Operator::Empty => self.is_empty(),
            Operator::Equals => self.equals(values),
            Operator::Contains => self.calls("contains", values),
            Operator::StartsWith => self.calls("starts_with", values),
            Operator::ContainsWord => self.contains_word(values),
            Operator::IsTrue => self.is(true),
            Operator::IsFalse => self.is(false),
            _ => self.compares(operator, &numbers(values)),
        }
    }

    fn is_empty(&self) -> String {
        match self.kind {
            ColumnKind::Untyped => format!("({0} IS NULL OR {0} = '')", self.sql),
            _ => format!("({} IS NULL)", self.sql),
        }
    }

    fn equals(&self, values: &[Literal]) -> String {
        let texts = folded_texts(values);
        let wanted_numbers: Vec<String> = numbers(values).into_iter().map(number_literal).collect();
        let mut alternatives = Vec::new();
        if !texts.is_empty() {
            alternatives.push(format!("{} IN ({})", self.folded(&texts), text_literals(&texts)));
        }
        if !wanted_numbers.is_empty() {
            alternatives.push(format!("{} IN ({})", self.number(), wanted_numbers.join(", ")));
        }
        any_of(&alternatives)
    }

    fn calls(&self, function: &str, values: &[Literal]) -> String {
        let texts = folded_texts(values);
        let column = self.folded(&texts);
        let calls: Vec<String> =
            texts.iter().map(|text| format!("{function}({column}, {})", text_literal(text))).collect();
        any_of(&calls)
    }

    fn contains_word(&self, values: &[Literal]) -> String {
        let texts = folded_texts(values);
        let column = self.folded(&texts);
        let words: Vec<String> = texts.iter().map(|text| escape_pattern(text)).collect();
        let bound = format!("[{}]", escape_pattern(SEPARATORS));
        // `\A` and `\z` rather than `^` and `$`: a cell may have several lines.
        let pattern = format!("(\\A|{bound})({})(\\z|{bound})", words.join("|"));
        format!("regexp_like({column}, {})", text_literal(&pattern))
    }

    fn is(&self, wanted: bool) -> String {
        match (self.kind, wanted) {
            (ColumnKind::Boolean, true) => self.sql.clone(),
            (ColumnKind::Boolean, false) => format!("(NOT {})", self.sql),
            (_, true) => self.is_one_of(TRUE_TEXTS),
            (_, false) => self.is_one_of(FALSE_TEXTS),
        }
    }

    fn is_one_of(&self, texts: &[&str]) -> String {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        format!("{} IN ({})", self.folded(&texts), text_literals(&texts))
    }

    fn compares(&self, operator: Operator, values: &[f64]) -> String {
        let number = self.number();
        // NaN and infinity stand above and below every finite number; neither counts as a number in a rule.
        let (least, most) = (number_literal(f64::MIN), number_literal(f64::MAX));
        let literals: Vec<String> = values.iter().copied().map(number_literal).collect();
        match (operator, literals.as_slice()) {
            (Operator::GreaterThan, [limit]) => format!("({number} > {limit} AND {number} <= {most})"),
            (Operator::LessThan, [limit]) => format!("({number} < {limit} AND {number} >= {least})"),
            (Operator::GreaterThanOrEqual, [limit]) => format!("({number} BETWEEN {limit} AND {most})"),
            (Operator::LessThanOrEqual, [limit]) => format!("({number} BETWEEN {least} AND {limit})"),
            (Operator::InRange, [first, last]) => format!("({number} BETWEEN {first} AND {last})"),
            // Lists have no operators here: `ColumnKind::of_source` makes no list columns.
            _ => "FALSE".to_owned(),
        }
    }

    fn within_days(&self, range: &DayRange) -> String {
        let text = self.text();
        let day = format!("substr({text}, 1, 10)");
        let mut parts = vec![format!("regexp_like({text}, '\\A[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}([T ]|\\z)')")];
        parts.extend(range.first.iter().map(|first| format!("{day} >= {}", text_literal(first))));
        parts.extend(range.last.iter().map(|last| format!("{day} <= {}", text_literal(last))));
        format!("({})", parts.join(" AND "))
    }

    fn text(&self) -> String {
        match self.kind {
            ColumnKind::Untyped => self.sql.clone(),
            _ => format!("CAST({} AS VARCHAR)", self.sql),
        }
    }

    /// The column as it is compared with folded texts. Where no text has a letter, folding would change nothing.
    fn folded(&self, texts: &[String]) -> String {
        let text = self.text();
        if !texts.iter().any(|text| text.bytes().any(|byte| byte.is_ascii_lowercase())) {
            return text;
        }
        format!("translate({text}, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')")
    }

    fn number(&self) -> String {
        match self.kind {
            ColumnKind::Untyped => format!("TRY_CAST(btrim({}) AS DOUBLE)", self.sql),
            _ => format!("CAST({} AS DOUBLE)", self.sql),
        }
    }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn text_literals(texts: &[String]) -> String {
    texts.iter().map(|text| text_literal(text)).collect::<Vec<_>>().join(", ")
}

/// Through text, because SQL reads `0.1` as a decimal and long digits as an error.
fn number_literal(number: f64) -> String {
    format!("CAST('{number:e}' AS DOUBLE)")
}

/// Escapes for a regular expression, inside and outside of a class.
fn escape_pattern(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() && !matches!(character, '<' | '>') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests;

//! The SQLite dialect: a predicate over audience columns, every value a bound parameter.

use chrono::NaiveDate;
use convoke_core::DataType;
use convoke_core::rule::{Condition, Literal, Operator, Rule};

use super::{any_of, group};
use crate::semantics::{DayRange, SEPARATORS, as_number, as_text, day_range, fold, folded_texts, numbers, opposite};
use crate::{ColumnKind, Columns, RuleError, validate};

/// How SQLite gets at the cells of a column.
#[derive(Clone, Debug)]
pub struct ColumnAccess {
    /// An expression for the cell: text; a number; 1, 0, `true` or `false`; a JSON array as text; NULL if blank.
    /// Columns in it are qualified by their table, because the predicate may put it inside a subquery.
    ///
    /// Text is compared as `lower(<sql>) IN (…)`, so an index on that expression serves look-ups by key.
    pub sql: String,
    pub data_type: DataType,
}

/// A value to bind to a placeholder.
#[derive(Clone, Debug, PartialEq)]
pub enum Bind {
    Text(String),
    Number(f64),
}

/// Compiles a rule into a predicate with `?` placeholders and the values to bind to them, in order.
///
/// The predicate may be NULL where it is not true; `WHERE` takes that for false, `NOT` does not.
///
/// # Errors
///
/// Everything in which the rule does not fit the columns.
pub fn sqlite(
    rule: &Rule,
    columns: &dyn Fn(&str) -> Option<ColumnAccess>,
    today: NaiveDate,
) -> Result<(String, Vec<Bind>), RuleError> {
    let valid = validate(rule, &Accesses(columns)).map_err(|problems| RuleError { problems })?;
    let mut binds = Vec::new();
    let predicate = group(&valid, &mut |condition| match columns(&condition.column) {
        Some(access) => Compiler::new(&access, &mut binds).condition(condition, today),
        None => "FALSE".to_owned(),
    });
    Ok((predicate, binds))
}

struct Accesses<'a>(&'a dyn Fn(&str) -> Option<ColumnAccess>);

impl Columns for Accesses<'_> {
    fn kind(&self, column: &str) -> Option<ColumnKind> {
        (self.0)(column).map(|access| ColumnKind::of(access.data_type))
    }
}

struct Compiler<'a> {
    sql: &'a str,
    kind: ColumnKind,
    binds: &'a mut Vec<Bind>,
}

impl<'a> Compiler<'a> {
    fn new(access: &'a ColumnAccess, binds: &'a mut Vec<Bind>) -> Self {
        Self { sql: &access.sql, kind: ColumnKind::of(access.data_type), binds }
    }

    fn condition(&mut self, condition: &Condition, today: NaiveDate) -> String {
        match opposite(condition.operator) {
            Some(Operator::Empty) => format!("NOT {}", self.is_empty()),
            Some(positive) => format!("NOT coalesce({}, 0)", self.positive(positive, &condition.values, today)),
            None => self.positive(condition.operator, &condition.values, today),
        }
    }

    /// True if a non-empty cell satisfies the operator; NULL or false otherwise.
    fn positive(&mut self, operator: Operator, values: &[Literal], today: NaiveDate) -> String {
        if let Some(range) = day_range(operator, values, today) {
            return self.within_days(range);
        }
        match operator {
            Operator::Empty => self.is_empty(),
            Operator::Equals => self.equals(values),
            Operator::Contains => self.each_text(values, |sql| format!("instr(lower({sql}), ?) > 0")),
            Operator::StartsWith => self.each_text(values, |sql| format!("instr(lower({sql}), ?) = 1")),
            Operator::ContainsWord => self.contains_word(values),
            Operator::IsTrue => format!("({} IN (1, 'true'))", self.sql),
            Operator::IsFalse => format!("({} IN (0, 'false'))", self.sql),
            Operator::HasOneOf if self.kind == ColumnKind::Picklist => self.equals(values),
            Operator::HasOneOf => self.has_one_of(values),
            Operator::HasAllOf => self.has_all_of(values),
            _ => self.compares(operator, &numbers(values)),
        }
    }

    fn is_empty(&self) -> String {
        match self.kind {
            ColumnKind::TextList | ColumnKind::NumberList => format!("({0} IS NULL OR {0} IN ('', '[]'))", self.sql),
            _ => format!("({0} IS NULL OR {0} = '')", self.sql),
        }
    }

    fn equals(&mut self, values: &[Literal]) -> String {
        let placeholders = self.bind_all(values);
        match self.kind {
            ColumnKind::Number => format!("({} IN ({placeholders}))", self.number()),
            _ => format!("(lower({}) IN ({placeholders}))", self.sql),
        }
    }

    fn each_text(&mut self, values: &[Literal], test: fn(&str) -> String) -> String {
        let texts = folded_texts(values);
        let tests = vec![test(self.sql); texts.len()];
        self.binds.extend(texts.into_iter().map(Bind::Text));
        any_of(&tests)
    }

    fn contains_word(&mut self, values: &[Literal]) -> String {
        // A space at each end, so that the ends of the text bound words too.
        let test = format!("(' ' || lower({}) || ' ') GLOB ?", self.sql);
        let texts = folded_texts(values);
        let tests = vec![test; texts.len()];
        self.binds.extend(texts.iter().map(|text| Bind::Text(word_pattern(text))));
        any_of(&tests)
    }

    fn has_one_of(&mut self, values: &[Literal]) -> String {
        let placeholders = self.bind_all(values);
        let item = self.item();
        // The order of the tests matters: `json_each` refuses text that is not JSON, as an empty text is.
        let items = format!("json_each(nullif({}, ''))", self.sql);
        format!("EXISTS (SELECT 1 FROM {items} AS item WHERE {item} IN ({placeholders}))")
    }

    fn has_all_of(&mut self, values: &[Literal]) -> String {
        let each: Vec<String> = values.iter().map(|value| self.has_one_of(std::slice::from_ref(value))).collect();
        format!("({})", each.join(" AND "))
    }

    fn item(&self) -> &'static str {
        match self.kind {
            ColumnKind::NumberList => "CAST(item.value AS REAL)",
            _ => "lower(item.value)",
        }
    }

    fn compares(&mut self, operator: Operator, values: &[f64]) -> String {
        let number = self.number();
        self.binds.extend(values.iter().copied().map(Bind::Number));
        match operator {
            Operator::GreaterThan => format!("({number} > ?)"),
            Operator::LessThan => format!("({number} < ?)"),
            Operator::GreaterThanOrEqual => format!("({number} >= ?)"),
            Operator::LessThanOrEqual => format!("({number} <= ?)"),
            _ => format!("({number} BETWEEN ? AND ?)"),
        }
    }

    fn within_days(&mut self, range: DayRange) -> String {
        let day = format!("substr({}, 1, 10)", self.sql);
        let digits = "[0-9]";
        let form = format!("{0}{0}{0}{0}-{0}{0}-{0}{0}[T ]*", digits);
        let mut parts = vec![format!("({} || ' ') GLOB '{form}'", self.sql)];
        for (comparison, bound) in [(">=", range.first), ("<=", range.last)] {
            let Some(bound) = bound else { continue };
            parts.push(format!("{day} {comparison} ?"));
            self.binds.push(Bind::Text(bound));
        }
        format!("({})", parts.join(" AND "))
    }

    fn number(&self) -> String {
        format!("CAST(nullif({}, '') AS REAL)", self.sql)
    }

    fn bind_all(&mut self, values: &[Literal]) -> String {
        self.binds.extend(values.iter().filter_map(as_bind));
        vec!["?"; values.len()].join(", ")
    }
}

fn as_bind(literal: &Literal) -> Option<Bind> {
    let text = as_text(literal).map(|text| Bind::Text(fold(text)));
    text.or_else(|| as_number(literal).map(Bind::Number))
}

/// A `GLOB` pattern that finds `word` between two separators.
fn word_pattern(word: &str) -> String {
    // `]` stands first and `-` last: anywhere else they would end the class or form a range.
    let others: String = SEPARATORS.chars().filter(|separator| !matches!(separator, ']' | '-' | '^')).collect();
    let bound = format!("[]{others}^-]");
    let mut escaped = String::with_capacity(word.len());
    for character in word.chars() {
        match character {
            '*' | '?' | '[' => escaped.extend(['[', character, ']']),
            _ => escaped.push(character),
        }
    }
    format!("*{bound}{escaped}{bound}*")
}

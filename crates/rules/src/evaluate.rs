//! The naive reading of a rule: the measure of the compilers, and the way to judge a single record.

use chrono::NaiveDate;
use convoke_core::rule::{Condition, Literal, Operator, Rule};

use crate::semantics::{
    FALSE_TEXTS, SEPARATORS, TRUE_TEXTS, as_number, as_text, day_of, day_range, fold, folded_texts, number_of, numbers,
    opposite,
};

/// One cell, as the evaluator sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Text(String),
    Number(f64),
    Boolean(bool),
    TextList(Vec<String>),
    NumberList(Vec<f64>),
}

/// Tells whether a record satisfies a rule that [`validate`](crate::validate()) has given back.
pub fn evaluate(rule: &Rule, cells: &dyn Fn(&str) -> Cell, today: NaiveDate) -> bool {
    match rule {
        Rule::All(parts) => parts.iter().all(|part| evaluate(part, cells, today)),
        Rule::Any(parts) => parts.iter().any(|part| evaluate(part, cells, today)),
        Rule::Condition(condition) => holds(condition, &cells(&condition.column), today),
    }
}

fn holds(condition: &Condition, cell: &Cell, today: NaiveDate) -> bool {
    match opposite(condition.operator) {
        Some(positive) => !satisfies(positive, &condition.values, cell, today),
        None => satisfies(condition.operator, &condition.values, cell, today),
    }
}

fn satisfies(operator: Operator, values: &[Literal], cell: &Cell, today: NaiveDate) -> bool {
    if operator == Operator::Empty {
        return is_empty(cell);
    }
    if is_empty(cell) {
        return false;
    }
    if let Some(range) = day_range(operator, values, today) {
        let Cell::Text(text) = cell else { return false };
        let Some(day) = day_of(text) else { return false };
        return range.first.is_none_or(|first| *day >= *first) && range.last.is_none_or(|last| *day <= *last);
    }
    match operator {
        Operator::Equals => values.iter().any(|value| equals(cell, value)),
        Operator::HasOneOf => values.iter().any(|value| has(cell, value)),
        Operator::HasAllOf => values.iter().all(|value| has(cell, value)),
        Operator::IsTrue => truth(cell) == Some(true),
        Operator::IsFalse => truth(cell) == Some(false),
        Operator::Contains | Operator::ContainsWord | Operator::StartsWith => matches_text(operator, values, cell),
        _ => number_in(cell).is_some_and(|number| compares(operator, number, &numbers(values))),
    }
}

fn is_empty(cell: &Cell) -> bool {
    match cell {
        Cell::Null => true,
        Cell::Text(text) => text.is_empty(),
        Cell::TextList(items) => items.is_empty(),
        Cell::NumberList(items) => items.is_empty(),
        Cell::Number(_) | Cell::Boolean(_) => false,
    }
}

fn equals(cell: &Cell, value: &Literal) -> bool {
    match (cell, value) {
        (Cell::Text(text), Literal::Text(wanted)) => fold(text) == fold(wanted),
        (_, Literal::Number(wanted)) => number_in(cell) == Some(*wanted),
        _ => false,
    }
}

fn has(cell: &Cell, value: &Literal) -> bool {
    match cell {
        Cell::TextList(items) => {
            as_text(value).is_some_and(|wanted| items.iter().any(|item| fold(item) == fold(wanted)))
        }
        Cell::NumberList(items) => as_number(value).is_some_and(|wanted| items.contains(&wanted)),
        _ => equals(cell, value),
    }
}

fn truth(cell: &Cell) -> Option<bool> {
    match cell {
        Cell::Boolean(value) => Some(*value),
        Cell::Text(text) if TRUE_TEXTS.contains(&fold(text).as_str()) => Some(true),
        Cell::Text(text) if FALSE_TEXTS.contains(&fold(text).as_str()) => Some(false),
        _ => None,
    }
}

fn number_in(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Number(number) => Some(*number).filter(|number| number.is_finite()),
        Cell::Text(text) => number_of(text),
        _ => None,
    }
}

fn compares(operator: Operator, number: f64, values: &[f64]) -> bool {
    match (operator, values) {
        (Operator::GreaterThan, [limit]) => number > *limit,
        (Operator::LessThan, [limit]) => number < *limit,
        (Operator::GreaterThanOrEqual, [limit]) => number >= *limit,
        (Operator::LessThanOrEqual, [limit]) => number <= *limit,
        (Operator::InRange, [first, last]) => number >= *first && number <= *last,
        _ => false,
    }
}

fn matches_text(operator: Operator, values: &[Literal], cell: &Cell) -> bool {
    let Cell::Text(text) = cell else { return false };
    let text = fold(text);
    folded_texts(values).iter().any(|wanted| match operator {
        Operator::Contains => text.contains(wanted),
        Operator::StartsWith => text.starts_with(wanted),
        _ => contains_word(&text, wanted),
    })
}

fn contains_word(text: &str, word: &str) -> bool {
    let is_bound = |neighbour: Option<char>| neighbour.is_none_or(|character| SEPARATORS.contains(character));
    // `match_indices` skips matches that overlap an earlier one, and one of those may be the whole word.
    text.char_indices().filter(|(start, _)| text[*start..].starts_with(word)).any(|(start, _)| {
        is_bound(text[..start].chars().next_back()) && is_bound(text[start + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operator: Operator, values: &[Literal], cell: Cell) -> bool {
        let rule = Rule::Condition(Condition { column: "c".into(), operator, values: values.to_vec() });
        let today = NaiveDate::from_ymd_opt(2026, 11, 20).unwrap();
        evaluate(&rule, &|_| cell.clone(), today)
    }

    fn text(text: &str) -> Literal {
        Literal::Text(text.into())
    }

    #[test]
    fn an_empty_cell_satisfies_empty_and_the_negative_operators_only() {
        let values = [text("2026-01-01"), text("2026-01-02")];
        for &operator in Operator::ALL {
            let expected =
                operator == Operator::Empty || (opposite(operator).is_some() && operator != Operator::NotEmpty);
            for cell in [Cell::Null, Cell::Text(String::new()), Cell::TextList(vec![]), Cell::NumberList(vec![])] {
                assert_eq!(check(operator, &values, cell.clone()), expected, "{operator:?} on {cell:?}");
            }
        }
    }

    #[test]
    fn several_values_mean_any_of_or_none_of_them() {
        let both = [text("de"), text("FR")];
        assert!(check(Operator::Equals, &both, Cell::Text("fr".into())));
        assert!(!check(Operator::NotEquals, &both, Cell::Text("DE".into())));
        assert!(check(Operator::NotEquals, &both, Cell::Text("GB".into())));
    }

    #[test]
    fn words_are_bounded_by_ends_spaces_and_punctuation() {
        let has_word = |cell: &str, word: &str| check(Operator::ContainsWord, &[text(word)], Cell::Text(cell.into()));
        assert!(has_word("VP, Sales", "vp"));
        assert!(has_word("vp", "VP"));
        assert!(has_word("a-a-a", "a-a"));
        assert!(has_word("new york city", "New York"));
        assert!(has_word("aaa aa", "aa"));
        assert!(!has_word("SVP Sales", "vp"));
        assert!(!has_word("für", "f"));
    }

    #[test]
    fn a_number_in_the_rule_compares_numbers() {
        let ten = [Literal::Number(10.0)];
        assert!(check(Operator::Equals, &ten, Cell::Text("10.00".into())));
        assert!(check(Operator::NotEquals, &ten, Cell::Text("ten".into())));
        assert!(!check(Operator::GreaterThan, &ten, Cell::Text("NaN".into())));
    }
}

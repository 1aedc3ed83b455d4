//! Columns whose names are words of SQL, and mean those unless they are quoted.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// The SQL with quotes around those of these columns whose names are words of SQL as well; none if there are no such.
pub(crate) fn quoting_columns<'a>(sql: &str, columns: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).with_unescape(false).tokenize().ok()?;
    let mut is_changed = false;
    let quoted = tokens.into_iter().map(|token| match token {
        Token::Word(mut word)
            if word.quote_style.is_none()
                && word.keyword != Keyword::NoKeyword
                && columns.clone().any(|column| column == word.value) =>
        {
            is_changed = true;
            word.quote_style = Some('"');
            Token::Word(word).to_string()
        }
        other => other.to_string(),
    });
    let quoted: String = quoted.collect();
    is_changed.then_some(quoted)
}

#[cfg(test)]
mod tests {
    use super::quoting_columns;

    #[test]
    fn only_words_of_sql_that_are_columns_are_quoted() {
        let quoting = |sql| quoting_columns(sql, ["user", "order", "email"].into_iter());
        assert_eq!(quoting("lower( user.email)").as_deref(), Some("lower( \"user\".email)"));
        assert_eq!(quoting("order || 'it''s' || user").as_deref(), Some("\"order\" || 'it''s' || \"user\""));
        for sql in ["lower(\"user\".email)", "email", "'user'", "group", "lower('", ""] {
            assert_eq!(quoting(sql), None, "{sql}");
        }
    }
}

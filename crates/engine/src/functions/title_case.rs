//! `title_case`: names with capitals.

/// Particles of names that stay small when they are written small between words that are not: van den Berg.
const PARTICLES: &[&str] =
    &["van", "von", "de", "den", "der", "del", "della", "di", "da", "du", "la", "le", "zu", "ten", "ter", "y"];

/// Capitalises each word that is written in one case; words of mixed case, as McDonald, are left alone.
///
/// A word ends at white space or a hyphen. After an apostrophe that follows a single letter another capital comes:
/// O'Brien, D'Arcy.
pub(super) fn convert(text: &str) -> Option<String> {
    let mut result = String::with_capacity(text.len());
    let mut word = String::new();
    let has_capitals = text.chars().any(char::is_uppercase);
    for character in text.chars() {
        if character.is_whitespace() || matches!(character, '-' | '‐' | '–') {
            push_word(&mut result, &word, has_capitals);
            word.clear();
            result.push(character);
        } else {
            word.push(character);
        }
    }
    push_word(&mut result, &word, has_capitals);
    Some(result)
}

fn push_word(result: &mut String, word: &str, among_capitals: bool) {
    let is_mixed = word.chars().any(char::is_lowercase) && word.chars().any(char::is_uppercase);
    if is_mixed || (among_capitals && PARTICLES.contains(&word)) {
        result.push_str(word);
        return;
    }
    let mut capital_next = true;
    for (index, character) in word.chars().enumerate() {
        if capital_next && character.is_alphabetic() {
            result.extend(character.to_uppercase());
            capital_next = false;
        } else {
            result.extend(character.to_lowercase());
        }
        if index == 1 && matches!(character, '\'' | '’') {
            capital_next = true;
        }
    }
}

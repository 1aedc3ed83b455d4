//! Text, addresses and links.

use std::borrow::Cow;

use email_address::{EmailAddress, Options};
use url::Url;

use super::{CellRefusal, refusal};

/// What a TEXT column of the destination holds: fewer than 2,000 characters.
const TEXT_CHARACTERS: usize = 1_999;
/// Longest address that mail servers carry (RFC 5321, 4.5.3.1.3 less the angle brackets).
const EMAIL_BYTES: usize = 254;
/// Longest part before the `@` (RFC 5321, 4.5.3.1.1).
const LOCAL_BYTES: usize = 64;
/// Longest part between two dots of a domain (RFC 1035, 2.3.4).
const LABEL_BYTES: usize = 63;
/// Shortest short code to longest international number with extension.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 5..=20;

pub(super) fn short(text: &str) -> Result<Cow<'_, str>, CellRefusal> {
    if text.len() > TEXT_CHARACTERS && text.chars().nth(TEXT_CHARACTERS).is_some() {
        return Err(refusal("text_too_long", "it has 2,000 characters or more; use LARGE_TEXT, or cut it"));
    }
    any(text)
}

/// Any text but one with the character that ends texts in C, and which databases do not hold.
pub(super) fn any(text: &str) -> Result<Cow<'_, str>, CellRefusal> {
    if text.as_bytes().contains(&0) {
        return Err(refusal("nul_character", "it holds the character U+0000, which no destination takes"));
    }
    Ok(Cow::Borrowed(text))
}

pub(super) fn email(text: &str) -> Result<Cow<'_, str>, CellRefusal> {
    if is_email(text) { Ok(Cow::Borrowed(text)) } else { Err(refusal("invalid_email", "it is no e-mail address")) }
}

/// Whether the text is a bare address with a domain of at least two labels.
pub(crate) fn is_email(text: &str) -> bool {
    is_plain_email(text) || is_any_email(text)
}

/// Whether the text is an address as nearly all are, told by one look at its bytes.
fn is_plain_email(text: &str) -> bool {
    let is_word = |part: &[u8]| {
        !part.is_empty() && part.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-'))
    };
    let is_label = |part: &[u8]| {
        (1..=LABEL_BYTES).contains(&part.len())
            && part.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && part[0] != b'-'
            && part[part.len() - 1] != b'-'
    };
    let bytes = text.as_bytes();
    let Some(at) = bytes.iter().position(|byte| *byte == b'@') else { return false };
    let (local, domain) = (&bytes[..at], &bytes[at + 1..]);
    bytes.len() <= EMAIL_BYTES
        && local.len() <= LOCAL_BYTES
        && local.split(|byte| *byte == b'.').all(is_word)
        && domain.contains(&b'.')
        && domain.split(|byte| *byte == b'.').all(is_label)
}

fn is_any_email(text: &str) -> bool {
    let options = Options::default().with_required_tld().without_display_text().without_domain_literal();
    text.len() <= EMAIL_BYTES && EmailAddress::parse_with_options(text, options).is_ok()
}

pub(super) fn phone(text: &str) -> Result<Cow<'_, str>, CellRefusal> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let fits = |(index, character): (usize, char)| match character {
        '+' => index == 0,
        '0'..='9' | ' ' | '-' | '.' | '(' | ')' | '/' => true,
        _ => false,
    };
    if PHONE_DIGITS.contains(&digits) && text.char_indices().all(fits) {
        return Ok(Cow::Borrowed(text));
    }
    Err(refusal("invalid_phone", "it is not 5 to 20 digits with the usual separators and at most a leading +"))
}

pub(super) fn url(text: &str) -> Result<Cow<'_, str>, CellRefusal> {
    let is_web = |url: Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if Url::parse(text).is_ok_and(is_web) {
        return any(text);
    }
    Err(refusal("invalid_url", "it is no http or https address"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_plainly_an_address_is_one_by_all_the_rules(
            text in "[a-zA-Z0-9._+-]{0,66}@[a-zA-Z0-9-]{0,64}(\\.[a-zA-Z0-9-]{0,9}){0,3}",
        ) {
            prop_assert!(!is_plain_email(&text) || is_any_email(&text));
        }
    }

    #[test]
    fn ordinary_addresses_are_plain_and_others_are_left_to_the_rules() {
        assert!(is_plain_email("ada.love-lace+x_1@mail.example.org"));
        for other in ["", "@", "a@b", "a@b.", "@b.c", ".a@b.c", "a..b@c.d", "a@-b.c", "a b@c.d", "\"a\"@b.c", "a@b@c.d"]
        {
            assert!(!is_plain_email(other), "{other}");
        }
    }
}

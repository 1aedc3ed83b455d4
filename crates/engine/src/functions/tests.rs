//! What each function makes of tidy and of untidy text.

use super::{domain, normalize_email, normalize_phone, sha256_hex, title_case};

fn check(function: impl Fn(&str) -> Option<String>, table: &[(&str, Option<&str>)]) {
    for (text, expected) in table {
        assert_eq!(function(text).as_deref(), *expected, "{text:?}");
    }
}

#[test]
fn addresses_are_trimmed_and_lower_cased() {
    check(
        normalize_email,
        &[
            (" Ada@Example.COM ", Some("ada@example.com")),
            ("MailTo:ada@example.com", Some("ada@example.com")),
            ("  ", None),
            ("mailto:", None),
            ("Ada", Some("ada")),
            ("ЙЙЙЙ", Some("йййй")),
        ],
    );
}

#[test]
fn numbers_take_their_international_form() {
    let table = [
        ("030 901820", "DE", Some("+4930901820")),
        ("+49 30 901820", "US", Some("+4930901820")),
        ("(212) 736-5000", "us", Some("+12127365000")),
        ("12", "DE", None),
        ("no number", "DE", None),
        ("030 901820", "nowhere", None),
    ];
    for (text, region, expected) in table {
        assert_eq!(normalize_phone(text, region).as_deref(), expected, "{text:?} {region}");
    }
}

#[test]
fn domains_are_found_in_links_hosts_and_addresses() {
    check(
        domain::normalize,
        &[
            ("https://www.Example.com:8443/path?x=1", Some("example.com")),
            ("example.com/path", Some("example.com")),
            ("Ada@Mail.Example.com", Some("mail.example.com")),
            ("www.example.com.", Some("example.com")),
            ("www.com", Some("www.com")),
            ("bücher.de", Some("xn--bcher-kva.de")),
            ("localhost", None),
            ("127.0.0.1", None),
            ("not a domain", None),
            ("", None),
        ],
    );
}

#[test]
fn hashes_are_those_of_the_utf8_bytes() {
    check(
        sha256_hex,
        &[
            ("", Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")),
            ("abc", Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")),
        ],
    );
}

#[test]
fn names_get_capitals_and_mixed_case_is_left_alone() {
    check(
        title_case::convert,
        &[
            ("ada LOVELACE", Some("Ada Lovelace")),
            ("o'brien", Some("O'Brien")),
            ("McDonald", Some("McDonald")),
            ("anne-marie", Some("Anne-Marie")),
            ("élodie ÅNGSTRÖM", Some("Élodie Ångström")),
            ("john's", Some("John's")),
            ("Vera van den BERG", Some("Vera van den Berg")),
            ("vera van den berg", Some("Vera Van Den Berg")),
            ("", Some("")),
        ],
    );
}

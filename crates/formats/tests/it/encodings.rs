//! Text in encodings of all kinds, declared or not.

use convoke_formats::{CsvFormat, Delimiter, Encoding, FileFormat};
use proptest::prelude::*;

use crate::contents::{Contents, OneByOne, cells, digest};

fn format(encoding: &str) -> FileFormat {
    let encoding = Encoding::named(encoding).unwrap();
    FileFormat::Csv(CsvFormat { delimiter: Delimiter::Is(b','), encoding, ..CsvFormat::default() })
}

fn read(encoding: &str, bytes: &[u8]) -> Contents {
    let contents = Contents::of(&format(encoding), bytes);
    assert_eq!(Contents::of(&format(encoding), OneByOne(bytes)), contents, "it does not matter how the bytes arrive");
    contents
}

fn utf16le(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn utf16be(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Of letters that Latin-1 has, which are the same in Windows-1252.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect()
}

const TEXT: &str = "name,Straße\nZoë,1\n\"Ångström\n\",2\n";

#[test]
fn one_text_reads_alike_in_every_encoding_declared_and_detected() {
    let marked = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
    for (encoding, bytes) in [
        ("utf-8", TEXT.as_bytes().to_vec()),
        ("utf-8", marked(b"\xef\xbb\xbf", TEXT.as_bytes().to_vec())),
        ("utf-16le", utf16le(TEXT)),
        ("utf-16le", marked(b"\xff\xfe", utf16le(TEXT))),
        ("utf-16be", utf16be(TEXT)),
        ("utf-16be", marked(b"\xfe\xff", utf16be(TEXT))),
        ("windows-1252", latin1(TEXT)),
        ("latin1", latin1(TEXT)),
        ("ISO-8859-1", latin1(TEXT)),
    ] {
        for encoding in [encoding, "auto"] {
            let contents = read(encoding, &bytes);
            assert_eq!(contents.columns, ["name", "Straße"], "{encoding} {bytes:?}");
            assert_eq!(contents.records, [cells(&["Zoë", "1"]), cells(&["Ångström\n", "2"])], "{encoding}");
            assert_eq!(contents.positions, [2, 3], "{encoding}");
            assert_eq!((contents.fingerprint, contents.broken), (digest(&bytes), None), "{encoding}");
        }
    }
}

#[test]
fn any_encoding_of_the_web_can_be_declared() {
    for (encoding, text) in
        [("windows-1251", "имя,x\nОльга,1\n"), ("shift_jis", "名前,x\n日本,1\n"), ("gbk", "名,x\n中文,1\n")]
    {
        let (bytes, ..) = encoding_rs::Encoding::for_label(encoding.as_bytes()).unwrap().encode(text);
        let contents = read(encoding, &bytes);
        assert_eq!(contents.columns[0], text.split(',').next().unwrap());
        assert_eq!(contents.records.len(), 1, "{encoding}");
    }
    assert_eq!(Encoding::named("klingon"), None);
    assert_eq!(Encoding::named("replacement"), None);
    assert_eq!(Encoding::named("x-user-defined"), None);
    assert_eq!(Encoding::named(" AUTO "), Some(Encoding::Detected));
}

#[test]
fn what_an_encoding_cannot_express_makes_its_record_malformed() {
    let mut half_pair = utf16le("a,b\n1,2\n3,");
    half_pair.extend([0x00, 0xd8]);
    half_pair.extend(utf16le("\n5,6\n"));
    for (encoding, bytes, named) in [
        ("utf-8", b"a,b\n1,2\n3,\xff\n5,6\n".to_vec(), "UTF-8"),
        ("utf-16le", half_pair, "UTF-16LE"),
        ("windows-1252", b"a,b\n1,2\n3,\x81\n5,6\n".to_vec(), "windows-1252"),
        ("shift_jis", b"a,b\n1,2\n3,\xff\n5,6\n".to_vec(), "Shift_JIS"),
    ] {
        let contents = read(encoding, &bytes);
        assert_eq!(contents.records, [cells(&["1", "2"]), cells(&["5", "6"])], "{encoding}");
        assert_eq!(
            contents.told(),
            [(3, format!("bytes that are not {named}; is that the `encoding` of the file?").as_str())]
        );
    }
}

#[test]
fn a_mark_that_contradicts_what_is_declared_makes_the_file_broken() {
    let bytes = [b"\xef\xbb\xbf", TEXT.as_bytes()].concat();
    let reason = read("windows-1252", &bytes).broken.unwrap();
    assert!(reason.contains("`encoding` says windows-1252, and the byte order mark of the file UTF-8"), "{reason}");
}

#[test]
fn a_file_that_ends_within_a_character_is_broken() {
    let mut bytes = utf16le("a,b\n1,2\n3,4");
    bytes.pop();
    for encoding in ["utf-16le", "auto"] {
        assert!(read(encoding, &bytes).broken.unwrap().contains("middle of the record at line 3"));
    }
}

/// Records of ASCII that fill a file, as far as the first letter beyond it, longer than any look ahead.
fn long_ascii() -> (Vec<u8>, u64) {
    let records = 200_000;
    let mut bytes = b"a,b\n".to_vec();
    (0..records).for_each(|number| bytes.extend(format!("{number},plain\n").bytes()));
    (bytes, records + 1)
}

#[test]
fn letters_beyond_ascii_are_told_from_each_other_however_late_they_come() {
    let (ascii, lines) = long_ascii();
    for (letters, expected) in [(&b"Zo\xeb,1\n"[..], "Zoë"), ("Zoë,1\n".as_bytes(), "Zoë")] {
        let contents = Contents::of(&format("auto"), [&ascii, letters].concat().as_slice());
        assert_eq!(contents.records.last().unwrap()[0].as_deref(), Some(expected));
        assert_eq!(contents.positions.last(), Some(&(lines + 1)));
        assert_eq!(contents.malformed, []);
    }
}

#[test]
fn damage_in_utf_8_is_malformed_and_not_taken_for_another_encoding() {
    let (ascii, lines) = long_ascii();
    let bytes = [&ascii, "Zoë,1\n".as_bytes(), &ascii, b"Zo\xeb,2\nx,3\n"].concat();
    let contents = Contents::of(&format("auto"), bytes.as_slice());
    assert_eq!(contents.told(), [(2 * lines + 2, "bytes that are not UTF-8; is that the `encoding` of the file?")]);
    assert_eq!(contents.records.last().unwrap(), &cells(&["x", "3"]));
    let near =
        read("auto", "a,b\nZoë,1\nZo".as_bytes().iter().chain(b"\xeb,2\n").copied().collect::<Vec<_>>().as_slice());
    assert_eq!(near.told(), [(3, "bytes that are not UTF-8; is that the `encoding` of the file?")]);
}

#[test]
fn two_encodings_in_one_file_are_never_mixed() {
    let (ascii, lines) = long_ascii();
    let bytes = [&ascii, &b"Zo\xeb,1\n"[..], &ascii, "Zoë,2\n".as_bytes()].concat();
    let contents = Contents::of(&format("auto"), bytes.as_slice());
    let reason = contents.broken.unwrap();
    assert!(reason.contains(&format!("line {} holds text in UTF-8", 2 * lines + 2)), "{reason}");
    assert!(reason.contains("declare `encoding`"), "{reason}");
    let declared = Contents::of(&format("windows-1252"), bytes.as_slice());
    assert_eq!(declared.records.last().unwrap()[0].as_deref(), Some("ZoÃ«"), "as it was declared");
    assert_eq!(Contents::of(&format("utf-8"), bytes.as_slice()).malformed.len(), 1);
}

#[test]
fn bytes_that_windows_1252_does_not_know_are_not_taken_for_it() {
    assert_eq!(
        read("auto", b"a,b\n\x81\xeb,1\n").told(),
        [(2, "bytes that are not UTF-8; is that the `encoding` of the file?")]
    );
}

#[test]
fn utf_8_that_holds_a_zero_byte_is_not_taken_for_utf_16() {
    let contents = read("auto", b"a,b\n1,x\0y\n\0,2\n");
    assert_eq!(contents.records, [cells(&["1", "x\0y"]), cells(&["\0", "2"])]);
}

#[test]
fn utf_16_without_latin_letters_is_told_by_its_line_ends() {
    let text = "Имя;Город\nОльга;一一一\n";
    let format = FileFormat::Csv(CsvFormat { delimiter: Delimiter::Is(b';'), ..CsvFormat::default() });
    for bytes in [utf16le(text), utf16be(text)] {
        let contents = Contents::of(&format, bytes.as_slice());
        assert_eq!(contents.records, [cells(&["Ольга", "一一一"])]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn text_of_any_letters_comes_back_from_every_encoding_that_has_them(
        records in proptest::collection::vec(("[a-zäöüßé日本😀]{1,8}", "[a-z]{1,3}"), 1..20),
        late in 0..100_000_usize,
    ) {
        let mut text = "a,b\n".to_owned();
        text.extend((0..late / 10).map(|_| "x,plain...\n"));
        records.iter().for_each(|(one, other)| text.push_str(&format!("{one},{other}\n")));
        let expected: Vec<_> = records.iter().map(|(one, other)| cells(&[one, other])).collect();
        let (windows, _, has_no_letter) = encoding_rs::WINDOWS_1252.encode(&text);
        let mut files = vec![text.as_bytes().to_vec(), utf16le(&text), utf16be(&text)];
        if !has_no_letter {
            files.push(windows.into_owned());
        }
        for bytes in files {
            let contents = Contents::of(&format("auto"), bytes.as_slice());
            prop_assert_eq!(contents.broken, None);
            prop_assert_eq!(&contents.records[late / 10..], &expected);
        }
    }
}

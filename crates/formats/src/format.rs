//! What kind of file it is, as its owner has declared it.

use encoding_rs::{REPLACEMENT, X_USER_DEFINED};

/// How the records stand in a file. Compression is told by the file itself.
#[derive(Clone, Debug)]
pub enum FileFormat {
    Csv(CsvFormat),
    /// One JSON object on each line.
    Ndjson,
    /// An object container file.
    Avro,
}

/// How a CSV file is to be understood.
#[derive(Clone, Debug, Default)]
pub struct CsvFormat {
    pub delimiter: Delimiter,
    pub encoding: Encoding,
    /// The columns of files without a header; none if the first record names them.
    pub columns: Option<Vec<String>>,
    /// Other spellings of header names, each with the name that it stands for. Looked up without regard to case and
    /// surrounding space.
    pub aliases: Vec<(String, String)>,
}

/// What stands between two cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delimiter {
    /// One ASCII character.
    Is(u8),
    /// A comma, semicolon, tab or vertical bar, told by the header and the first records.
    #[default]
    Detected,
}

/// How text stands in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    Declared(KnownEncoding),
    /// UTF-8, UTF-16 or Windows-1252, told by the file itself.
    #[default]
    Detected,
}

/// An encoding that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownEncoding(pub(crate) &'static encoding_rs::Encoding);

impl Encoding {
    /// The encoding of this name, in any case: `utf-8`, `utf-16le`, `windows-1252`, `latin1`, and whatever else the web
    /// knows; `auto` stands for [`Encoding::Detected`]. None if nobody knows it.
    pub fn named(name: &str) -> Option<Self> {
        if name.trim().eq_ignore_ascii_case("auto") {
            return Some(Self::Detected);
        }
        let known = encoding_rs::Encoding::for_label(name.as_bytes())?;
        // Names of the web for what must not be decoded, and for raw bytes.
        (known != REPLACEMENT && known != X_USER_DEFINED).then_some(Self::Declared(KnownEncoding(known)))
    }
}

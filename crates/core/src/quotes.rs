//! Follows the quotes of CSV, to notice one that is missing or too many: a reader takes what follows it for a part of a cell.

/// Where in a record the next byte stands, and whether a quote stood where none belongs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quotes {
    place: Place,
    has_stray: bool,
    /// Whether blanks may stand behind a closing quote.
    takes_blanks: bool,
}

/// Where in a cell the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    Plain,
    Quoted,
    /// Behind a quote that closes, or is the first of two that stand for one.
    Closed,
}

impl Quotes {
    /// Lets blanks stand behind a closing quote.
    pub fn with_blanks() -> Self {
        Self { takes_blanks: true, ..Self::default() }
    }

    /// Goes on over these bytes.
    pub fn follow(&mut self, bytes: &[u8], delimiter: u8) {
        let Some(last) = bytes.last() else { return };
        if self.place != Place::Closed && !bytes.contains(&b'"') {
            if self.place != Place::Quoted {
                self.pass(*last, delimiter);
            }
            return;
        }
        bytes.iter().for_each(|byte| self.pass(*byte, delimiter));
    }

    /// Whether text followed a closing quote.
    pub fn has_stray(&self) -> bool {
        self.has_stray
    }

    /// Whether a quote was opened and not closed.
    pub fn is_open(&self) -> bool {
        self.place == Place::Quoted
    }

    fn pass(&mut self, byte: u8, delimiter: u8) {
        self.place = match (self.place, byte) {
            (Place::Quoted, b'"') => Place::Closed,
            (Place::Quoted, _) | (Place::Closed | Place::Start, b'"') => Place::Quoted,
            (_, byte) if byte == delimiter || matches!(byte, b'\r' | b'\n') => Place::Start,
            (Place::Closed, b' ' | b'\t') if self.takes_blanks => Place::Closed,
            (Place::Closed, _) => {
                self.has_stray = true;
                Place::Plain
            }
            (Place::Start | Place::Plain, _) => Place::Plain,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_that_is_missing_or_too_many_shows() {
        let followed = |text: &str| {
            let mut quotes = Quotes::default();
            quotes.follow(text.as_bytes(), b',');
            (quotes.has_stray(), quotes.is_open())
        };
        for sound in ["a,b\n", "\"a\",\"b \"\"c\"\" d\"\n", "a \"b\" c\n", "\"two\nlines\",x\n", ""] {
            assert_eq!(followed(sound), (false, false), "{sound}");
        }
        assert_eq!(followed("\"a,b\nc,d\n"), (false, true), "never closed");
        assert_eq!(followed("\"a\nb,\"c\"\n"), (true, false), "closed by the next cell's");
        let blank = "\"a\" ,\"b\"\t\n";
        assert_eq!(followed(blank), (true, false), "blanks behind a quote");
        let mut quotes = Quotes::with_blanks();
        quotes.follow(blank.as_bytes(), b',');
        assert!(!quotes.has_stray() && !quotes.is_open());
    }
}

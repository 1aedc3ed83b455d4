//! How many values a record may have, and how much text that does not stand in it. A null takes a byte or none in a file, and
//! in memory one place in each column beneath it; a symbol of an enum takes a byte, and in memory all its letters. Without a
//! limit a small file could take all memory there is.

/// Of one record, nested ones counted: as many as a batch may have of all its records.
const MOST: usize = 1 << 20;

/// Of one record: as much as an unpacked block may have.
const MOST_TEXT: usize = 64 << 20;

const TOO_MUCH: &str = "more than 64 MB of text in its symbols";
const TOO_MANY: &str = "more than a million values, nested ones counted";

/// The values of a record under way.
pub(crate) struct Cells {
    left: usize,
    text: usize,
}

impl Cells {
    pub(crate) fn of_record() -> Self {
        Self { left: MOST, text: 0 }
    }

    /// Reckons with so many more; the error tells what the record has, to follow "has".
    pub(crate) fn take(&mut self, count: usize) -> Result<(), &'static str> {
        self.left = self.left.checked_sub(count).ok_or(TOO_MANY)?;
        Ok(())
    }

    /// Reckons with text that does not stand in the record itself; the error is as that of [`Cells::take`].
    pub(crate) fn take_text(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.text += bytes;
        if self.text > MOST_TEXT { Err(TOO_MUCH) } else { Ok(()) }
    }

    /// Bytes of that text.
    pub(crate) fn text(&self) -> usize {
        self.text
    }

    pub(crate) fn taken(&self) -> usize {
        MOST - self.left
    }
}

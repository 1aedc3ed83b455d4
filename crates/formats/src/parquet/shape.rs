//! What a footer looks like, told before it is decoded.
//!
//! Parquet's reader recurses once for every group within a group, and sets memory aside for as many entries as a list
//! claims to have: a small file could end the process. So the bytes are gone through once (Thrift's compact form), in
//! memory that does not grow with them.
//!
//! The reader goes by the numbers of fields alone and not by the types that stand beside them. Where the two differ it
//! would see other lists than are seen here, so a known field of another type is refused.

/// Groups within groups of the schema.
const DEEPEST: usize = 64;
/// Structs and lists within one another; a footer has fewer than ten.
const DEEPEST_STRUCT: usize = 64;
/// Entries of a list: columns with their groups, row groups, notes of the writer.
const MOST_ENTRIES: usize = 1 << 17;
/// Every column holds its whole path, so a long name of a group counts for each column within it.
const MOST_PATH_BYTES: usize = 64 << 20;

type Misshapen = &'static str;

const CUT_OFF: Misshapen = "its footer ends too early";
const ODD: Misshapen = "its footer is not made as those of Parquet files are";

/// Tells why a footer must not be decoded, if so.
pub(super) fn check(footer: &[u8]) -> Result<(), Misshapen> {
    Walk { rest: footer, depth: 0, schema: Schema::default() }.fields(FILE)
}

/// The same for the places of a column's pages, for which the reader sets memory aside, too.
pub(super) fn check_places(index: &[u8]) -> Result<(), Misshapen> {
    Walk { rest: index, depth: 0, schema: Schema::default() }.fields(PLACES)
}

/// What stands in a field. Whole numbers of all widths are written alike.
#[derive(Clone, Copy)]
enum Shape {
    Flag,
    Byte,
    Number,
    Double,
    Bytes,
    Struct(Fields),
    List(&'static Shape),
    /// The schema itself.
    Elements,
}

/// The fields that the reader knows, with their numbers. Others are passed over, here as there.
type Fields = &'static [(i16, Shape)];

use Shape::{Byte, Bytes, Double, Elements, Flag, List, Number, Struct};

const NUMBERS: Shape = List(&Number);
const NOTES: Shape = List(&Struct(&[(1, Bytes), (2, Bytes)]));
const EMPTY: Shape = Struct(&[]);

const FILE: Fields = &[
    (1, Number),
    (2, Elements),
    (3, Number),
    (4, List(&Struct(ROW_GROUP))),
    (5, NOTES),
    (6, Bytes),
    (7, List(&Struct(&[(1, EMPTY)]))),
];

const ELEMENT: Fields = &[
    (1, Number),
    (2, Number),
    (3, Number),
    (ELEMENT_NAME, Bytes),
    (ELEMENT_CHILDREN, Number),
    (6, Number),
    (7, Number),
    (8, Number),
    (9, Number),
    (10, Struct(LOGICAL_TYPE)),
];
const ELEMENT_NAME: i16 = 4;
const ELEMENT_CHILDREN: i16 = 5;

const TIME: Shape = Struct(&[(1, Flag), (2, Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]))]);
const LOGICAL_TYPE: Fields = &[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Struct(&[(1, Number), (2, Number)])),
    (6, EMPTY),
    (7, TIME),
    (8, TIME),
    (10, Struct(&[(1, Byte), (2, Flag)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Struct(&[(1, Byte)])),
    (17, Struct(&[(1, Bytes)])),
    (18, Struct(&[(1, Bytes), (2, Number)])),
];

const ROW_GROUP: Fields = &[
    (1, List(&Struct(COLUMN))),
    (2, Number),
    (3, Number),
    (4, List(&Struct(&[(1, Number), (2, Flag), (3, Flag)]))),
    (5, Number),
    (6, Number),
    (7, Number),
];

const COLUMN: Fields =
    &[(1, Bytes), (2, Number), (3, Struct(COLUMN_METADATA)), (4, Number), (5, Number), (6, Number), (7, Number)];

const COLUMN_METADATA: Fields = &[
    (1, Number),
    (2, NUMBERS),
    (3, List(&Bytes)),
    (4, Number),
    (5, Number),
    (6, Number),
    (7, Number),
    (8, NOTES),
    (9, Number),
    (10, Number),
    (11, Number),
    (12, Struct(STATISTICS)),
    (13, List(&Struct(&[(1, Number), (2, Number), (3, Number)]))),
    (14, Number),
    (15, Number),
    (16, Struct(&[(1, Number), (2, NUMBERS), (3, NUMBERS)])),
    (17, Struct(&[(1, Struct(BOUNDS)), (2, NUMBERS)])),
];

const STATISTICS: Fields =
    &[(1, Bytes), (2, Bytes), (3, Number), (4, Number), (5, Bytes), (6, Bytes), (7, Flag), (8, Flag)];

const BOUNDS: Fields =
    &[(1, Double), (2, Double), (3, Double), (4, Double), (5, Double), (6, Double), (7, Double), (8, Double)];

const PLACES: Fields = &[(1, List(&Struct(&[(1, Number), (2, Number), (3, Number)]))), (2, NUMBERS)];

/// The types of Thrift's compact form.
mod wire {
    pub(super) const STOP: u8 = 0;
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I16: u8 = 4;
    pub(super) const I64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const BINARY: u8 = 8;
    pub(super) const LIST: u8 = 9;
    pub(super) const SET: u8 = 10;
    pub(super) const STRUCT: u8 = 12;
    pub(super) const UUID: u8 = 13;
}

struct Walk<'a> {
    rest: &'a [u8],
    depth: usize,
    schema: Schema,
}

/// A value that was gone over.
enum Seen {
    Number(i64),
    Length(usize),
    Other,
}

impl Walk<'_> {
    fn fields(&mut self, known: Fields) -> Result<(), Misshapen> {
        self.each_field(known, |_, _| {})
    }

    fn each_field(&mut self, known: Fields, mut tell: impl FnMut(i16, Seen)) -> Result<(), Misshapen> {
        let mut id = 0_i16;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == wire::STOP {
                return Ok(());
            }
            id = match head >> 4 {
                0 => i16::try_from(self.signed()?).map_err(|_| ODD)?,
                step => id.checked_add(i16::from(step)).ok_or(ODD)?,
            };
            let shape = known.iter().find(|(known, _)| *known == id).map(|(_, shape)| *shape);
            if shape.is_some_and(|shape| !shape.is_of(kind)) {
                return Err(ODD);
            }
            let seen = match kind {
                wire::TRUE | wire::FALSE => Seen::Other,
                _ => self.value(kind, shape)?,
            };
            tell(id, seen);
        }
    }

    /// Goes over a value. In a list a flag would take a byte, of which not all readers know; a footer has no such list.
    fn value(&mut self, kind: u8, shape: Option<Shape>) -> Result<Seen, Misshapen> {
        self.depth += 1;
        if self.depth > DEEPEST_STRUCT {
            return Err(ODD);
        }
        let mut seen = Seen::Other;
        match kind {
            wire::BYTE => self.skip(1)?,
            wire::I16..=wire::I64 => seen = Seen::Number(self.signed()?),
            wire::DOUBLE => self.skip(8)?,
            wire::BINARY => {
                let length = usize::try_from(self.unsigned()?).map_err(|_| CUT_OFF)?;
                self.skip(length)?;
                seen = Seen::Length(length);
            }
            wire::LIST | wire::SET => self.list(shape)?,
            wire::STRUCT => self.fields(if let Some(Struct(known)) = shape { known } else { &[] })?,
            wire::UUID => self.skip(16)?,
            _ => return Err(ODD),
        }
        self.depth -= 1;
        Ok(seen)
    }

    fn list(&mut self, shape: Option<Shape>) -> Result<(), Misshapen> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(());
        }
        let kind = head & 0x0f;
        let count = match head >> 4 {
            15 => usize::try_from(self.unsigned()?).map_err(|_| CUT_OFF)?,
            few => usize::from(few),
        };
        if count > self.rest.len() {
            return Err("a list in its footer claims to have more entries than the footer has bytes");
        }
        if count > MOST_ENTRIES {
            return Err("a list in its footer has more than 131072 entries");
        }
        match shape {
            Some(Elements) if kind == wire::STRUCT => self.elements(count),
            Some(List(item)) if item.is_of(kind) => {
                (0..count).try_for_each(|_| self.value(kind, Some(*item)).map(drop))
            }
            Some(_) => Err(ODD),
            None => (0..count).try_for_each(|_| self.value(kind, None).map(drop)),
        }
    }

    /// The schema: groups come before what is in them.
    fn elements(&mut self, count: usize) -> Result<(), Misshapen> {
        for _ in 0..count {
            let (mut name_bytes, mut children) = (0, 0);
            self.each_field(ELEMENT, |id, seen| match (id, seen) {
                (ELEMENT_NAME, Seen::Length(length)) => name_bytes = length,
                (ELEMENT_CHILDREN, Seen::Number(number)) => children = number,
                _ => {}
            })?;
            let children = usize::try_from(children).ok().filter(|children| *children <= count);
            let children = children.ok_or("a group of its schema claims to have more columns than there are")?;
            self.schema.element(name_bytes, children)?;
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Misshapen> {
        let (byte, rest) = self.rest.split_first().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn skip(&mut self, length: usize) -> Result<(), Misshapen> {
        self.rest = self.rest.get(length..).ok_or(CUT_OFF)?;
        Ok(())
    }

    fn unsigned(&mut self) -> Result<u64, Misshapen> {
        let mut number = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).unbounded_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ODD)
    }

    fn signed(&mut self) -> Result<i64, Misshapen> {
        let number = self.unsigned()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

impl Shape {
    /// Whether it is written as this type.
    fn is_of(self, kind: u8) -> bool {
        match self {
            Flag => matches!(kind, wire::TRUE | wire::FALSE),
            Byte => kind == wire::BYTE,
            Number => matches!(kind, wire::I16..=wire::I64),
            Double => kind == wire::DOUBLE,
            Bytes => kind == wire::BINARY,
            Struct(_) => kind == wire::STRUCT,
            List(_) | Elements => kind == wire::LIST,
        }
    }
}

/// The groups that are open while one goes over a schema.
#[derive(Default)]
struct Schema {
    /// Of each, how many children are still to come, and the bytes of its path.
    open: Vec<(usize, usize)>,
    path_bytes: usize,
}

impl Schema {
    fn element(&mut self, name_bytes: usize, children: usize) -> Result<(), Misshapen> {
        while self.open.last().is_some_and(|(left, _)| *left == 0) {
            self.open.pop();
        }
        let above = self.open.last_mut().map_or(0, |(left, path)| {
            *left -= 1;
            *path
        });
        let path = above.saturating_add(name_bytes);
        if children > 0 {
            self.open.push((children, path));
            return if self.open.len() > DEEPEST {
                Err("its schema has groups within groups, more than 64 deep")
            } else {
                Ok(())
            };
        }
        self.path_bytes = self.path_bytes.saturating_add(path);
        if self.path_bytes > MOST_PATH_BYTES { Err("the names of its columns take more than 64 MB") } else { Ok(()) }
    }
}

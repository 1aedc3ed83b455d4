//! CSV: every column is text; a cell without characters is NULL.

mod batch;
mod delimiter;
mod header;
mod plain;
mod records;

use arrow::datatypes::SchemaRef;

pub use self::header::may_be_value;

use self::batch::{Batch, schema_of};
use self::header::Aliases;
use self::records::{Next, Records};
use crate::format::CsvFormat;
use crate::input::Raw;
use crate::outlet::{Outlet, Stop};
use crate::text::Text;
use crate::unpacking::unpacked;

/// The columns that the header names.
pub(crate) fn schema(format: &CsvFormat, raw: Raw<'_>) -> Result<SchemaRef, Stop> {
    let (_, columns) = start(format, raw)?;
    Ok(schema_of(columns.iter()))
}

/// Passes on everything behind the header.
pub(crate) fn read(
    format: &CsvFormat,
    raw: Raw<'_>,
    wanted: Option<&SchemaRef>,
    outlet: &mut Outlet<'_>,
) -> Result<(), Stop> {
    let seen = raw.seen();
    let (mut records, columns) = start(format, raw)?;
    let mut batch = Batch::new(&columns, wanted, format.columns.is_some());
    while let Next::Record { line, cell_count } = records.advance()? {
        if let Err(reason) = batch.push(&records, cell_count, line) {
            // A record with cells to spare is wrong in itself; one that ends early is half a file.
            if records.is_cut() && cell_count <= columns.len() {
                return Err(Stop::Broken(format!(
                    "the file ends in the middle of the record at line {line} ({reason}); drop it again, whole"
                )));
            }
            outlet.malformed(line, reason)?;
        }
        if batch.is_full() {
            outlet.batch(batch.take(seen.bytes()))?;
        }
    }
    if !batch.is_empty() {
        outlet.batch(batch.take(seen.bytes()))?;
    }
    Ok(())
}

/// Reads as far as the header; tells the names of the columns.
fn start<'a>(format: &CsvFormat, raw: Raw<'a>) -> Result<(Records<'a>, Vec<String>), Stop> {
    let text = Text::start(unpacked(raw)?, format.encoding)?;
    let count = format.columns.as_ref().map(Vec::len);
    let mut records = Records::start(text, format.delimiter, count)?;
    if let Some(columns) = &format.columns {
        return Ok((records, columns.clone()));
    }
    if records.advance()? == Next::End {
        return Err(Stop::Broken("the file is empty: it has not even a header".to_owned()));
    }
    if records.has_stray_text() {
        let reason = "the header has text behind a closing quote; is a quote missing?";
        return Err(Stop::Broken(reason.to_owned()));
    }
    let aliases = Aliases::new(&format.aliases);
    let names = aliases.column_names(records.cells().iter(), records.encoding()).map_err(Stop::Broken)?;
    Ok((records, names))
}

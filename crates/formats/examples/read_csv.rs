//! Reads a CSV file to its end as a run would, keeps nothing, and prints how many records it had and how many bytes their
//! cells: `read_csv FILE [COLUMN …]`. With columns, only these are read. The benchmark in `tests/bench` compares this with
//! DuckDB.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema};
use convoke_core::source::SplitItem;
use convoke_formats::{CsvFormat, FileFormat, FileReader};

/// The allocator of `convoke`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().ok_or("usage: read_csv FILE [COLUMN …]")?;
    let columns: Vec<Field> = arguments.map(|name| Field::new(name, DataType::Utf8, true)).collect();
    let wanted = (!columns.is_empty()).then(|| Arc::new(Schema::new(columns)));
    let (mut count, mut bytes, mut trouble) = (0, 0, None);
    let mut take = |item| {
        match item {
            SplitItem::Records(batch) => {
                count += batch.records.num_rows();
                bytes += batch
                    .records
                    .columns()
                    .iter()
                    .map(|column| column.as_string::<i32>().value_data().len())
                    .sum::<usize>();
            }
            SplitItem::Malformed(record) => trouble = Some(record.reason),
            SplitItem::Broken { reason } => trouble = Some(reason),
            SplitItem::End { .. } => {}
        }
        ControlFlow::Continue(())
    };
    let format = FileFormat::Csv(CsvFormat::default());
    FileReader { format: &format, max_malformed: 0.0 }.read(File::open(path)?, wanted.as_ref(), &mut take)?;
    match trouble {
        Some(reason) => Err(reason.into()),
        None => Ok(writeln!(io::stdout(), "{count} {bytes}")?),
    }
}

//! Reads one file of any format.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use convoke_core::source::SplitItem;

use crate::format::FileFormat;
use crate::input::{InputError, Raw, Seen};
use crate::outlet::{Outlet, Stop};
use crate::{avro, csv, ndjson};

/// Reads files of one format. Blocks.
#[derive(Clone, Copy, Debug)]
pub struct FileReader<'a> {
    pub format: &'a FileFormat,
    /// The share of malformed records, 0 to 1, above which a file is broken.
    pub max_malformed: f64,
}

impl FileReader<'_> {
    /// Tells the columns of a file: of NDJSON only the whole of it does. The inner error says why the file is broken.
    pub fn schema(&self, mut input: impl Read) -> Result<Result<SchemaRef, String>, InputError> {
        let seen = Seen::default();
        let raw = Raw::new(&mut input, &seen);
        let schema = match self.format {
            FileFormat::Csv(format) => csv::schema(format, raw),
            FileFormat::Ndjson => ndjson::schema(raw),
            FileFormat::Avro => avro::schema(raw),
        };
        match schema {
            Ok(schema) => Ok(Ok(schema)),
            Err(Stop::Broken(reason)) => Ok(Err(reason)),
            Err(Stop::Input(error)) => Err(error),
            Err(Stop::Unheard) => unreachable!("a schema is told to nobody on the way"),
        }
    }

    /// Reads a whole file and passes its items on; ends early if `take` breaks, or if too many records are malformed for the
    /// rest to matter. The last item is `End` with the digest (BLAKE3) of all bytes, or `Broken`.
    ///
    /// With `schema`, only its columns are read, in its types, and a value that does not fit makes its record malformed. A
    /// batch has those of them that its file has; of NDJSON, that any of its records has. NDJSON without a schema has no
    /// columns. Every field of it has to be nullable.
    pub fn read(
        &self,
        mut input: impl Read,
        schema: Option<&SchemaRef>,
        take: &mut dyn FnMut(SplitItem) -> ControlFlow<()>,
    ) -> Result<(), InputError> {
        let mut outlet = Outlet::new(self.max_malformed, take);
        match self.pass_items(&mut input, schema, &mut outlet) {
            Ok(fingerprint) => outlet.end(SplitItem::End { fingerprint }),
            Err(Stop::Broken(reason)) => outlet.end(SplitItem::Broken { reason }),
            Err(Stop::Unheard) => {}
            Err(Stop::Input(error)) => return Err(error),
        }
        Ok(())
    }

    /// Passes on all but the last item; tells the fingerprint.
    fn pass_items(
        &self,
        input: &mut dyn Read,
        schema: Option<&SchemaRef>,
        outlet: &mut Outlet<'_>,
    ) -> Result<String, Stop> {
        let seen = Seen::default();
        let raw = Raw::new(input, &seen);
        match self.format {
            FileFormat::Csv(format) => csv::read(format, raw, schema, outlet)?,
            FileFormat::Ndjson => ndjson::read(raw, schema.unwrap_or(&Arc::new(Schema::empty())), outlet)?,
            FileFormat::Avro => avro::read(raw, schema, outlet)?,
        }
        outlet.check_all()?;
        // What lies behind the last record is a part of the file, too.
        io::copy(&mut Raw::new(input, &seen), &mut io::sink())?;
        Ok(seen.fingerprint())
    }
}

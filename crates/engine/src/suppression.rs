//! Suppression lists: people who must not be sent, ever.
//!
//! A list fails closed: missing, unreadable, stale, damaged or without its column, it stops the run. Its entries are compared
//! in canonical form, as they are and as the mapping of the audience column would have made them, so that a list of
//! raw addresses suppresses records whose addresses the mapping normalises.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use convoke_core::hash::{encode_part, text_of_part};
use convoke_core::quotes::Quotes;
use convoke_core::spec::{ExistingRows, Suppression};
use convoke_core::{DataType, HashKey, KeyHash, Timestamp};

use crate::cell::canonical_cell;
use crate::error::EngineError;
use crate::expression::nearest;
use crate::mapping::Mapping;
use crate::text_column::text_at;

/// A suppression list in memory. Personal data.
#[derive(Clone)]
pub struct SuppressionList {
    spec: Suppression,
    digest: String,
    entries: Vec<String>,
    /// Of each entry: the number of its record, from 1.
    records: Vec<u64>,
}

impl SuppressionList {
    /// BLAKE3 of the file, hexadecimal; part of a plan's configuration hash.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Number of entries that are not blank.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry is left once blank ones are out.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Loads a list. Fails closed: a list that is missing, unreadable, stale, empty, has a quote where none belongs or lacks its
/// column is an error.
pub fn load_suppression(spec: &Suppression, now: Timestamp) -> Result<SuppressionList, EngineError> {
    let path = &spec.path;
    let fail = |reason: String| EngineError::Suppression { path: path.clone(), reason };
    let content = std::fs::read(path).map_err(|cause| {
        fail(format!("it cannot be read ({}); put it there, or remove it from `suppress`", cause.kind()))
    })?;
    hold_against_age(path, spec, now)?;
    let text = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
    hold_against_quotes(text).map_err(&fail)?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let header = reader.headers().map_err(|_| fail("its first line is no CSV header in UTF-8".to_owned()))?.clone();
    let Some(column) = header.iter().position(|name| name.trim() == spec.column) else {
        // In a list without a header the first line is somebody.
        let names =
            header.iter().filter(|name| !name.contains(|letter: char| letter == '@' || letter.is_ascii_digit()));
        let hint = nearest(&spec.column, names).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        return Err(fail(format!("it has no column `{}`{hint}", spec.column)));
    };
    let (mut entries, mut records) = (Vec::new(), Vec::new());
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|_| fail(format!("record {} cannot be read as UTF-8 CSV; mend it", index + 1)))?;
        let Some(entry) = record.get(column) else {
            return Err(fail(format!("record {} has no column `{}`; mend it", index + 1, spec.column)));
        };
        if !entry.trim().is_empty() {
            entries.push(entry.to_owned());
            records.push(index as u64 + 1);
        }
    }
    if entries.is_empty() {
        let reason =
            "it names nobody, and so is taken for a damaged one; put its entries back, or remove it from `suppress`";
        return Err(fail(reason.to_owned()));
    }
    Ok(SuppressionList { spec: spec.clone(), digest: blake3::hash(&content).to_hex().to_string(), entries, records })
}

/// A quote that is missing or too many would make one entry of several people.
fn hold_against_quotes(text: &[u8]) -> Result<(), String> {
    let mut quotes = Quotes::with_blanks();
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        quotes.follow(line, b',');
        if quotes.has_stray() {
            return Err(format!(
                "line {} has a quote where none belongs, or one before it is not closed; mend it",
                index + 1
            ));
        }
    }
    if quotes.is_open() { Err("a quote in it is not closed; mend it".to_owned()) } else { Ok(()) }
}

fn hold_against_age(path: &Path, spec: &Suppression, now: Timestamp) -> Result<(), EngineError> {
    let fail = |reason: String| EngineError::Suppression { path: path.to_owned(), reason };
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let modified = modified.map_err(|_| fail("its age cannot be told".to_owned()))?;
    let since_epoch = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let age = now.since(Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)));
    if age > spec.max_age {
        let days = |duration: std::time::Duration| duration.as_secs_f64() / 86_400.0;
        return Err(fail(format!(
            "it is {:.1} days old and may be at most {:.1}; renew it, or raise `max_age`",
            days(age),
            days(spec.max_age)
        )));
    }
    Ok(())
}

/// A list in hashed form, ready to compare with records.
#[derive(Clone, Debug)]
pub(crate) struct Suppressed {
    /// The list's file.
    pub(crate) path: PathBuf,
    /// Index of the audience column among the active columns.
    pub(crate) column: usize,
    /// Hashes of the canonical cells, encoded as a key of this one column is.
    pub(crate) entries: Arc<HashSet<KeyHash>>,
    existing: ExistingRows,
    is_whole_key: bool,
    /// What there is to tell of entries by which nobody is suppressed.
    pub(crate) notice: Option<String>,
    /// Whether letters of both cases count as one: an address is the same person's however it is written.
    folds_case: bool,
}

impl Suppressed {
    /// Whether the list names a key itself, whatever the source holds.
    pub(crate) fn names_key(&self, key: KeyHash) -> bool {
        self.is_whole_key && self.entries.contains(&key)
    }

    /// Whether the list names a cell, given as the part of a key or content that it is encoded as.
    pub(crate) fn names_part(&self, part: &[u8], hash_key: &HashKey) -> bool {
        if self.entries.contains(&hash_key.hash_key(part)) {
            return true;
        }
        let text = text_of_part(part).unwrap_or_default();
        if !self.folds_case || !text.chars().any(char::is_uppercase) {
            return false;
        }
        let mut folded = Vec::with_capacity(part.len());
        encode_part(&mut folded, Some(&text.to_lowercase()));
        self.entries.contains(&hash_key.hash_key(&folded))
    }
}

/// Hashes all lists.
pub(crate) fn hash_lists(
    lists: &[SuppressionList],
    mapping: &Mapping,
    hash_key: &HashKey,
) -> Result<Vec<Suppressed>, EngineError> {
    let mut hashed = Vec::with_capacity(lists.len());
    for list in lists {
        // Where only keys matter, a list on another column has nothing to say.
        let Some(column) = mapping.active.index(&list.spec.audience_column) else { continue };
        let data_type = mapping.active.columns[column].data_type;
        let folds_case = matches!(data_type, DataType::Email);
        let mapped = normalise(mapping, column, &list.entries).map_err(|()| EngineError::Suppression {
            path: list.spec.path.clone(),
            reason: format!(
                "the mapping of `{}` fails on one of its entries; mend the entry or the mapping",
                list.spec.audience_column
            ),
        })?;
        let mut entries = HashSet::with_capacity(list.entries.len());
        let mut unusable = Unusable::default();
        for (row, entry) in list.entries.iter().enumerate() {
            let folded = folds_case.then(|| entry.to_lowercase());
            let mapped = mapped.as_ref().and_then(|texts| text_at(texts, row));
            let forms = [Some(entry.as_str()), folded.as_deref(), mapped];
            let hashed = forms.into_iter().flatten().filter_map(|text| hash_cell(data_type, text, hash_key));
            let mut is_usable = false;
            entries.extend(hashed.inspect(|_| is_usable = true));
            // Over a line end it would be several people's.
            if !is_usable || entry.contains(['\n', '\r']) {
                unusable.note(list.records[row]);
            }
        }
        let notice = unusable.judge(list, mapping.reads_nothing(column))?;
        let is_whole_key = mapping.active.key == [column];
        let (entries, existing) = (Arc::new(entries), list.spec.existing);
        let path = list.spec.path.clone();
        hashed.push(Suppressed { path, column, entries, existing, is_whole_key, notice, folds_case });
    }
    Ok(hashed)
}

/// Entries that are no value of the compared column.
#[derive(Default)]
struct Unusable {
    count: u64,
    first: Option<u64>,
}

impl Unusable {
    fn note(&mut self, record: u64) {
        self.count += 1;
        self.first.get_or_insert(record);
    }

    /// What to tell of them, if there may be so many. A mapping that reads nothing says nothing of entries.
    fn judge(&self, list: &SuppressionList, reads_nothing: bool) -> Result<Option<String>, EngineError> {
        let Some(first) = self.first.filter(|_| !reads_nothing) else { return Ok(None) };
        let Suppression { path, column, audience_column, max_unusable, .. } = &list.spec;
        let entries = if self.count == 1 { "entry is" } else { "entries are" };
        let told = format!(
            "{} {entries} no value of `{audience_column}`, so nobody is suppressed by them (first: column `{column}` of record {first})",
            self.count
        );
        if max_unusable.is_passed(self.count, list.entries.len() as u64) {
            let reason = format!("{told}; mend them, or raise `max_unusable`");
            return Err(EngineError::Suppression { path: path.clone(), reason });
        }
        Ok(Some(format!("suppression list `{}`: {told}", path.display())))
    }
}

/// What lists say about a key that stands in the audience, whatever the source holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListedKeys {
    lists: Vec<Suppressed>,
}

impl ListedKeys {
    pub(crate) fn new(lists: &[Suppressed]) -> Self {
        Self { lists: lists.iter().filter(|list| list.is_whole_key).cloned().collect() }
    }

    /// `Remove` goes before `Leave`.
    pub(crate) fn existing(&self, key: KeyHash) -> Option<ExistingRows> {
        let mut found = None;
        for list in self.lists.iter().filter(|list| list.entries.contains(&key)) {
            if list.existing == ExistingRows::Remove {
                return Some(ExistingRows::Remove);
            }
            found = Some(ExistingRows::Leave);
        }
        found
    }
}

fn hash_cell(data_type: DataType, text: &str, hash_key: &HashKey) -> Option<KeyHash> {
    // An entry that is no value of the column's type cannot stand in a valid record either.
    let cell = canonical_cell(data_type, text).ok()??;
    let mut encoded = Vec::with_capacity(cell.len() + 5);
    encode_part(&mut encoded, Some(&cell));
    Some(hash_key.hash_key(&encoded))
}

/// Sends texts through the expression of a mapped column, if it reads exactly one source column.
pub(crate) fn normalise(mapping: &Mapping, column: usize, texts: &[String]) -> Result<Option<StringArray>, ()> {
    let Some(source) = mapping.only_source_of(column) else { return Ok(None) };
    let given: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let mut columns = Vec::with_capacity(mapping.input.fields().len());
    for field in mapping.input.fields() {
        let values = if field.name() == source {
            cast(&given, field.data_type()).map_err(|_| ())?
        } else {
            new_null_array(field.data_type(), texts.len())
        };
        columns.push(values);
    }
    let fields: Vec<_> =
        mapping.input.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let batch = RecordBatch::try_new(schema, columns).map_err(|_| ())?;
    mapping.evaluate_one(column, &batch).map(Some).map_err(|_| ())
}

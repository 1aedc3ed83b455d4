//! One audience: its columns, and hashes of its rows.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The column by which rows are told apart for the figures; its name is compared without case.
const IDENTITY_COLUMN: &str = "email";
/// The column that Convoke keeps its own key in; it is no content.
const KEY_COLUMN: &str = "convoke_key";
pub(crate) const MAX_UPSERT_ROWS: usize = 500;

pub(crate) struct Audience {
    pub(crate) name: String,
    pub(crate) attributes: Value,
    /// Name, and the column as the API shows it.
    columns: Vec<(String, Value)>,
    column_of_id: HashMap<String, usize>,
    rows: Vec<Option<StoredRow>>,
    row_of_identity: HashMap<u64, usize>,
    row_of_key_cell: HashMap<u64, usize>,
    figures: Figures,
}

#[derive(Clone, Copy)]
struct StoredRow {
    identity: u64,
    content: u64,
}

#[derive(Default)]
struct Figures {
    requests: u64,
    created: u64,
    updated: u64,
    deleted: u64,
    doubled: u64,
    unchanged: u64,
    /// Sum over all rows of a hash of identity and content: the same for the same rows in any order.
    checksum: u64,
}

#[derive(Deserialize)]
struct Upsert<'a> {
    #[serde(borrow)]
    data: Vec<SentRow<'a>>,
}

#[derive(Deserialize)]
struct SentRow<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: Option<&'a str>,
    #[serde(borrow)]
    attributes: SentCells<'a>,
}

#[derive(Deserialize)]
struct SentCells<'a> {
    #[serde(borrow)]
    values: Vec<SentCell<'a>>,
}

#[derive(Deserialize)]
struct SentCell<'a> {
    #[serde(rename = "columnId")]
    column_id: &'a str,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// What a sent row comes to.
struct Digest {
    identity: u64,
    content: u64,
    key_cell: Option<u64>,
}

impl Audience {
    pub(crate) fn new(attributes: Value) -> Self {
        let name = attributes["name"].as_str().unwrap_or_default().to_owned();
        Self {
            name,
            attributes,
            columns: Vec::new(),
            column_of_id: HashMap::new(),
            rows: Vec::new(),
            row_of_identity: HashMap::new(),
            row_of_key_cell: HashMap::new(),
            figures: Figures::default(),
        }
    }

    pub(crate) fn add_column(&mut self, id: String, mut attributes: Value) -> Value {
        let name = attributes["name"].as_str().unwrap_or_default().to_owned();
        attributes["isHidden"] = json!(false);
        let column = json!({ "type": "Column", "id": id, "attributes": attributes });
        self.column_of_id.insert(id, self.columns.len());
        self.columns.push((name, column.clone()));
        column
    }

    pub(crate) fn patch_column(&mut self, id: &str, changes: &Value) -> Option<Value> {
        let (_, column) = &mut self.columns[*self.column_of_id.get(id)?];
        for (name, value) in changes.as_object()? {
            column["attributes"][name.as_str()] = value.clone();
        }
        Some(column.clone())
    }

    pub(crate) fn columns(&self) -> Vec<Value> {
        self.columns.iter().map(|(_, column)| column.clone()).collect()
    }

    pub(crate) fn record_count(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    pub(crate) fn stats(&self) -> Value {
        let figures = &self.figures;
        json!({
            "requests": figures.requests, "created": figures.created, "updated": figures.updated,
            "deleted": figures.deleted, "doubled": figures.doubled, "unchanged": figures.unchanged,
            "rows": self.record_count(), "checksum": format!("{:016x}", figures.checksum),
        })
    }

    /// Takes up to 500 rows, all or none; answers the document to send.
    pub(crate) fn upsert(&mut self, body: &[u8], echo: bool) -> Result<Vec<u8>, &'static str> {
        let upsert: Upsert = serde_json::from_slice(body).map_err(|_| "the body is no upsert")?;
        if upsert.data.is_empty() || upsert.data.len() > MAX_UPSERT_ROWS {
            return Err("an upsert takes 1 to 500 rows");
        }
        let mut digests = Vec::with_capacity(upsert.data.len());
        for row in &upsert.data {
            digests.push((self.digest(row)?, self.known_row(row.id)?));
        }
        self.figures.requests += 1;
        let mut answer = Vec::with_capacity(if echo { body.len() * 5 / 4 } else { digests.len() * 224 });
        answer.extend_from_slice(b"{\"data\":[");
        for (position, (row, (digest, known))) in upsert.data.iter().zip(digests).enumerate() {
            let number = self.store(&digest, known);
            if position > 0 {
                answer.push(b',');
            }
            let shown = row.attributes.values.iter().filter(|cell| echo || self.is_key_cell(cell));
            write_row(&mut answer, number, shown);
        }
        answer.extend_from_slice(b"]}");
        Ok(answer)
    }

    pub(crate) fn delete(&mut self, body: &[u8]) -> Result<(), &'static str> {
        let document: Value = serde_json::from_slice(body).map_err(|_| "the body is no list of rows")?;
        let rows = document["data"].as_array().ok_or("`data` is no list")?;
        for row in rows {
            let number = row_number(row["id"].as_str().unwrap_or_default()).ok_or("a row id is malformed")?;
            if let Some(old) = self.rows.get_mut(number).and_then(Option::take) {
                self.figures.deleted += 1;
                self.figures.checksum = self.figures.checksum.wrapping_sub(old.checksum());
                self.row_of_identity.remove(&old.identity);
            }
        }
        Ok(())
    }

    /// Finds rows by id or by whole key cells; a found row shows the key cell that was asked for.
    pub(crate) fn search(&self, request: &Value) -> Vec<Value> {
        let ids = request["ids"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut found: Vec<Value> = ids
            .filter(|id| row_number(id).is_some_and(|number| self.exists(number)))
            .map(|id| json!({ "type": "Row", "id": id, "attributes": { "values": [] } }))
            .collect();
        for filter in request["filter"]["filters"].as_array().into_iter().flatten() {
            for value in filter["values"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let Some(number) = self.row_of_key_cell.get(&hash(value)).filter(|number| self.exists(**number)) else {
                    continue;
                };
                let cell = json!({ "columnId": filter["columnId"], "value": value, "state": "RESULT" });
                found.push(json!({ "type": "Row", "id": row_id(*number), "attributes": { "values": [cell] } }));
            }
        }
        found
    }

    fn is_key_cell(&self, cell: &SentCell<'_>) -> bool {
        self.column_of_id.get(cell.column_id).is_some_and(|column| self.columns[*column].0 == KEY_COLUMN)
    }

    fn exists(&self, number: usize) -> bool {
        self.rows.get(number).is_some_and(Option::is_some)
    }

    fn known_row(&self, id: Option<&str>) -> Result<Option<usize>, &'static str> {
        let Some(id) = id else { return Ok(None) };
        let number = row_number(id).filter(|number| self.exists(*number));
        number.map(Some).ok_or("a row id is not known")
    }

    fn digest(&self, row: &SentRow<'_>) -> Result<Digest, &'static str> {
        if row.kind != "Row" {
            return Err("a resource is no `Row`");
        }
        let mut digest = Digest { identity: 0, content: 0, key_cell: None };
        for cell in &row.attributes.values {
            let column = *self.column_of_id.get(cell.column_id).ok_or("a column id is not known")?;
            let text: Value = serde_json::from_str(cell.value.get()).map_err(|_| "a value is malformed")?;
            let name = self.columns[column].0.as_str();
            if name == KEY_COLUMN {
                digest.key_cell = text.as_str().map(hash);
                continue;
            }
            if text.is_null() {
                continue;
            }
            let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
            if name.eq_ignore_ascii_case(IDENTITY_COLUMN) {
                digest.identity = hash(&text);
            }
            digest.content = digest.content.wrapping_add(hash(&(name, text)));
        }
        Ok(digest)
    }

    fn store(&mut self, digest: &Digest, known: Option<usize>) -> usize {
        let row = StoredRow { identity: digest.identity, content: digest.content };
        let number = known.unwrap_or(self.rows.len());
        if known.is_none() {
            self.rows.push(None);
            self.figures.created += 1;
        }
        if let Some(old) = self.rows[number].replace(row) {
            self.figures.updated += 1;
            self.figures.unchanged += u64::from(old.content == row.content);
            self.figures.checksum = self.figures.checksum.wrapping_sub(old.checksum());
        }
        let other = self.row_of_identity.insert(row.identity, number);
        if known.is_none() && other.is_some() {
            self.figures.doubled += 1;
        }
        if let Some(key_cell) = digest.key_cell {
            self.row_of_key_cell.insert(key_cell, number);
        }
        self.figures.checksum = self.figures.checksum.wrapping_add(row.checksum());
        number
    }
}

impl StoredRow {
    fn checksum(self) -> u64 {
        hash(&(self.identity, self.content))
    }
}

fn write_row<'a>(answer: &mut Vec<u8>, number: usize, shown: impl Iterator<Item = &'a SentCell<'a>>) {
    let expectation = "a vector takes every write";
    let id = row_id(number);
    write!(answer, r#"{{"type":"Row","id":"{id}","attributes":{{"values":["#).expect(expectation);
    for (position, cell) in shown.enumerate() {
        let comma = if position > 0 { "," } else { "" };
        let value = cell.value.get();
        let state = if value == "null" { "BLANK" } else { "RESULT" };
        let column_id = cell.column_id;
        write!(answer, r#"{comma}{{"columnId":"{column_id}","value":{value},"state":"{state}"}}"#).expect(expectation);
    }
    answer.extend_from_slice(b"]}}");
}

fn row_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn row_number(id: &str) -> Option<usize> {
    usize::from_str_radix(id.strip_prefix("00000000-0000-4000-8000-")?, 16).ok()
}

/// The same for the same value in every process: checksums of two runs are compared.
fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

//! What delivering a plan's creates is held against.
//!
//! Reads the plan's file, encodes its rows, posts them 500 at a time, four requests under way at once, and keeps the
//! row ids of the answers in memory. It writes no journal, matches no answer to its row, looks nothing up, keeps to no
//! rate, and stops at the first answer that is not 200.
//!
//! Usage: `plain-loop FILE`, with `AUDIENCE_URL` and, as JSON from name to id, `COLUMN_IDS` in the environment. Prints
//! the number of ids.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BinaryArray, RecordBatch, StringArray};
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};

/// The same as in the product, so that allocators are not what is compared.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROWS_PER_REQUEST: usize = 500;
const REQUESTS_AT_ONCE: usize = 4;
const KEY_COLUMN: &str = "convoke_key";
/// The one column that is sent as a number.
const NUMBER_COLUMN: &str = "Employees";

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Serialize)]
struct Upsert<'a> {
    data: Vec<NewRow<'a>>,
}

#[derive(Serialize)]
struct NewRow<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: NewCells<'a>,
}

#[derive(Serialize)]
struct NewCells<'a> {
    values: Vec<NewCell<'a>>,
}

#[derive(Serialize)]
struct NewCell<'a> {
    #[serde(rename = "columnId")]
    column_id: &'a str,
    value: NewValue<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum NewValue<'a> {
    Text(&'a str),
    Key(String),
    Number(i64),
    Null,
}

#[derive(Deserialize)]
struct Upserted {
    data: Vec<MadeRow>,
}

#[derive(Deserialize)]
struct MadeRow {
    id: String,
}

/// The destination, and which column of it takes which of the file's.
struct Audience {
    upsert_url: String,
    column_ids: HashMap<String, String>,
    key_column_id: String,
}

fn main() -> Result<(), Error> {
    let path = std::env::args().nth(1).ok_or("usage: plain-loop FILE")?;
    let mut column_ids: HashMap<String, String> = serde_json::from_str(&std::env::var("COLUMN_IDS")?)?;
    let key_column_id = column_ids.remove(KEY_COLUMN).ok_or("COLUMN_IDS has no key column")?;
    let upsert_url = format!("{}/rows/actions/bulk/upsert", std::env::var("AUDIENCE_URL")?);
    let audience = Audience { upsert_url, column_ids, key_column_id };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ids = runtime.block_on(deliver(&path, &audience))?;
    println!("{}", ids.len());
    Ok(())
}

async fn deliver(path: &str, audience: &Audience) -> Result<Vec<String>, Error> {
    let client = reqwest::Client::new();
    let rows = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.with_batch_size(ROWS_PER_REQUEST).build()?;
    let requests = stream::iter(rows).map(|batch| post(&client, audience, batch));
    requests
        .buffer_unordered(REQUESTS_AT_ONCE)
        .try_fold(Vec::new(), async |mut ids, made| {
            ids.extend(made);
            Ok(ids)
        })
        .await
}

async fn post(
    client: &reqwest::Client,
    audience: &Audience,
    batch: Result<RecordBatch, arrow_schema::ArrowError>,
) -> Result<Vec<String>, Error> {
    let body = encode(audience, &batch?)?;
    let request = client.post(&audience.upsert_url).bearer_auth("bench");
    let answer = request.header("content-type", "application/vnd.api+json").body(body).send().await?;
    if answer.status() != 200 {
        return Err(format!("the destination answers {}", answer.status()).into());
    }
    let made: Upserted = serde_json::from_slice(&answer.bytes().await?)?;
    Ok(made.data.into_iter().map(|row| row.id).collect())
}

fn encode(audience: &Audience, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
    let keys: &BinaryArray = batch.column_by_name("key").ok_or("the file has no keys")?.as_binary();
    let mut columns: Vec<(&str, bool, &StringArray)> = Vec::new();
    for (field, cells) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if let Some(id) = audience.column_ids.get(field.name()) {
            columns.push((id, field.name() == NUMBER_COLUMN, cells.as_string()));
        }
    }
    let data = (0..batch.num_rows()).map(|row| {
        let mut values = Vec::with_capacity(columns.len() + 1);
        for (column_id, is_number, cells) in &columns {
            let value = match cells.is_valid(row).then(|| cells.value(row)) {
                None => NewValue::Null,
                Some(text) if *is_number => NewValue::Number(text.parse()?),
                Some(text) => NewValue::Text(text),
            };
            values.push(NewCell { column_id, value });
        }
        values.push(NewCell { column_id: &audience.key_column_id, value: NewValue::Key(key_cell(keys.value(row))) });
        Ok(NewRow { kind: "Row", attributes: NewCells { values } })
    });
    let data = data.collect::<Result<Vec<_>, Error>>()?;
    Ok(serde_json::to_vec(&Upsert { data })?)
}

/// The key's hash, and a tag that is the same for all.
fn key_cell(hash: &[u8]) -> String {
    let mut text = String::with_capacity(41);
    for byte in hash {
        write!(text, "{byte:02x}").expect("a text takes every write");
    }
    text.push_str(".00000001");
    text
}

//! `init`: a configuration for a CSV drop folder, from the header of its newest file.
//!
//! What it writes is meant to be read and changed; it writes nothing over what is there.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use convoke_core::source::Source;
use convoke_core::spec::{CsvDropSpec, DropMode, DropPlace, ProcessedFiles};
use convoke_pipeline::chain;
use convoke_source_drop::CsvDrop;
use serde_json::json;

use crate::cli::Global;
use crate::clock::SystemClock;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

const SETTINGS: &str = include_str!("../../../../config/convoke.yaml");
const CONNECTIONS: &str = include_str!("../../../../config/connections.yaml");

pub(crate) async fn init(
    global: &Global,
    sync: &str,
    (drop, delimiter): (&Path, Option<char>),
) -> Result<Exit, Failure> {
    if !convoke_config::is_name(sync) {
        return Err(Failure::usage(format!(
            "`{sync}` is no name for a sync; use at most 64 lower-case letters and digits, with `-` between them"
        )));
    }
    let (delimiter, columns) = match delimiter {
        Some(delimiter) => (delimiter, header(drop, delimiter).await?),
        None => widest_header(drop).await?,
    };
    refuse_values(&columns)?;
    let files = [
        (global.config.join("convoke.yaml"), SETTINGS.to_owned()),
        (global.config.join("connections.yaml"), CONNECTIONS.to_owned()),
        (global.config.join("syncs").join(format!("{sync}.yaml")), scaffold(sync, (drop, delimiter), &columns)),
    ];
    let target = &files[2].0;
    if target.exists() {
        return Err(Failure::usage(format!("`{}` is there already; name another sync", target.display())));
    }
    for (path, contents) in &files {
        write_new(path, contents)?;
    }
    if global.json {
        output::json(&json!({ "sync": sync, "file": target, "columns": columns }));
        return Ok(Exit::Success);
    }
    output::line(format!("next: read {}, then", target.display()));
    for command in ["check --connect", &format!("preview {sync}"), &format!("plan {sync}"), &format!("run {sync}")] {
        output::line(format!("   convoke --config {} {command}", global.config.display()));
    }
    Ok(Exit::Success)
}

/// The separator under which the header has the most columns: a wrong one finds a single column.
async fn widest_header(drop: &Path) -> Result<(char, Vec<String>), Failure> {
    let mut widest = (',', header(drop, ',').await?);
    for delimiter in [';', '\t', '|'] {
        // A header that breaks under this separator is not separated by it.
        if let Ok(columns) = header(drop, delimiter).await
            && columns.len() > widest.1.len()
        {
            widest = (delimiter, columns);
        }
    }
    Ok(widest)
}

/// A first line with an address in it is a record: mapping by it would name columns after a person.
fn refuse_values(columns: &[String]) -> Result<(), Failure> {
    if columns.iter().any(|column| column.contains('@')) {
        let message = "the newest file's first line holds a value, so it has no header; add one that names the columns";
        return Err(Failure::usage(message));
    }
    Ok(())
}

async fn header(drop: &Path, delimiter: char) -> Result<Vec<String>, Failure> {
    let spec = CsvDropSpec {
        place: DropPlace::Folder { path: drop.to_owned() },
        pattern: "*.csv".to_owned(),
        drop_mode: DropMode::Snapshot,
        settle: Duration::ZERO,
        done_suffix: None,
        manifest: None,
        processed: ProcessedFiles::Keep,
        delimiter: Some(delimiter),
        encoding: None,
        columns: Vec::new(),
        aliases: Vec::new(),
        max_malformed: 1.0,
    };
    let source = CsvDrop::open(spec, None, Arc::new(SystemClock)).map_err(|error| Failure::failed(chain(&error)))?;
    let schema = source.describe().await.map_err(|error| Failure::failed(chain(&error)))?;
    Ok(schema.schema.fields().iter().map(|field| field.name().clone()).collect())
}

/// Writes a file that is not there; leaves one that is.
fn write_new(path: &PathBuf, contents: &str) -> Result<(), Failure> {
    if path.exists() {
        output::line(format!("kept     {}", path.display()));
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, contents));
    written.map_err(|error| Failure::caused(&format!("writing `{}`", path.display()), &error))?;
    output::line(format!("written  {}", path.display()));
    Ok(())
}

fn scaffold(sync: &str, (drop, delimiter): (&Path, char), columns: &[String]) -> String {
    let email = columns.iter().find(|column| is_email(column));
    let updated = columns.iter().find(|column| is_update_time(column));
    let drop = std::path::absolute(drop).unwrap_or_else(|_| drop.to_owned());
    let mut text = format!(
        "# Made from the header of the newest file in the drop folder. Read it, then change what does not fit.\n\
         sync: {sync}\n\n\
         source:\n  csv_drop:\n    path: {}\n    mode: snapshot # the newest file is the whole truth; append: each file adds\n    delimiter: {}\n\n\
         map: # audience column: source column, or {{ sql, type }}\n",
        quoted(&drop.display().to_string()),
        quoted(&delimiter.to_string())
    );
    for column in columns {
        let line = if Some(column) == email {
            format!(
                "  {}: {{ sql: {}, type: EMAIL }}\n",
                quoted(column),
                quoted(&format!("normalize_email(\"{column}\")"))
            )
        } else {
            format!("  {}: {}\n", quoted(column), quoted(column))
        };
        text.push_str(&line);
    }
    let key = email.or(columns.first()).map_or("", String::as_str);
    let _ = write!(text, "\nkey: [{}] # what makes two records the same\n", quoted(key));
    if let Some(updated) = updated {
        let _ = write!(text, "\ndedupe: {{ keep: latest, by: {} }}\n", quoted(updated));
    }
    let _ = write!(
        text,
        "\naudience:\n  gtm:\n    connection: local\n    name: {}\n    type: CONTACT\n\nmode: upsert # mirror: also delete rows that are no longer in the source\n",
        quoted(sync)
    );
    text
}

fn is_email(column: &str) -> bool {
    let plain = column.to_ascii_lowercase().replace(['-', '_', ' '], "");
    plain.contains("email")
}

fn is_update_time(column: &str) -> bool {
    let plain = column.to_ascii_lowercase().replace(['-', ' '], "_");
    ["updated_at", "modified_at", "last_modified", "updated", "modified"].contains(&plain.as_str())
}

/// A YAML string in double quotes: any header is safe in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

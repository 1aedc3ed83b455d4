//! Exports rejects: a page at a time, into a private file that is there whole or not at all.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use convoke_core::state::StateStore;
use serde_json::json;
use tempfile::NamedTempFile;

use super::format::{Exporter, is_text};
use super::{Target, Wanted, nothing};
use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// Writes the rejects; without any, a file without records: whoever reads it each night reads that there are none.
pub(super) async fn export(
    global: &Global,
    state: &dyn StateStore,
    wanted: &Wanted,
    target: &Target,
) -> Result<Exit, Failure> {
    let Some(file) = &target.file else { return to_standard_output(global, state, wanted, target).await };
    refuse_existing(file, target.force)?;
    let failed = |error: io::Error| Failure::caused(&format!("writing `{}`", file.display()), &error);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Of mode 0600, and removed again unless it is kept.
    let staged = tempfile::Builder::new().prefix(".rejects-").suffix(".part").tempfile_in(folder).map_err(failed)?;
    let writer = io::BufWriter::new(staged.as_file().try_clone().map_err(failed)?);
    let exported = write_all(state, wanted, Exporter::new(target.format, writer), failed).await?;
    staged.as_file().sync_all().map_err(failed)?;
    put_in_place(staged, file, target.force)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    if global.json {
        output::json(&json!({ "exported": exported, "file": file }));
    } else {
        output::line(format!("{exported} rejects written to {}", file.display()));
    }
    Ok(Exit::Success)
}

async fn to_standard_output(
    global: &Global,
    state: &dyn StateStore,
    wanted: &Wanted,
    target: &Target,
) -> Result<Exit, Failure> {
    if !is_text(target.format) {
        return Err(Failure::usage(
            "Avro and Parquet go to a file, not to standard output; name one with `--output FILE`",
        ));
    }
    if global.json {
        let message = "`--json` tells what was written to a file; name one with `--output FILE`, or ask for \
                       `--format ndjson` instead";
        return Err(Failure::usage(message));
    }
    let failed = |error: io::Error| Failure::caused("writing to standard output", &error);
    write_all(state, wanted, Exporter::new(target.format, output::stream()), failed).await?;
    Ok(Exit::Success)
}

async fn write_all<Sink: Write + Send>(
    state: &dyn StateStore,
    wanted: &Wanted,
    exporter: io::Result<Exporter<Sink>>,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<u64, Failure> {
    let mut page = wanted.page(state, None).await?;
    if page.is_empty() {
        eprintln!("note: {}", nothing(wanted));
    }
    let mut exporter = exporter.map_err(&failed)?;
    let mut exported = 0;
    while let Some(last) = page.last() {
        match exporter.write(wanted, &page) {
            // A reader that went away (`… | head`) is no error of ours.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(exported),
            written => written.map_err(&failed)?,
        }
        exported += page.len() as u64;
        page = wanted.page(state, Some(last)).await?;
    }
    match exporter.finish() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(exported),
    }
}

/// An export must not replace what somebody kept. Looked at before the work, and again when the file is put in place.
fn refuse_existing(file: &Path, force: bool) -> Result<(), Failure> {
    if file.is_dir() {
        return Err(Failure::usage(format!("`{}` is a folder; name a file in it", file.display())));
    }
    if !force && file.symlink_metadata().is_ok() {
        return Err(already_there(file));
    }
    Ok(())
}

fn put_in_place(staged: NamedTempFile, file: &Path, force: bool) -> Result<(), Failure> {
    let put = if force { staged.persist(file) } else { staged.persist_noclobber(file) };
    match put {
        Ok(_) => Ok(()),
        Err(failed) if failed.error.kind() == ErrorKind::AlreadyExists => Err(already_there(file)),
        Err(failed) => Err(Failure::caused(&format!("writing `{}`", file.display()), &failed.error)),
    }
}

fn already_there(file: &Path) -> Failure {
    Failure::usage(format!("`{}` is there already; name another file, or replace it with `--force`", file.display()))
}

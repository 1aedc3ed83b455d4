//! Replays what the fuzz targets have found worth keeping.

use std::fs;
use std::path::Path;

#[path = "../../../../tests/fuzz/oracles/avro.rs"]
mod avro;
#[path = "../../../../tests/fuzz/oracles/csv.rs"]
mod csv;
#[path = "../../../../tests/fuzz/oracles/ndjson.rs"]
mod ndjson;
#[path = "../../../../tests/fuzz/oracles/reading.rs"]
mod reading;

/// Checks every file of a corpus.
fn replay(corpus: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(corpus);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "the corpus is there");
}

#[test]
fn the_corpus_of_csv_holds() {
    replay("csv", csv::check);
}

#[test]
fn the_corpus_of_ndjson_holds() {
    replay("ndjson", ndjson::check);
}

#[test]
fn the_corpus_of_avro_holds() {
    replay("avro", avro::check);
}

//! Replays what the fuzz target has found worth keeping.

use std::fs;
use std::path::Path;

#[path = "../../../../tests/fuzz/oracles/config.rs"]
mod oracle;

#[test]
fn the_corpus_of_configurations_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/config");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        oracle::check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "the corpus is there");
}

#![no_main]

#[path = "../oracles/ndjson.rs"]
mod oracle;
#[path = "../oracles/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracle::check(data));

#![no_main]

#[path = "../oracles/avro.rs"]
mod oracle;
#[path = "../oracles/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracle::check(data));

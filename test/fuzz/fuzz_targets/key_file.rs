//! The content of a key file: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("key_file", data));

//! The text of a path of a session: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("rtrs_path", data));

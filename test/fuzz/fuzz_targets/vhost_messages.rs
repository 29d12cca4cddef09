//! Any messages of a vhost-user front end, with files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("vhost_messages", data));

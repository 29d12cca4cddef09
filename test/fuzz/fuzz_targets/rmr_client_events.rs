//! Any messages and events for the client engine, in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("rmr_client_events", data));

//! Any messages and events for the store engine, in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("rmr_store_events", data));

//! Any frames and events for a client's lane, in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("rtrs_client_events", data));

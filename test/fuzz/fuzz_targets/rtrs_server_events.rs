//! Any frames and events for a server of sessions, in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("rtrs_server_events", data));

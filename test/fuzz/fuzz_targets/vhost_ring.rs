//! Any bytes as a guest's memory and rings, and a device that dies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("vhost_ring", data));

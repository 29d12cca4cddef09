//! A core mask: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("cpu_mask", data));

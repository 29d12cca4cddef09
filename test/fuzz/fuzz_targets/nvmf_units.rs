//! A stream of NVMe/TCP units: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("nvmf_units", data));

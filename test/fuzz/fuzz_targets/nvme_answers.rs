//! What an NVMe/TCP controller may answer: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("nvme_answers", data));

//! The parameters of an RPC method: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| test_corpus::run("rpc_params", data));

//! The process: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    rmr_rpc::main()
}

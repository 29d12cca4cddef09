//! The command `rmr-perf`: see the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    rmr_perf::main()
}

//! Exit codes of the process.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | it was told to stop and did, or `--help` or `--version` was asked for |
//! | 1 | something else failed, or a reactor did not stop in time |
//! | 2 | the command line is wrong |
//! | 3 | io_uring is refused |
//! | 4 | a core cannot be had: another target polls on it, or it is absent or not allowed |
//! | 5 | the configuration file is wrong, or a call in it failed |
//! | 6 | the RPC socket or the metrics address cannot be had: another has it, or it is wrong |
//! | 7 | DMA memory cannot be set up |
//! | 130, 143 | a second SIGINT or SIGTERM cut the stop short |

/// It did what it was told.
pub const OK: u8 = 0;
/// Something that has no code of its own.
pub const ERROR: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// io_uring is refused.
pub const URING: u8 = 3;
/// A core cannot be had.
pub const CORE: u8 = 4;
/// The configuration could not be loaded.
pub const CONFIG: u8 = 5;
/// The RPC socket or the metrics address cannot be had.
pub const SOCKET: u8 = 6;
/// DMA memory cannot be set up.
pub const MEMORY: u8 = 7;
/// Added to the number of the second signal.
pub const SIGNAL: u8 = 128;

//! The arguments of `rmr_tgt demo`.

use clap::{ArgAction, Args};
use std::path::PathBuf;

const ABOUT: &str =
    "Three storage nodes and a compute node on this machine: a replicated device to try things on";

const EXAMPLES: &str = "\
Four processes of this program run on 127.0.0.1 until Ctrl-C: three storage nodes, each with a disk of its own, and a compute
node with the device Brmr0, of which every storage node holds a copy. It needs no root, no hugepages and no preparation.
What is made lies in a temporary folder and is removed at the end.

From another terminal, while it runs:
  rmr_tgt demo --status          who runs, who is up to date, what is still to be copied
  rmr_tgt demo --load            1000 reads and writes; every block read is checked
  kill -9 PID                    a node dies: the device goes on
  rmr_tgt demo --restart 1       start it again: it copies what it may have missed

Examples:
  rmr_tgt demo                   on sparse files in a temporary folder
  rmr_tgt demo --ram             on disks in memory: a node that dies comes back empty, and copies everything
  rmr_tgt demo --dir DIR         keeps the disks; the next one with the same DIR goes on with them
  rmr_tgt demo -r /tmp/my.sock   the compute node's RPC socket; say the same -r from the other terminal

Exit codes: 0 done, 1 something failed, 2 usage, 130, 143: a second signal cut the stop short.";

/// Arguments of `rmr_tgt demo`.
#[derive(Clone, Debug, Default, Args)]
#[command(about = ABOUT, after_help = EXAMPLES)]
pub struct DemoArgs {
    /// RPC socket of the compute node [default: /var/tmp/spdk.sock]
    #[arg(short = 'r', long, value_name = "PATH")]
    pub(super) rpc_socket: Option<PathBuf>,
    /// Keep disks, logs and configurations in this folder; one that an earlier demo left is gone on with
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ram", "status", "load", "restart"])]
    pub(super) dir: Option<PathBuf>,
    /// Disks in memory instead of files
    #[arg(long, conflicts_with_all = ["status", "load", "restart"])]
    pub(super) ram: bool,
    /// Bytes of the device in MiB: 16 to 65536 [default: 128, or as --dir has it]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=65536),
        conflicts_with_all = ["status", "load", "restart"])]
    pub(super) size: Option<u64>,
    /// Show how the demo that runs stands
    #[arg(long, conflicts_with_all = ["load", "restart"])]
    pub(super) status: bool,
    /// Run checked load of so many requests on the device of the demo that runs [default: 1000]
    #[arg(long, value_name = "REQUESTS", num_args = 0..=1, default_missing_value = "1000",
        value_parser = clap::value_parser!(u64).range(1..=100_000_000), conflicts_with = "restart")]
    pub(super) load: Option<u64>,
    /// Start a node of the demo that runs again, after it has died: 0, 1, 2 or compute
    #[arg(long, value_name = "NODE")]
    pub(super) restart: Option<super::Name>,
    /// Show this
    #[arg(short = 'h', long, action = ArgAction::Help)]
    pub(super) help: Option<bool>,
}

//! The arguments, in the groups in which `--help` shows them.

use super::help;
use crate::demo::DemoArgs;
use crate::log::Format;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use uuid::Uuid;

const CORES: &str = "Cores";
const MEMORY: &str = "Memory";
const CONTROL: &str = "Configuration and RPC";
const SESSIONS: &str = "Sessions with other hosts";
const LOGS: &str = "Logs";
const GENERAL: &str = "General";
const IGNORED: &str = "Accepted for SPDK's scripts, without effect";

/// Command line of `rmr_tgt`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "rmr_tgt",
    about = help::ABOUT,
    after_help = help::EXAMPLES,
    version = crate::VERSION,
    disable_version_flag = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    subcommand_value_name = "demo",
    subcommand_help_heading = "To try it out",
    args_conflicts_with_subcommands = true,
    max_term_width = 110
)]
pub struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,

    /// Cores to run on, one reactor each: 0x3, [0,1] or 0-1 [default: 0x1]
    #[arg(short = 'm', long, value_name = "MASK", help_heading = CORES)]
    pub(super) cpumask: Option<String>,
    /// Reactors and their CPUs as DPDK writes them: 0@4,1@5
    #[arg(long, value_name = "MAP", conflicts_with = "cpumask", help_heading = CORES)]
    pub(super) lcores: Option<String>,
    /// Never sleep: every reactor takes its whole core
    #[arg(long, conflicts_with_all = ["interrupt_mode", "spin_us"], help_heading = CORES)]
    pub(super) poll: bool,
    /// Sleep as soon as there is nothing to do
    #[arg(long, conflicts_with = "spin_us", help_heading = CORES)]
    pub(super) interrupt_mode: bool,
    /// Poll for so long without work before sleeping [default: 50]
    #[arg(long, value_name = "N", help_heading = CORES)]
    pub(super) spin_us: Option<u32>,
    /// Do not claim the cores with lock files
    #[arg(long, help_heading = CORES)]
    pub(super) disable_cpumask_locks: bool,

    /// Most DMA memory to take, in MiB or with a suffix (512M, 4G) [default: what the machine has]
    #[arg(short = 's', long, value_name = "SIZE", help_heading = MEMORY)]
    pub(super) mem_size: Option<String>,
    /// Ordinary pages, even where there are hugepages
    #[arg(long, help_heading = MEMORY)]
    pub(super) no_huge: bool,
    /// Do not register IO buffers with the kernel for reads and writes of files
    #[arg(long, help_heading = MEMORY)]
    pub(super) no_registered_buffers: bool,
    /// Demand hugepages of this size, instead of 2M ones if there are any
    #[arg(long, value_name = "SIZE", help_heading = MEMORY, conflicts_with = "no_huge")]
    pub(super) hugepage_size: Option<HugepageSize>,

    /// Configuration in SPDK's JSON format, // and /* */ comments allowed
    #[arg(short = 'c', long, visible_alias = "json", value_name = "FILE", help_heading = CONTROL)]
    pub(super) config: Option<PathBuf>,
    /// Go on when a call of the configuration fails
    #[arg(long, help_heading = CONTROL)]
    pub(super) json_ignore_init_errors: bool,
    /// RPC socket [default: /var/tmp/spdk.sock]
    #[arg(short = 'r', long, value_name = "PATH", help_heading = CONTROL)]
    pub(super) rpc_socket: Option<PathBuf>,
    /// No RPC socket
    #[arg(long, conflicts_with_all = ["rpc_socket", "wait_for_rpc", "rpcs_allowed"], help_heading = CONTROL)]
    pub(super) no_rpc_server: bool,
    /// Stay in startup until framework_start_init is called
    #[arg(long, conflicts_with = "config", help_heading = CONTROL)]
    pub(super) wait_for_rpc: bool,
    /// The only methods that exist for clients, with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = CONTROL)]
    pub(super) rpcs_allowed: Option<Vec<String>>,
    /// Serve figures for Prometheus on http://ADDRESS/metrics: PORT on 127.0.0.1, or IP:PORT [default: not served]
    #[arg(long, value_name = "ADDRESS", value_parser = tgt_metrics::parse_address, help_heading = CONTROL)]
    pub(super) metrics: Option<SocketAddr>,

    /// Let clients run load on bdevs (rmr_run_load), which overwrites what they hold
    #[arg(long, help_heading = CONTROL)]
    pub(super) allow_load: bool,
    /// Directory in which vhost controllers make their sockets [default: the current one]
    #[arg(short = 'S', long, value_name = "DIR", help_heading = CONTROL)]
    pub(super) vhost_dir: Option<PathBuf>,

    /// Who this host is to its peers: the same after each start, and no other's [default: made of /etc/machine-id and the path of the RPC socket]
    #[arg(long, value_name = "UUID", value_parser = host_id, help_heading = SESSIONS)]
    pub(super) host_id: Option<Uuid>,
    /// Sessions without a key also to and from other hosts; whoever reaches a listener is let in
    #[arg(long, help_heading = SESSIONS)]
    pub(super) insecure_sessions: bool,

    /// Write INFO and DEBUG logs of a component, or all; may be repeated
    #[arg(short = 'L', long, value_name = "FLAG", value_delimiter = ',', help_heading = LOGS)]
    pub(super) logflag: Vec<String>,
    /// Write warnings and errors only
    #[arg(long, help_heading = LOGS)]
    pub(super) silence_noticelog: bool,
    /// How logs look
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", help_heading = LOGS)]
    pub(super) log_format: Format,

    /// Leave the limit on core dumps as it is, instead of raising it
    #[arg(short = 'd', long, help_heading = GENERAL)]
    pub(super) limit_coredump: bool,
    /// End with the process that started this one, however that ends: its process id
    #[arg(long, value_name = "PID", help_heading = GENERAL, hide = true)]
    pub(super) ends_with: Option<i32>,
    /// Show the version
    #[arg(short = 'v', long, action = ArgAction::Version, help_heading = GENERAL)]
    version: (),
    /// Show this
    #[arg(short = 'h', long, action = ArgAction::HelpShort, help_heading = GENERAL)]
    help: (),

    #[command(flatten)]
    pub(super) ignored: Ignored,
}

/// What this program does besides being a target.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Three storage nodes and a compute node on this machine: a replicated device to try things on
    Demo(Box<DemoArgs>),
}

/// Options of SPDK's that mean nothing here: there is no DPDK below.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = IGNORED)]
pub(super) struct Ignored {
    /// Main core
    #[arg(short = 'p', long, value_name = "CORE")]
    main_core: Option<String>,
    /// Mount of hugetlbfs
    #[arg(long, value_name = "DIR")]
    huge_dir: Option<String>,
    /// Unlink hugepage files
    #[arg(short = 'R', long)]
    huge_unlink: bool,
    /// Memory channels
    #[arg(short = 'n', long, value_name = "N")]
    mem_channels: Option<String>,
    /// Shared memory id
    #[arg(short = 'i', long, value_name = "ID")]
    shm_id: Option<String>,
    /// Single file segments
    #[arg(short = 'g', long)]
    single_file_segments: bool,
    /// PCI devices to use
    #[arg(short = 'A', long, value_name = "BDF")]
    pci_allowed: Vec<String>,
    /// PCI devices not to use
    #[arg(short = 'B', long, value_name = "BDF")]
    pci_blocked: Vec<String>,
    /// No PCI access
    #[arg(short = 'u', long)]
    no_pci: bool,
    /// IOVA mode
    #[arg(long, value_name = "MODE")]
    iova_mode: Option<String>,
    /// Base virtual address
    #[arg(long, value_name = "ADDR")]
    base_virtaddr: Option<String>,
    /// Messages in the pool
    #[arg(long, value_name = "N")]
    msg_mempool_size: Option<String>,
    /// Refuse memory of other nodes
    #[arg(long)]
    enforce_numa: bool,
    /// Trace points
    #[arg(short = 'e', long, value_name = "MASK")]
    tpoint_group: Option<String>,
    /// Trace entries
    #[arg(long, value_name = "N")]
    num_trace_entries: Option<String>,
    /// Arguments for the environment layer
    #[arg(long, value_name = "ARGS")]
    env_context: Option<String>,
}

impl Ignored {
    /// Those that were given.
    pub(super) fn given(&self) -> Vec<&'static str> {
        let all = [
            ("-p/--main-core", self.main_core.is_some()),
            ("--huge-dir", self.huge_dir.is_some()),
            ("-R/--huge-unlink", self.huge_unlink),
            ("-n/--mem-channels", self.mem_channels.is_some()),
            ("-i/--shm-id", self.shm_id.is_some()),
            ("-g/--single-file-segments", self.single_file_segments),
            ("-A/--pci-allowed", !self.pci_allowed.is_empty()),
            ("-B/--pci-blocked", !self.pci_blocked.is_empty()),
            ("-u/--no-pci", self.no_pci),
            ("--iova-mode", self.iova_mode.is_some()),
            ("--base-virtaddr", self.base_virtaddr.is_some()),
            ("--msg-mempool-size", self.msg_mempool_size.is_some()),
            ("--enforce-numa", self.enforce_numa),
            ("-e/--tpoint-group", self.tpoint_group.is_some()),
            ("--num-trace-entries", self.num_trace_entries.is_some()),
            ("--env-context", self.env_context.is_some()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}

/// All zeros would be anybody's.
fn host_id(text: &str) -> Result<Uuid, String> {
    match Uuid::parse_str(text) {
        Ok(uuid) if !uuid.is_nil() => Ok(uuid),
        _ => Err("accepted: a UUID that is not all zeros, as uuidgen makes them".to_owned()),
    }
}

/// Hugepages that may be demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum HugepageSize {
    /// 2 MiB.
    #[value(name = "2M")]
    TwoMiB,
    /// 1 GiB.
    #[value(name = "1G")]
    OneGiB,
}

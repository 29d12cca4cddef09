//! The command line. Option letters are those of SPDK's bdevperf where it has the option.

use crate::units::{parse_seconds, parse_size};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use perf_load::{Limit, Workload};
use std::path::PathBuf;
use std::time::Duration;
use tgt_env::cores::CpuMask;
use tgt_env::memory::{MemoryConfig, PageSize, Registration};
use tgt_reactor::SleepPolicy;

/// How long a run takes if nobody says.
const DEFAULT_TIME: Duration = Duration::from_secs(10);

/// Reads of a mixed workload if nobody says, in percent.
const DEFAULT_READ_PERCENT: u8 = 50;

const KINDS: &str = "\
Kind of IO: read, write, rw (in sequence), randread, randwrite, randrw,
write_zeroes, unmap, flush; verify: as randrw, every block stamped and checked";

const EXAMPLES: &str = "\
Examples:
  What the block layer itself costs: random 4 KiB reads, 128 in flight, 10 seconds
      rmr-perf bdev -c null.json -q 128 -o 4096 -w randread -t 10
  Two cores on every bdev, 7 reads to 3 writes
      rmr-perf bdev -c malloc.json -m 0x3 -C -w randrw -M 70
  Exactly a million IOs on one of several bdevs, for a script
      rmr-perf bdev -c cfg.json -b Malloc0 -o 128k -w write --ios 1000000 --json | jq .iops

  Is everything that was acknowledged still there, whatever was killed and restarted in between?
      rmr-perf bdev -c cfg.json -b Malloc0 -w verify -t 60 --state load.state

Workloads other than read, randread and flush destroy what the bdevs hold.

Exit codes: 0 done (also when Ctrl-C ended it early), 1 IO failed or something else did, 2 the command line is
wrong, 3 io_uring is refused, 4 a core cannot be had, 5 the configuration is wrong, 6 the RPC socket cannot be had,
7 memory cannot be had, 130 or 143 a second Ctrl-C or SIGTERM ended the process at once.";

/// Measures the storage target on pinned cores.
#[derive(Debug, Parser)]
#[command(name = "rmr-perf", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Keep queues of IO full on bdevs; tell IOPS, MiB/s and latencies
    #[command(after_help = EXAMPLES)]
    Bdev(Box<BdevArgs>),
    /// Show two results of `rmr-perf bdev --json` side by side
    Compare(CompareArgs),
    /// Requests over a session between two processes, beside what the machine can give
    #[command(after_help = crate::rtrs::EXAMPLES)]
    Rtrs(crate::rtrs::RtrsArgs),
}

/// Two results.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// What the other is compared with
    pub(crate) first: PathBuf,
    /// The other
    pub(crate) second: PathBuf,
}

/// What to measure, and how.
#[derive(Debug, Args)]
pub(crate) struct BdevArgs {
    /// Configuration that makes the bdevs, in SPDK's JSON format
    #[arg(short, long, value_name = "FILE", help_heading = "What to measure")]
    pub(crate) config: PathBuf,
    /// Bdev to load; may be repeated [default: all that nothing claims]
    #[arg(short, long = "bdev", short_alias = 'T', value_name = "NAME", help_heading = "What to measure")]
    pub(crate) bdevs: Vec<String>,

    /// Kind of IO
    #[arg(short, long, value_name = "KIND", default_value = "randread", value_parser = workloads(), help = KINDS, hide_possible_values = true, help_heading = "Workload")]
    pub(crate) workload: Workload,
    /// Reads in rw, randrw and verify, in percent [default: 50]
    #[arg(short = 'M', long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100), help_heading = "Workload")]
    pub(crate) read_percent: Option<u8>,
    /// IOs in flight per job (one bdev on one core)
    #[arg(short, long, value_name = "DEPTH", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = "Workload")]
    pub(crate) queue_depth: u32,
    /// Bytes of an IO, 512 to 2M; with a suffix: 4k, 128k
    #[arg(short = 'o', long = "io-size", value_name = "SIZE", default_value = "4096", value_parser = parse_size, help_heading = "Workload")]
    pub(crate) io_bytes: u32,
    /// Seconds to run; fractions will do [default: 10]
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds, conflicts_with = "ios", help_heading = "Workload")]
    pub(crate) time: Option<Duration>,
    /// Do exactly so many IOs per job, instead of running for a time
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Workload")]
    pub(crate) ios: Option<u64>,
    /// Go on after a failed IO
    #[arg(short = 'f', long, help_heading = "Workload")]
    pub(crate) continue_on_error: bool,
    /// With -w verify: keep here what was written, and check first what an earlier run wrote
    #[arg(long, value_name = "FILE", help_heading = "Workload")]
    pub(crate) state: Option<PathBuf>,
    /// The same seed gives the same addresses
    #[arg(long, value_name = "NUMBER", default_value_t = 1, help_heading = "Workload")]
    pub(crate) seed: u64,

    /// Cores: 0x3, [0,1], [0-3,8], 0-1
    #[arg(
        short = 'm',
        long = "cpumask",
        value_name = "MASK",
        default_value = "0x1",
        help_heading = "Cores and memory"
    )]
    pub(crate) cores: CpuMask,
    /// Load every bdev from every core [default: bdevs go to the cores in turn]
    #[arg(short = 'C', long, help_heading = "Cores and memory")]
    pub(crate) every_core: bool,
    /// Never sleep, as SPDK does [default: sleep when idle]
    #[arg(long, conflicts_with = "spin_us", help_heading = "Cores and memory")]
    pub(crate) poll: bool,
    /// Idle time before a core sleeps [default: 50]
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32), help_heading = "Cores and memory")]
    pub(crate) spin_us: Option<u32>,
    /// Most DMA memory to take, in MiB [default: what there is]
    #[arg(short = 's', long = "mem-size", value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30), help_heading = "Cores and memory")]
    pub(crate) memory_mib: Option<u64>,
    /// Ordinary pages, even where there are hugepages
    #[arg(long, help_heading = "Cores and memory")]
    pub(crate) no_huge: bool,
    /// Do not register IO buffers with the kernel for reads and writes of files
    #[arg(long, help_heading = "Cores and memory")]
    pub(crate) no_registered_buffers: bool,
    /// Take no lock files for the cores
    #[arg(long, help_heading = "Cores and memory")]
    pub(crate) disable_cpumask_locks: bool,

    /// The result as one JSON object on standard output
    #[arg(long, help_heading = "Output and control")]
    pub(crate) json: bool,
    /// Draw latencies and IOPS over time into this file (SVG)
    #[arg(long, value_name = "FILE", help_heading = "Output and control")]
    pub(crate) plot: Option<PathBuf>,
    /// Keep no latencies: saves a few cycles per IO
    #[arg(long, help_heading = "Output and control")]
    pub(crate) no_latency: bool,
    /// Serve JSON-RPC on this socket meanwhile [default: no RPC]
    #[arg(short, long, value_name = "SOCKET", help_heading = "Output and control")]
    pub(crate) rpc_socket: Option<PathBuf>,
    /// Go on when a call of the configuration fails
    #[arg(long, help_heading = "Output and control")]
    pub(crate) json_ignore_init_errors: bool,
}

fn workloads() -> impl TypedValueParser<Value = Workload> {
    let named = |name: String| Workload::NAMES.into_iter().find(|(known, _)| *known == name);
    PossibleValuesParser::new(Workload::NAMES.map(|(name, _)| name))
        .map(move |name| named(name).expect("the parser lets only these names pass").1)
}

impl Cli {
    /// Reads the arguments of the process; ends it on `--help`, `--version` and on what is wrong (exit code 2).
    pub(crate) fn from_process() -> Cli {
        Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn read<T: Into<std::ffi::OsString> + Clone>(
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<Cli, clap::Error> {
        let cli = Cli::try_parse_from(arguments).map_err(with_tip)?;
        if let Command::Bdev(args) = &cli.command {
            args.check()?;
        }
        Ok(cli)
    }
}

/// In bdevperf `--json` names the configuration: say so to whoever brings that habit.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let stray = error.kind() == ErrorKind::UnknownArgument
        && matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(text)) if !text.starts_with('-'));
    if stray {
        let tip = "the configuration is given with -c; --json takes no value here, it asks for JSON output";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// An error of `rmr-perf bdev` that looks like clap's own.
fn usage_error(why: String) -> clap::Error {
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    let bdev = command.find_subcommand_mut("bdev").expect("it is defined above");
    bdev.error(ErrorKind::ArgumentConflict, why)
}

impl BdevArgs {
    /// What no single option can tell.
    fn check(&self) -> Result<(), clap::Error> {
        match self.read_percent {
            Some(percent) if !self.workload.is_mixed() => {
                let why = format!(
                    "invalid value '{percent}' for '-M <PERCENT>': a share of reads goes with -w rw or randrw or verify, not with {}",
                    self.workload.name()
                );
                Err(usage_error(why))
            }
            _ if self.state.is_some() && self.workload != Workload::Verify => {
                let name = self.workload.name();
                Err(usage_error(format!("--state <FILE> goes with -w verify, not with {name}")))
            }
            _ => Ok(()),
        }
    }

    /// Reads of a mixed workload in percent; none if the workload is not mixed.
    pub(crate) fn read_percent(&self) -> Option<u8> {
        self.workload.is_mixed().then(|| self.read_percent.unwrap_or(DEFAULT_READ_PERCENT))
    }

    /// When each job ends.
    pub(crate) fn limit(&self) -> Limit {
        self.ios.map_or_else(|| Limit::Time(self.time.unwrap_or(DEFAULT_TIME)), Limit::Ios)
    }

    /// When reactors sleep.
    pub(crate) fn sleep(&self) -> SleepPolicy {
        match self.spin_us {
            _ if self.poll => SleepPolicy::Never,
            Some(spin) => SleepPolicy::After(Duration::from_micros(spin.into())),
            None => SleepPolicy::ADAPTIVE,
        }
    }

    /// Which memory to take.
    pub(crate) fn memory(&self) -> MemoryConfig {
        MemoryConfig {
            page_size: if self.no_huge { PageSize::Ordinary } else { PageSize::Auto },
            limit_bytes: self.memory_mib.map(|mib| mib << 20),
            registration: if self.no_registered_buffers { Registration::Off } else { Registration::Auto },
            ..MemoryConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<BdevArgs, String> {
        let words = ["rmr-perf", "bdev"].into_iter().chain(line.split_whitespace());
        let cli = Cli::read(words).map_err(|error| error.to_string())?;
        let Command::Bdev(args) = cli.command else { panic!("another command") };
        Ok(*args)
    }

    #[test]
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_configuration_is_all_it_needs() {
        let args = read("-c a.json").expect("defaults");
        assert_eq!((args.workload, args.queue_depth, args.io_bytes), (Workload::RandRead, 128, 4096));
        assert_eq!((args.limit(), args.read_percent()), (Limit::Time(DEFAULT_TIME), None));
        assert_eq!((args.sleep(), args.cores.count()), (SleepPolicy::ADAPTIVE, 1));
        assert!(args.bdevs.is_empty() && args.memory().page_size == PageSize::Auto);
    }

    #[test]
    fn a_command_line_of_bdevperf_is_understood() {
        let args = read("-c a.json -m [0,1] -q 32 -o 128k -w randrw -M 70 -t 0.5 -C -s 64 -T N0 -b N1")
            .expect("fine");
        assert_eq!((args.workload, args.queue_depth, args.io_bytes), (Workload::RandRw, 32, 131_072));
        assert_eq!((args.limit(), args.read_percent()), (Limit::Time(Duration::from_millis(500)), Some(70)));
        assert_eq!(
            (args.every_core, args.cores.count(), args.bdevs),
            (true, 2, vec!["N0".to_owned(), "N1".to_owned()])
        );
    }

    #[test]
    fn sleep_and_pages_can_be_chosen() {
        assert_eq!(read("-c a --poll").expect("fine").sleep(), SleepPolicy::Never);
        let args = read("-c a --spin-us 0 --no-huge -s 64 --ios 7").expect("fine");
        assert_eq!((args.sleep(), args.limit()), (SleepPolicy::After(Duration::ZERO), Limit::Ios(7)));
        let memory = args.memory();
        assert_eq!((memory.page_size, memory.limit_bytes), (PageSize::Ordinary, Some(64 << 20)));
        assert_eq!(memory.registration, Registration::Auto);
        let without = read("-c a --no-registered-buffers").expect("fine").memory();
        assert_eq!((without.page_size, without.registration), (PageSize::Auto, Registration::Off));
    }

    #[test]
    fn a_mixed_workload_is_half_and_half_if_nobody_says() {
        assert_eq!(read("-c a -w rw").expect("fine").read_percent(), Some(50));
        assert_eq!(read("-c a -w rw -M 0").expect("fine").read_percent(), Some(0));
    }

    #[test]
    fn a_checked_load_keeps_its_state_and_goes_on_if_asked() {
        let args = read("-c a -w verify --state s -f -M 20").expect("fine");
        assert_eq!((args.workload, args.read_percent()), (Workload::Verify, Some(20)));
        assert!(args.continue_on_error && args.state.is_some());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_value_and_what_is_accepted() {
        for (line, says) in [
            ("", &["--config <FILE>"][..]),
            ("-c a -q 0", &["'0'", "--queue-depth <DEPTH>", "1..=65536"]),
            ("-c a -q 65537", &["'65537'", "1..=65536"]),
            ("-c a -o 4q", &["'4q'", "--io-size <SIZE>", "4k, 128k, 1M"]),
            ("-c a -o 0", &["'0'", "--io-size <SIZE>"]),
            ("-c a -w randreed", &["'randreed'", "--workload <KIND>", "write_zeroes", "'randread'"]),
            ("-c a -t 0", &["'0'", "--time <SECONDS>", "more than 0"]),
            ("-c a --ios 0", &["'0'", "--ios <COUNT>"]),
            ("-c a -t 1 --ios 5", &["--time <SECONDS>", "--ios <COUNT>"]),
            ("-c a -w rw -M 101", &["'101'", "--read-percent <PERCENT>", "0..=100"]),
            ("-c a -w read -M 70", &["'70'", "-M", "rw or randrw", "read"]),
            ("-c a -m 0xg", &["'0xg'", "--cpumask <MASK>", "[0-3,8]"]),
            ("-c a --poll --spin-us 5", &["--poll", "--spin-us"]),
            ("-c a -s 0", &["'0'", "--mem-size <MIB>"]),
            ("-c a -w read --state s", &["--state", "verify", "read"]),
            ("--json a.json", &["'a.json'", "-c", "JSON output"]),
        ] {
            let error = read(line).expect_err(line);
            assert!(says.iter().all(|word| error.contains(word)), "{line}: {error}");
        }
    }
}

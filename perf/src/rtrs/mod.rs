//! `rmr-perf rtrs`: requests over a session between two processes, each on a core of its own.
//!
//! The server is this program again, as a child, or elsewhere (`--listen` there, `--connect` here). Nothing serves the
//! requests but a poller that answers at once: what is measured is the way there and back. Before each figure the same
//! messages go over one bare connection, with nothing but system calls: what the machine gives at that moment.
//!
//! `mod` arguments, the runs one after the other · `client` one load · `server` who answers · `outcome` JSON and table.

mod client;
mod outcome;
mod server;

use crate::error::PerfError;
use crate::units::{parse_seconds, parse_size};
use clap::{Args, ValueEnum};
use client::Load;
use outcome::{Bare, Figure, Outcome};
use perf_sock::{bare, wire};
use server::Server;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tgt_app::log::{self, Level, LogControl};
use tgt_reactor::SleepPolicy;
use tgt_rtrs::Direction;
use tgt_rtrs::sessions::PathSpec;

pub(crate) const EXAMPLES: &str = "\
Examples:
  4 KiB reads and writes between two cores of this machine, 1, 32 and 128 at a time
      rmr-perf rtrs
  Large writes by two paths, without digests of data, for a program
      rmr-perf rtrs -w write -o 256k -q 16 --paths 2 --no-digest --json
  Between two hosts: on the one, then on the other
      rmr-perf rtrs --listen 192.0.2.1:4430
      rmr-perf rtrs --connect ip:192.0.2.1:4430";

/// Most bytes that the bare way exchanges, and most requests under way.
const BARE_BYTES: u32 = 262_144;
const BARE_DEPTH: u32 = 256;

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Read,
    Write,
    Both,
}

/// What the child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Serve {
    /// Serves one bare connection.
    Bare,
    /// Serves sessions until its standard input ends.
    Sessions,
}

/// What to measure, and how.
#[derive(Debug, Args)]
pub(crate) struct RtrsArgs {
    /// Kind of request
    #[arg(short, long, value_enum, value_name = "KIND", default_value = "both", help_heading = "Workload")]
    workload: Kind,
    /// Bytes of data in a request, up to 1M; several with commas
    #[arg(short = 'o', long = "io-size", value_name = "SIZES", value_delimiter = ',', default_value = "4k", value_parser = parse_size, help_heading = "Workload")]
    io_bytes: Vec<u32>,
    /// Requests under way, up to 256; several with commas
    #[arg(short, long, value_name = "DEPTHS", value_delimiter = ',', default_values_t = [1, 32, 128], value_parser = clap::value_parser!(u32).range(1..=256), help_heading = "Workload")]
    queue_depth: Vec<u32>,
    /// Seconds for each figure
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds, help_heading = "Workload")]
    time: Duration,
    /// Paths of the session, each by an address of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16), help_heading = "Workload")]
    paths: u32,
    /// Without digests (CRC32C) of data; the server's side must say so, too
    #[arg(long, help_heading = "Workload")]
    no_digest: bool,
    /// Without the bare messages beside
    #[arg(long, help_heading = "Workload")]
    no_bare: bool,

    /// Core of the server [default: the first that may be used]
    #[arg(long, value_name = "CORE", help_heading = "Cores and hosts")]
    server_core: Option<u32>,
    /// Core of the client [default: the second that may be used]
    #[arg(long, value_name = "CORE", help_heading = "Cores and hosts")]
    client_core: Option<u32>,
    /// Never sleep [default: sleep when idle]
    #[arg(long, help_heading = "Cores and hosts")]
    poll: bool,
    /// Serve here until Ctrl-C, and measure nothing; without a key: whoever reaches it is let in
    #[arg(long, value_name = "IP:PORT", conflicts_with_all = ["connect", "json"], help_heading = "Cores and hosts")]
    listen: Option<SocketAddr>,
    /// Paths to where `rmr-perf rtrs --listen` runs, with commas between; nothing bare beside
    #[arg(long, value_name = "PATHS", value_delimiter = ',', help_heading = "Cores and hosts")]
    connect: Vec<PathSpec>,

    /// The result as one JSON object on standard output
    #[arg(long, help_heading = "Output and control")]
    json: bool,
    /// What this process does as the child of another
    #[arg(long, hide = true)]
    serve: Option<Serve>,
}

impl RtrsArgs {
    fn sleep(&self) -> SleepPolicy {
        if self.poll { SleepPolicy::Never } else { SleepPolicy::ADAPTIVE }
    }

    /// The core of a side: as asked for, else the first or second that may be used.
    fn core(&self, asked: Option<u32>, which: usize) -> Result<u32, PerfError> {
        let usable = tgt_env::cores::usable_cores().map_err(rtrs)?;
        let default = usable.iter().nth(which).or(usable.iter().next());
        asked.or(default).ok_or_else(|| PerfError::Rtrs("no core may be used".to_owned()))
    }

    fn bare_setting(&self, core: u32, payload: u32) -> wire::Setting {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
        let congestion = if text.trim().is_empty() { "reno" } else { text.trim() }.to_owned();
        wire::Setting { core, congestion, payload, hot_time: Duration::from_micros(20), poll: self.poll }
    }
}

fn rtrs(error: impl std::fmt::Display) -> PerfError {
    PerfError::Rtrs(error.to_string())
}

/// Measures, or serves.
pub(crate) fn run(args: &RtrsArgs) -> Result<u8, PerfError> {
    tgt_reactor::abort_when_a_reactor_panics();
    let control = std::sync::Arc::new(LogControl::default());
    control.set_print_level(Level::Warning);
    log::install(&control, log::Format::Human);
    match (args.serve, args.listen) {
        (Some(Serve::Bare), _) => {
            bare::serve(&args.bare_setting(args.core(args.server_core, 0)?, args.io_bytes[0]));
        }
        (Some(Serve::Sessions), _) => server::serve_child(args)?,
        (None, Some(address)) => server::serve_here(args, address)?,
        (None, None) => print(&measure(args)?, args.json).map_err(PerfError::Output)?,
    }
    Ok(tgt_app::exit::OK)
}

fn measure(args: &RtrsArgs) -> Result<Outcome, PerfError> {
    let (server_core, client_core) = (args.core(args.server_core, 0)?, args.core(args.client_core, 1)?);
    let own = if args.connect.is_empty() {
        Some(Server::start(args, Serve::Sessions, server_core, 0)?)
    } else {
        None
    };
    let paths = own.as_ref().map_or_else(|| Ok(args.connect.clone()), Server::paths)?;
    let client = client::Client::start(args, client_core, &paths)?;
    let directions: &[Direction] = match args.workload {
        Kind::Read => &[Direction::Read],
        Kind::Write => &[Direction::Write],
        Kind::Both => &[Direction::Read, Direction::Write],
    };
    let mut figures = Vec::new();
    for &direction in directions {
        for &bytes in &args.io_bytes {
            for &depth in &args.queue_depth {
                let load = Load { direction, bytes, depth, time: args.time };
                let with_bare = own.is_some() && !args.no_bare && bytes <= BARE_BYTES && depth <= BARE_DEPTH;
                let bare =
                    if with_bare { Some(bare_run(args, load, server_core, client_core)?) } else { None };
                figures.push(Figure::new(load, client.run(load)?, bare));
            }
        }
    }
    client.stop();
    let server_core = own.is_some().then_some(server_core);
    Ok(Outcome::new(server_core, client_core, paths.len(), !args.no_digest, args.sleep(), figures))
}

/// The same messages over one bare connection, by another child on the same core.
fn bare_run(args: &RtrsArgs, load: Load, server_core: u32, client_core: u32) -> Result<Bare, PerfError> {
    let server = Server::start(args, Serve::Bare, server_core, load.bytes)?;
    let writes = load.direction == Direction::Write;
    let bare_load = wire::Load { writes, depth: load.depth, time: load.time };
    let done = bare::drive(server.address()?, &args.bare_setting(client_core, load.bytes), bare_load);
    server.wait()?;
    Ok(Bare { requests_s: done.rate(), waited: done.waited })
}

fn print(outcome: &Outcome, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, outcome)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", outcome.page())?;
    }
    out.flush()
}

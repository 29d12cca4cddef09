//! # What a message over TCP costs
//!
//! **What it is.** Two processes, each on a core of its own, one connection over loopback, reads or writes (4 KiB): a request of
//! 72 bytes, an answer of 24, the payload with one of them. Once with nothing but system calls (*bare*: what the machine can
//! give), and the same through `tgt-sock` under a reactor (*sock*). Combinations are taken in turn, round after round.
//!
//! **Words.** *depth*: requests under way. *waited*: share of the time in which a process of ours was ready and its core was
//! another's; above a few percent a figure says more about the machine than about the code.
//!
//! **Who may call it.** `cargo run --release -p perf-sock -- --help`.
//!
//! **Invariants.** Both ends check the numbers of what they get; a run in which anything is missing fails.
//!
//! **Map.** The library: `wire.rs` the messages, `bare.rs` both bare ends · `sock.rs` both of the other way · this file:
//! processes, rounds, table.
//!
//! **Tests.** `tests/smoke.rs` runs every combination for a moment.

mod sock;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};

use perf_sock::bare;
use perf_sock::wire::{Load, Outcome, Setting};

/// Messages over loopback TCP: bare system calls beside tgt-sock.
#[derive(Parser, Debug)]
struct Args {
    /// Rounds over all combinations.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Milliseconds of each run.
    #[arg(long, default_value_t = 400)]
    millis: u64,
    /// Requests under way.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 128], value_parser = clap::value_parser!(u32).range(1..=256))]
    depth: Vec<u32>,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=262_144))]
    payload: u32,
    /// Reactors never sleep, as bare ends do; without it they sleep when idle, and at once on a core that others use.
    #[arg(long)]
    poll: bool,
    /// Microseconds without bytes after which a stream is parked.
    #[arg(long, default_value_t = 20)]
    hot_us: u64,
    /// TCP_CONGESTION of both ends.
    #[arg(long, default_value = "reno")]
    congestion: String,
    /// Core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: u32,
    /// Core of the client.
    #[arg(long, default_value_t = 1)]
    client_core: u32,
    /// Serve one connection this way, then end (the program starts itself so).
    #[arg(long, hide = true)]
    serve: Option<Way>,
}

/// How an end of the connection works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// System calls alone.
    Bare,
    /// A group of streams on a reactor.
    Sock,
}

const COMBINATIONS: [(Way, Way); 3] =
    [(Way::Bare, Way::Bare), (Way::Bare, Way::Sock), (Way::Sock, Way::Sock)];

fn main() {
    let args = Args::parse();
    match args.serve {
        Some(Way::Bare) => bare::serve(&args.setting(args.server_core)),
        Some(Way::Sock) => sock::serve(&args.setting(args.server_core)),
        None => measure(&args),
    }
}

impl Args {
    fn setting(&self, core: u32) -> Setting {
        Setting {
            core,
            congestion: self.congestion.clone(),
            payload: self.payload,
            hot_time: Duration::from_micros(self.hot_us),
            poll: self.poll,
        }
    }
}

/// All runs of one row.
struct Row {
    client: Way,
    server: Way,
    load: Load,
    runs: Vec<Outcome>,
}

fn measure(args: &Args) {
    let mut rows = Vec::new();
    for writes in [false, true] {
        for &depth in &args.depth {
            let load = Load { writes, depth, time: Duration::from_millis(args.millis) };
            rows.extend(COMBINATIONS.map(|(client, server)| Row { client, server, load, runs: Vec::new() }));
        }
    }
    for _ in 0..args.rounds {
        for row in &mut rows {
            row.runs.push(run(args, row));
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{} bytes over loopback, {}, reactors {}, {} runs of {} ms each; load of the machine {}",
        args.payload,
        args.congestion,
        if args.poll { "poll" } else { "sleep when idle" },
        args.rounds,
        args.millis,
        load.trim()
    );
    println!("{}", table(&rows));
}

fn run(args: &Args, row: &Row) -> Outcome {
    let (mut server, address) = start_server(args, row.server);
    let setting = args.setting(args.client_core);
    let outcome = match row.client {
        Way::Bare => bare::drive(address, &setting, row.load),
        Way::Sock => sock::drive(address, &setting, row.load),
    };
    let ended = server.wait().expect("the server ends with its connection");
    assert!(ended.success(), "the server failed: {ended}");
    outcome
}

/// Starts this program as the server; it says where it listens.
fn start_server(args: &Args, way: Way) -> (Child, SocketAddr) {
    let program = std::env::current_exe().expect("this program has a path");
    let way = way.to_possible_value().expect("a name");
    let mut server = Command::new(program)
        .args(["--serve", way.get_name(), "--congestion", &args.congestion])
        .args(["--server-core", &args.server_core.to_string(), "--payload", &args.payload.to_string()])
        .args(["--hot-us", &args.hot_us.to_string()])
        .args(args.poll.then_some("--poll"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a second process");
    let mut line = String::new();
    let said = server.stdout.take().expect("piped");
    BufReader::new(said).read_line(&mut line).expect("the server says where it listens");
    (server, line.trim().parse().expect("an address"))
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "",
        "depth",
        "client",
        "server",
        "kIOPS median (min..max)",
        "us",
        "calls/IO client",
        "waited % most",
    ]);
    for row in rows {
        let mut rates: Vec<f64> = row.runs.iter().map(Outcome::rate).collect();
        rates.sort_by(f64::total_cmp);
        let median = rates[rates.len() / 2];
        let calls = row.runs.iter().map(|run| run.calls as f64 / run.count as f64).fold(0.0, f64::max);
        let waited = row.runs.iter().map(|run| run.waited).fold(0.0, f64::max);
        table.add_row([
            if row.load.writes { "write" } else { "read" }.to_owned(),
            row.load.depth.to_string(),
            format!("{:?}", row.client).to_lowercase(),
            format!("{:?}", row.server).to_lowercase(),
            format!("{:.0} ({:.0}..{:.0})", median / 1e3, rates[0] / 1e3, rates[rates.len() - 1] / 1e3),
            format!("{:.2}", 1e6 * f64::from(row.load.depth) / median),
            format!("{calls:.3}"),
            format!("{:.1}", 100.0 * waited),
        ]);
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

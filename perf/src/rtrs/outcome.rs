//! What came out, for programs and for people.

use super::client::{Load, Measured};
use crate::setting::processor_here;
use crate::units;
use comfy_table::{CellAlignment, Table, presets};
use perf_load::Latency;
use serde::Serialize;
use tgt_reactor::SleepPolicy;
use tgt_rtrs::Direction;

/// All of it. Documented in docs/rmr-perf.md.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    version: &'static str,
    build: &'static str,
    processor: Option<String>,
    server_core: Option<u32>,
    client_core: u32,
    sleep_policy: &'static str,
    paths: usize,
    data_digest: bool,
    /// The machine's load averages at the end.
    load: String,
    figures: Vec<Figure>,
}

/// One load.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    kind: &'static str,
    io_bytes: u32,
    queue_depth: u32,
    requests: u64,
    seconds: f64,
    requests_s: f64,
    gib_s: f64,
    latency_ns: Option<Latency>,
    waited: f64,
    bare: Option<Bare>,
    /// Of the bare rate.
    ratio: Option<f64>,
}

/// The same with system calls alone.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Bare {
    pub(super) requests_s: f64,
    pub(super) waited: f64,
}

impl Figure {
    pub(super) fn new(load: Load, measured: Measured, bare: Option<Bare>) -> Self {
        let requests_s = measured.requests as f64 / measured.seconds;
        Self {
            kind: if load.direction == Direction::Read { "read" } else { "write" },
            io_bytes: load.bytes,
            queue_depth: load.depth,
            requests: measured.requests,
            seconds: measured.seconds,
            requests_s,
            gib_s: requests_s * f64::from(load.bytes) / f64::from(1 << 30),
            latency_ns: measured.latency,
            waited: measured.waited,
            bare,
            ratio: bare.map(|bare| requests_s / bare.requests_s),
        }
    }
}

impl Outcome {
    pub(super) fn new(
        server_core: Option<u32>,
        client_core: u32,
        paths: usize,
        data_digest: bool,
        sleep: SleepPolicy,
        figures: Vec<Figure>,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            processor: processor_here(),
            server_core,
            client_core,
            sleep_policy: if matches!(sleep, SleepPolicy::Never) { "poll" } else { "adaptive" },
            paths,
            data_digest,
            load: std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned(),
            figures,
        }
    }

    /// Head and table.
    pub(super) fn page(&self) -> String {
        let server = self.server_core.map_or("elsewhere".to_owned(), |core| format!("on core {core}"));
        let digests = if self.data_digest { "with digests of data" } else { "without digests of data" };
        let processor = self.processor.as_deref().unwrap_or("unknown processor");
        let mut page = format!(
            "requests over a session, {} path{}, {digests}\n\
             rmr-perf {}, {processor}, client on core {}, server {server}, reactors {}\n\
             load of the machine {}; waited: time for which a client was ready and its core was another's\n",
            self.paths,
            if self.paths == 1 { "" } else { "s" },
            self.version,
            self.client_core,
            if self.sleep_policy == "poll" { "never sleep" } else { "sleep when idle" },
            self.load,
        );
        if self.build == "debug" {
            page += "This is a debug build: its figures mean nothing.\n";
        }
        format!("{page}\n{}\n", self.table())
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header([
            "",
            "size",
            "depth",
            "req/s",
            "GiB/s",
            "mean",
            "p50",
            "p99",
            "p99.9",
            "max",
            "waited",
            "bare req/s",
            "bare waited",
            "ratio",
        ]);
        for figure in &self.figures {
            let latency = |of: fn(&Latency) -> f64| {
                figure.latency_ns.as_ref().map_or_else(|| "-".to_owned(), |latency| units::time(of(latency)))
            };
            let percent = |share: f64| format!("{:.1} %", 100.0 * share);
            let bare = |of: fn(&Bare) -> f64| figure.bare.as_ref().map(of);
            table.add_row([
                figure.kind.to_owned(),
                units::bytes(figure.io_bytes.into()),
                figure.queue_depth.to_string(),
                units::count(figure.requests_s),
                format!("{:.2}", figure.gib_s),
                latency(|latency| latency.mean),
                latency(|latency| latency.p50 as f64),
                latency(|latency| latency.p99 as f64),
                latency(|latency| latency.p99_9 as f64),
                latency(|latency| latency.max as f64),
                percent(figure.waited),
                bare(|bare| bare.requests_s).map_or_else(|| "-".to_owned(), units::count),
                bare(|bare| bare.waited).map_or_else(|| "-".to_owned(), percent),
                figure.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

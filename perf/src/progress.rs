//! The live line on a terminal.

use crate::args::BdevArgs;
use crate::units;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use perf_load::{JobSpec, Limit, Progress, Workload};
use std::io::IsTerminal;
use std::time::Duration;

/// How often the line changes.
const INTERVAL: Duration = Duration::from_millis(250);

/// One line on standard error, or nothing: without a terminal, and beside JSON.
pub(crate) struct Line {
    bar: ProgressBar,
    io_bytes: u32,
    by_time: bool,
    /// What the last change showed.
    last: Progress,
}

impl Line {
    /// A line for these jobs.
    pub(crate) fn new(args: &BdevArgs, jobs: &[JobSpec]) -> Line {
        let on_terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let draw = if on_terminal && !args.json {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        // A flush moves no bytes.
        let io_bytes = if args.workload == Workload::Flush { 0 } else { args.io_bytes };
        let by_time = matches!(args.limit(), Limit::Time(_));
        let length = match args.limit() {
            Limit::Time(time) => time.as_millis() as u64,
            Limit::Ios(ios) => ios.saturating_mul(jobs.len() as u64),
        };
        let style = ProgressStyle::with_template("{bar:30} {msg}").expect("the template is well formed");
        let bar = ProgressBar::with_draw_target(Some(length), draw).with_style(style.progress_chars("━╸ "));
        Line { bar, io_bytes, by_time, last: Progress { elapsed: Duration::ZERO, ios: 0 } }
    }

    /// Shows how far the run is, if it is time to.
    pub(crate) fn show(&mut self, now: Progress) {
        if self.bar.is_hidden() || now.elapsed < self.last.elapsed + INTERVAL {
            return;
        }
        let length = self.bar.length().unwrap_or_default();
        let (place, done) = if self.by_time {
            let whole = Duration::from_millis(length);
            (
                now.elapsed.as_millis() as u64,
                format!("{:.1} of {} s", now.elapsed.as_secs_f64(), whole.as_secs_f64()),
            )
        } else {
            (now.ios, format!("{} of {} IOs", units::count(now.ios as f64), units::count(length as f64)))
        };
        self.bar.set_message(format!("{done}   {}", self.rate(now)));
        self.bar.set_position(place.min(length));
        self.last = now;
    }

    /// What happened since the last change.
    fn rate(&self, now: Progress) -> String {
        let seconds = (now.elapsed - self.last.elapsed).as_secs_f64();
        let iops = (now.ios - self.last.ios) as f64 / seconds;
        let mib_s = iops * f64::from(self.io_bytes) / f64::from(1 << 20);
        format!("{} IOPS   {} MiB/s", units::count(iops), units::mib(mib_s))
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

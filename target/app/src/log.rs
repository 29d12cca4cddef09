//! Logs: structured, to stderr, at levels that RPC may change at any time.
//!
//! As in SPDK: an event is written if its level is within the *print level*; events of the levels INFO and DEBUG need
//! their component's *flag* as well. SPDK's second level, for syslog, is kept and answered; there is no syslog here.
//!
//! | SPDK | here |
//! |---|---|
//! | ERROR, WARNING, NOTICE, INFO, DEBUG | error, warn, info, debug, trace |

use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use tracing::Metadata;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Flags, and how the targets of their events begin.
const FLAGS: [(&str, &str); 8] = [
    ("app", "rmr_tgt"),
    ("bdev", "tgt_bdev"),
    ("bdev_malloc", "bdev_malloc"),
    ("bdev_null", "bdev_null"),
    ("config", "tgt_config"),
    ("env", "tgt_env"),
    ("reactor", "tgt_reactor"),
    ("rpc", "rpc_"),
];

/// SPDK's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// It failed.
    Error,
    /// It goes on, but somebody should know.
    Warning,
    /// What an operator wants to read.
    Notice,
    /// What a developer wants to read.
    Info,
    /// Everything.
    Debug,
}

impl Level {
    /// All of them, the most urgent first.
    pub const ALL: [Level; 5] = [Level::Error, Level::Warning, Level::Notice, Level::Info, Level::Debug];

    /// SPDK's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warning => "WARNING",
            Level::Notice => "NOTICE",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
        }
    }

    fn of(level: tracing::Level) -> Level {
        match level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            tracing::Level::INFO => Level::Notice,
            tracing::Level::DEBUG => Level::Info,
            tracing::Level::TRACE => Level::Debug,
        }
    }
}

/// No level has this name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("log level {0:?}, accepted: ERROR, WARNING, NOTICE, INFO, DEBUG")]
pub struct UnknownLevel(pub String);

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Upper and lower case are the same, as in SPDK.
    fn from_str(text: &str) -> Result<Level, UnknownLevel> {
        let found = Level::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| UnknownLevel(text.to_owned()))
    }
}

/// No flag has this name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("log flag {0:?}, accepted: all, {flags}", flags = flag_names())]
pub struct UnknownFlag(pub String);

fn flag_names() -> String {
    FLAGS.map(|(name, _)| name).join(", ")
}

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line a person reads.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Which events are written. Shared by the log's filter and RPC; any thread.
#[derive(Debug)]
pub struct LogControl {
    level: AtomicU8,
    print_level: AtomicU8,
    /// One bit per entry of `FLAGS`.
    flags: AtomicU32,
}

impl Default for LogControl {
    fn default() -> Self {
        let notice = Level::Notice as u8;
        Self { level: AtomicU8::new(notice), print_level: AtomicU8::new(notice), flags: AtomicU32::new(0) }
    }
}

impl LogControl {
    /// The level for syslog: kept, no effect.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::ALL[usize::from(self.level.load(Relaxed))]
    }

    /// Sets the level for syslog: kept, no effect.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Relaxed);
    }

    /// The level up to which events are written.
    #[must_use]
    pub fn print_level(&self) -> Level {
        Level::ALL[usize::from(self.print_level.load(Relaxed))]
    }

    /// Sets the level up to which events are written.
    pub fn set_print_level(&self, level: Level) {
        self.print_level.store(level as u8, Relaxed);
    }

    /// Every flag, and whether it is set.
    pub fn flags(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let set = self.flags.load(Relaxed);
        FLAGS.iter().enumerate().map(move |(bit, (name, _))| (*name, set & 1 << bit != 0))
    }

    /// Sets or clears a flag; `all` stands for every flag.
    pub fn set_flag(&self, name: &str, on: bool) -> Result<(), UnknownFlag> {
        let chosen = FLAGS.iter().enumerate().filter(|(_, (flag, _))| name == "all" || name == *flag);
        let bits = chosen.fold(0, |bits, (bit, _)| bits | 1 << bit);
        match (bits, on) {
            (0, _) => return Err(UnknownFlag(name.to_owned())),
            (bits, true) => self.flags.fetch_or(bits, Relaxed),
            (bits, false) => self.flags.fetch_and(!bits, Relaxed),
        };
        Ok(())
    }

    /// Whether an event of this level from this target is written.
    fn writes(&self, level: Level, target: &str) -> bool {
        let flagged = || {
            let set = self.flags.load(Relaxed);
            let mut flags = FLAGS.iter().enumerate();
            flags.any(|(bit, (_, begins))| set & 1 << bit != 0 && target.starts_with(begins))
        };
        level <= self.print_level() && (level <= Level::Notice || flagged())
    }
}

/// Begins to write logs, for the life of the process. Called once, by the binary.
pub fn install(control: &Arc<LogControl>, format: Format) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let control = control.clone();
    let filter = dynamic_filter_fn(move |metadata: &Metadata<'_>, _| {
        control.writes(Level::of(*metadata.level()), metadata.target())
    });
    let layer = match format {
        Format::Human => lines.boxed(),
        Format::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_named_as_in_spdk_in_any_case() {
        for level in Level::ALL {
            assert_eq!(level.name().parse(), Ok(level));
            assert_eq!(level.name().to_lowercase().parse(), Ok(level));
        }
        let error = "LOUD".parse::<Level>().expect_err("unknown").to_string();
        assert!(error.contains("\"LOUD\"") && error.contains("NOTICE"), "{error}");
    }

    #[test]
    fn details_need_both_the_level_and_the_flag() {
        let control = LogControl::default();
        let written = |level, target| control.writes(level, target);
        assert!(written(Level::Notice, "tgt_bdev::bdevs") && !written(Level::Info, "tgt_bdev::bdevs"));
        control.set_flag("bdev", true).expect("a flag");
        assert!(!written(Level::Info, "tgt_bdev::bdevs"), "the level is not raised");
        control.set_print_level(Level::Info);
        assert!(written(Level::Info, "tgt_bdev::bdevs") && !written(Level::Info, "rpc_server"));
        assert!(!written(Level::Debug, "tgt_bdev::bdevs"));
        control.set_flag("all", true).expect("all flags");
        assert!(written(Level::Info, "rpc_server"));
        control.set_flag("rpc", false).expect("a flag");
        assert!(!written(Level::Info, "rpc_server") && written(Level::Notice, "rpc_server"));
        control.set_print_level(Level::Error);
        assert!(!written(Level::Warning, "rpc_server"));
    }

    #[test]
    fn an_unknown_flag_is_refused_and_changes_nothing() {
        let control = LogControl::default();
        let error = control.set_flag("nvmf", true).expect_err("unknown").to_string();
        assert!(error.contains("\"nvmf\"") && error.contains("all, app, bdev"), "{error}");
        assert!(control.flags().all(|(_, set)| !set));
    }
}

//! The process: arguments, logs, signals, and the target between them.

use clap::Parser;
use rmr_tgt::cli::{Args, UsageError};
use rmr_tgt::signals::StopSignal;
use rmr_tgt::supervisor::{self, Watchdog};
use rmr_tgt::{Options, StopReport, Target, exit, log};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use std::process::ExitCode;
use std::time::Instant;
use tgt_env::cores::CpuMask;

fn main() -> ExitCode {
    let started = Instant::now();
    tgt_reactor::abort_when_a_reactor_panics();
    // On `--help`, `--version` and mistakes clap says it all and ends the process: 0, 0 and 2.
    let args = Args::parse();
    if let Some(args) = args.demo() {
        return rmr_tgt::demo::run(args).into();
    }
    if let Some(parent) = args.ends_with()
        && let Err(why) = end_with(parent)
    {
        eprintln!("error: --ends-with {parent}: {why}");
        return exit::ERROR.into();
    }
    let options = match prepare(&args) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}\n\nFor more information, try '--help'.");
            return exit::USAGE.into();
        }
    };
    if args.raises_core_limit() {
        raise_core_limit();
    }
    run(options, started).into()
}

/// Begins to log; then everything that is wrong is a log.
fn prepare(args: &Args) -> Result<Options, UsageError> {
    let (control, format) = args.log()?;
    let options = args.options(control.clone())?;
    log::install(&control, format);
    let ignored = args.ignored();
    if !ignored.is_empty() {
        tracing::info!("without effect here: {}", ignored.join(", "));
    }
    Ok(options)
}

/// From start to stop. Returns the exit code.
fn run(options: Options, started: Instant) -> u8 {
    let mut signal = match StopSignal::install() {
        Ok(signal) => signal,
        Err(why) => {
            tracing::error!("cannot take SIGINT and SIGTERM: {why}");
            return exit::ERROR;
        }
    };
    let (waits, ready) = (options.wait_for_rpc, ready_line(&options));
    let target = match Target::start(options) {
        Ok(target) => target,
        Err(error) => {
            tracing::error!("{error}");
            return error.exit_code();
        }
    };
    let state = if waits { "waits for framework_start_init" } else { "ready" };
    tracing::info!("{state} after {} ms: {ready}, {}", started.elapsed().as_millis(), memory_use());
    // With --wait-for-rpc it serves as well: whoever calls framework_start_init may wait for this.
    supervisor::say_ready(&format!("{}{ready}", if waits { "started with --wait-for-rpc: " } else { "" }));
    let watchdog = match Watchdog::start(target.reactors().clone()) {
        Ok(watchdog) => watchdog,
        Err(why) => {
            tracing::error!("cannot start the thread that tells the supervisor that we are alive: {why}");
            return exit::ERROR;
        }
    };
    let name = signal.wait();
    tracing::info!("{name}: stopping; a second signal ends the process at once");
    supervisor::say_stopping();
    drop(watchdog);
    let StopReport { calls_cut, stuck } = target.stop();
    if calls_cut > 0 {
        tracing::warn!("{calls_cut} RPC calls were under way and are cut off");
    }
    if stuck.is_empty() {
        return exit::OK;
    }
    tracing::error!("{stuck:?} did not stop in time");
    exit::ERROR
}

/// What runs, in a few words.
fn ready_line(options: &Options) -> String {
    let cores: CpuMask = options.cores.iter().copied().collect();
    let socket = match &options.rpc {
        Some(config) => format!("RPC on {}", config.path.display()),
        None => "no RPC".to_owned(),
    };
    format!("rmr_tgt {} on cores {cores:?}, {socket}", rmr_tgt::VERSION)
}

/// What is mapped so far, in a few words.
fn memory_use() -> String {
    let pages = tgt_env::memory::memory().stats().pages;
    let mapped = pages.iter().map(|pages| format!("{} MiB on {}", pages.mapped >> 20, pages.kind));
    let mapped: Vec<String> = mapped.collect();
    if mapped.is_empty() {
        "no DMA memory yet".to_owned()
    } else {
        format!("DMA memory {}", mapped.join(", "))
    }
}

/// From now on this process is killed when the thread that started it ends, in whatever way.
fn end_with(parent: i32) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before.
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        return Err(std::io::Error::other("not the process that started this one, or it has ended"));
    }
    Ok(())
}

/// As SPDK does: a target that crashes should leave something to look at.
fn raise_core_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Core);
    if current != maximum
        && let Err(why) = setrlimit(Resource::Core, Rlimit { current: maximum, maximum })
    {
        tracing::warn!("cannot raise the limit on core dumps: {why}");
    }
}

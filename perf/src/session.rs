//! A target, a run on it, and its end.

use crate::args::BdevArgs;
use crate::error::PerfError;
use crate::outcome::Outcome;
use crate::plan;
use crate::plot::{self, Course};
use crate::progress::Line;
use crate::setting::Setting;
use rpc_server::ServerConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tgt_app::log::{self, Level, LogControl};
use tgt_app::signals::StopSignal;
use tgt_app::{Options, Target};

/// Starts a target, measures, stops it.
pub(crate) fn run(args: &BdevArgs) -> Result<Outcome, PerfError> {
    tgt_reactor::abort_when_a_reactor_panics();
    let told_to_stop = stop_flag().map_err(PerfError::Signals)?;
    let target = Target::start(options(args))?;
    let measured = measure(args, &target, &told_to_stop);
    let stopped = target.stop();
    let outcome = measured?;
    if stopped.stuck.is_empty() { Ok(outcome) } else { Err(PerfError::Stuck(stopped.stuck)) }
}

fn measure(args: &BdevArgs, target: &Target, told_to_stop: &AtomicBool) -> Result<Outcome, PerfError> {
    let names = plan::choose(target.bdevs(), &args.bdevs)?;
    let jobs = plan::jobs(args, &names, target.reactors().len())?;
    if told_to_stop.load(Relaxed) {
        return Err(PerfError::Interrupted);
    }
    let (mut line, mut course) = (Line::new(args, &jobs), Course::default());
    let reports = perf_load::run(target.bdevs(), target.reactors(), &jobs, |progress| {
        line.show(progress);
        course.note(progress);
        !told_to_stop.load(Relaxed)
    });
    line.clear();
    let setting = Setting::now(args, target.reactors());
    let reports = reports?;
    let outcome = Outcome::new(args, setting, target.reactors(), &reports, told_to_stop.load(Relaxed));
    if let Some(path) = &args.plot {
        plot::draw(path, &outcome, &perf_load::tail(&reports), &course).map_err(PerfError::Plot)?;
    }
    Ok(outcome)
}

/// Set by the first SIGINT or SIGTERM; a second one ends the process.
fn stop_flag() -> std::io::Result<Arc<AtomicBool>> {
    let mut signal = StopSignal::install()?;
    let flag = Arc::new(AtomicBool::new(false));
    let told = flag.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        signal.wait();
        told.store(true, Relaxed);
    })?;
    Ok(flag)
}

fn options(args: &BdevArgs) -> Options {
    let log = Arc::new(LogControl::default());
    // Notices are for targets that run for months; a warning tells why figures are not what they could be.
    log.set_print_level(Level::Warning);
    log::install(&log, log::Format::Human);
    Options {
        cores: args.cores.iter().collect(),
        sleep: args.sleep(),
        memory: Some(args.memory()),
        core_locks: !args.disable_cpumask_locks,
        rpc: args.rpc_socket.as_ref().map(ServerConfig::new),
        config: Some(args.config.clone()),
        ignore_config_errors: args.json_ignore_init_errors,
        log,
        ..Options::default()
    }
}

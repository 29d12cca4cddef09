//! Why there is no outcome, and the process's exit code for it.

use crate::compare::CompareError;
use crate::plan::PlanError;
use perf_load::RunError;
use tgt_app::{StartError, exit};
use tgt_reactor::ReactorId;

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PerfError {
    /// The target did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is nothing to run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The run did not take place, or did not end.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Ctrl-C came while the target started.
    #[error("told to stop before the run began: nothing was measured")]
    Interrupted,
    /// Reactors did not stop in time.
    #[error("{} did not stop in time", names(.0))]
    Stuck(Vec<ReactorId>),
    /// Signals cannot be taken.
    #[error("cannot take SIGINT and SIGTERM: {0}")]
    Signals(std::io::Error),
    /// Two results cannot be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The picture could not be drawn.
    #[error("{0}")]
    Plot(String),
    /// A session could not be measured.
    #[error("{0}")]
    Rtrs(String),
    /// The result could not be written.
    #[error("cannot write the result to standard output: {0}")]
    Output(std::io::Error),
}

fn names(reactors: &[ReactorId]) -> String {
    reactors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl PerfError {
    /// The exit code: that of `rmr_tgt` where it has one.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            PerfError::Start(error) => error.exit_code(),
            PerfError::Plan(PlanError::NoBdevs) => exit::CONFIG,
            PerfError::Plan(_) | PerfError::Run(RunError::Spec(_)) => exit::USAGE,
            PerfError::Run(_)
            | PerfError::Interrupted
            | PerfError::Stuck(_)
            | PerfError::Signals(_)
            | PerfError::Compare(_)
            | PerfError::Plot(_)
            | PerfError::Rtrs(_)
            | PerfError::Output(_) => exit::ERROR,
        }
    }
}

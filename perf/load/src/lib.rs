//! # The load generator
//!
//! **What it is.** A poller that keeps a queue of IO full on a bdev and measures it, and the control-thread side that
//! starts such pollers, watches them and adds up what they saw. It opens bdevs as any export does and knows no
//! module.
//!
//! **Words.** *job*: one bdev on one reactor with one workload. *queue depth*: IOs in flight per job. *latency*: from
//! the turn in which an IO was submitted to the turn in which its completion surfaced.
//!
//! **Who may call it.** [`run`]: a control thread. A job runs on its reactor.
//!
//! **Invariants.** Every IO submitted is waited for, also after an error or a stop. No allocation per IO.
//!
//! **Map.** `spec.rs` what to do · `pattern.rs` which block next · `job.rs` the poller · `verify/` the poller that checks
//! what it reads · `report.rs` what was seen · `run.rs` starting, progress, end.
//!
//! **Tests.** `tests.rs`.

mod job;
mod pattern;
mod report;
mod run;
mod spec;
#[cfg(test)]
mod tests;
mod verify;

pub use report::{JobReport, Latency, Report, tail};
pub use run::{Progress, RunError, run};
pub use spec::{JobSpec, Limit, SpecError, Workload};

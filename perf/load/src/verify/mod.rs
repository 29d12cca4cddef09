//! Checked load: every block written carries a stamp, and every block read must carry one that it may carry.
//!
//! The bdev is cut into *places* of one IO's size; at most one IO is under way in a place, so what a place may hold is
//! known at any time: the last acknowledged write, and block by block any write since that failed or whose end was
//! never seen. With a *state file* that knowledge survives the end of this process, kill -9 included: each write is
//! noted there before it is submitted, and again when it has ended. (Notes are in the kernel's page cache: they
//! survive processes, not power.)
//!
//! `stamp.rs` a block's stamp · `ledger.rs` what places may hold · `state.rs` the state file · `job.rs` the poller.

mod job;
mod ledger;
mod stamp;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use job::VerifyJob;

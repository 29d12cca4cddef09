//! What static probes tell of an IO: see `tgt_env::probe`. While nobody watches, a compare and a branch each: for every
//! submission, and once for all the completions of a poll.

use super::IoChannel;
use crate::io::{Done, Io};
use tgt_env::clock::Ticks;
use tgt_env::probe;

impl IoChannel {
    #[inline]
    pub(super) fn probe_submit(&self, io: &Io) {
        probe::bdev_submit(move || (self.probe_name, io.op as u8, io.lba, io.blocks, io.tag.0));
    }

    #[inline]
    pub(super) fn probe_module_submit(&self, io: &Io) {
        probe::module_submit(move || (self.probe_name, io.op as u8, io.lba, io.blocks, io.tag.0));
    }

    /// The module has ended these.
    #[inline]
    pub(super) fn probe_module_done(&self, done: &[Done]) {
        let arguments =
            move |done: &Done| (self.probe_name, done.op as u8, status_word(done), done.blocks, done.tag.0);
        if let [before @ .., last] = done {
            // Whoever watches one watches all of them: so one look is enough.
            probe::module_done(move || {
                before.iter().for_each(|done| probe::module_done(|| arguments(done)));
                arguments(last)
            });
        }
    }

    /// These surface now; `straight`: as the module has just ended them.
    #[inline]
    pub(super) fn probe_surfacing(&self, done: &[Done], now: Ticks, straight: bool) {
        if straight {
            self.probe_module_done(done);
        }
        let arguments = move |done: &Done| {
            let ticks = (now - done.submitted).0;
            (self.probe_name, done.op as u8, status_word(done), done.blocks, done.tag.0, ticks)
        };
        if let [before @ .., last] = done {
            probe::bdev_done(move || {
                before.iter().for_each(|done| probe::bdev_done(|| arguments(done)));
                arguments(last)
            });
        }
    }
}

/// Status code type and status code.
fn status_word(done: &Done) -> u16 {
    u16::from(done.status.sct()) << 8 | u16::from(done.status.sc())
}

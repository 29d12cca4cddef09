//! What waits to be sent on a connection, as a driver has it: a slow path gets no more than its pace allows.

use std::collections::VecDeque;
use tgt_rtrs::pace::Pace;

/// Frames that wait, and how much is under way.
pub(crate) struct Sender<F> {
    pub(crate) waiting: VecDeque<F>,
    pace: Pace,
    queued: u64,
    acknowledged: u64,
    /// What a socket takes.
    socket: u64,
}

impl<F> Sender<F> {
    /// Drivers have requests of up to a mebibyte: all sizes are as these are to that.
    pub(crate) fn new(bytes_max: u32) -> Self {
        let (floor, socket) = (u64::from(bytes_max / 16).max(100), u64::from(bytes_max * 4).max(1000));
        Self { waiting: VecDeque::new(), pace: Pace::new(floor), queued: 0, acknowledged: 0, socket }
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.queued += bytes as u64;
    }

    /// So much has the other host. Returns what was sent.
    pub(crate) fn look(&mut self, now: u64, acknowledged: u64) -> u64 {
        self.acknowledged = acknowledged;
        self.pace.look(now, self.queued, acknowledged);
        self.queued
    }

    /// May a frame with data be sent?
    pub(crate) fn admits(&self) -> bool {
        self.pace.admits(self.queued) && self.queued - self.acknowledged < self.socket
    }
}

//! The messages, and what a run found.

use std::time::Duration;

/// Bytes of a request; the payload is chosen.
pub const REQUEST: usize = 72;
/// And of an answer.
pub const ANSWER: usize = 24;

/// What both ends of a connection are told.
#[derive(Clone, Debug)]
pub struct Setting {
    /// This end's core.
    pub core: u32,
    /// TCP_CONGESTION.
    pub congestion: String,
    /// Bytes.
    pub payload: u32,
    /// Before a stream is parked.
    pub hot_time: Duration,
    /// Reactors never sleep. A bare end never does.
    pub poll: bool,
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The payload goes with the request, not with the answer.
    pub writes: bool,
    /// Requests under way.
    pub depth: u32,
    /// For so long.
    pub time: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Answers.
    pub count: u64,
    /// Time they took.
    pub time: Duration,
    /// Read and send calls of the client.
    pub calls: u64,
    /// Share of the time for which the client's thread was ready and did not run.
    pub waited: f64,
}

impl Outcome {
    /// Answers per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }
}

/// A request or the front of an answer: whether it is a write, and its number.
pub fn encode(head: &mut [u8], writes: bool, number: u32) {
    head.fill(0);
    head[0] = u8::from(writes);
    head[8..12].copy_from_slice(&number.to_le_bytes());
}

/// What `encode` wrote.
#[must_use]
pub fn decode(head: &[u8]) -> (bool, u32) {
    (head[0] == 1, u32::from_le_bytes([head[8], head[9], head[10], head[11]]))
}

/// Nanoseconds for which the calling thread was ready and did not run.
#[must_use]
pub fn waited_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0)
}

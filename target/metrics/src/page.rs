//! The page as a whole.

use crate::replication::ReplicationSource;
use crate::text::Text;
use crate::{bdevs, memory, process, reactors, replication, sessions};
use std::sync::Arc;
use std::time::Instant;
use tgt_bdev::Bdevs;
use tgt_reactor::Handle;
use tgt_rtrs::sessions::Sessions;

/// What the figures are taken from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The bdevs.
    pub bdevs: Arc<Bdevs>,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// The reactors.
    pub reactors: Arc<Vec<Handle>>,
    /// Replicated devices and stores; none where there are no such modules.
    pub replication: Option<ReplicationSource>,
    /// Version of the target.
    pub version: &'static str,
    /// Version of the SPDK whose methods it answers.
    pub spdk_version: String,
    /// When the target started.
    pub started: Instant,
}

/// All figures as they are now. Waits up to two seconds for reactors that do not answer. Any thread but a reactor's.
#[must_use]
pub fn page(sources: &Sources) -> String {
    let mut text = Text::default();
    process::write(&mut text, sources);
    reactors::write(&mut text, &sources.reactors);
    memory::write(&mut text);
    bdevs::write(&mut text, &sources.bdevs);
    sessions::write(&mut text, &sources.sessions);
    if let Some(source) = &sources.replication {
        replication::write(&mut text, source);
    }
    text.finish()
}

/// Seconds of these ticks.
pub(crate) fn seconds(ticks: tgt_env::clock::Ticks) -> f64 {
    ticks.0 as f64 / tgt_env::clock::tick_rate() as f64
}

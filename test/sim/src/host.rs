//! A compute node: the client engine while the process lives, and the load on it.

use crate::disk::Blocks;
use crate::node::Buffers;
use rmr_engine::client::Client;
use rmr_proto::{BlockRange, IoOp};
use std::collections::BTreeMap;

/// A request under way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) op: IoOp,
    pub(crate) range: BlockRange,
    pub(crate) values: Blocks,
    pub(crate) flush_began: u64,
    pub(crate) buf: Option<rmr_proto::BufId>,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) client: Option<Client>,
    pub(crate) life: u64,
    pub(crate) buffers: Buffers,
    pub(crate) flights: BTreeMap<u64, Flight>,
    /// Keeps its load going.
    pub(crate) loaded: bool,
    /// The next request of a paced load is scheduled.
    pub(crate) paced: bool,
    /// Its client has been active.
    pub(crate) served: bool,
}

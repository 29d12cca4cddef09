//! The first word on a session, and what tells storage nodes of each other.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Most bytes of a hail.
pub const HAIL_MAX: usize = 64 << 10;

/// Where a member is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its number.
    pub member: u8,
    /// Paths to its node, as `rtrs_create_session` takes them.
    pub paths: Vec<String>,
    /// Name of the key that both nodes have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// To a store: who is meant, and where the others are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hail {
    /// The pool.
    pub pool: Uuid,
    /// The member that the store is to be.
    pub member: u8,
    /// The other members. Empty from a peer: it knows no better.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

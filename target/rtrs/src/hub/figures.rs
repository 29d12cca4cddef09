//! What control threads ask for: how lanes and paths fare.

use super::client::LaneUp;
use super::paths::{PathKey, PathNotes};
use crate::client::{Client, PathState, PathStats, Policy};
use crate::server::{LaneRef, ServedStats};
use crate::tcp::ServedPath;
use crate::{Death, Fault, Id, Incarnation};
use std::time::SystemTime;
use tgt_reactor::{Cx, ReactorId};

/// A lane at its client.
#[derive(Clone, Debug)]
pub struct ClientLane {
    /// The session.
    pub session: Id,
    /// Where it is.
    pub reactor: ReactorId,
    /// The server's host, once it has proved it.
    pub peer: Option<Id>,
    /// Its life, if it has one.
    pub up: Option<LaneUp>,
    /// It has a life, or none, since then.
    pub since: SystemTime,
    /// What the last life ended by.
    pub died: Option<Death>,
    /// Lives it had.
    pub lives: u64,
    /// The number of the present or the next.
    pub incarnation: Incarnation,
    /// How a path is chosen.
    pub policy: Policy,
    /// Users attached.
    pub users: u32,
    /// Requests and permits they hold.
    pub under_way: u32,
    /// Users that wait for a permit.
    pub waiting: u32,
    /// Its paths.
    pub paths: Vec<PathFigures>,
}

/// A path of a lane.
#[derive(Clone, Debug)]
pub struct PathFigures {
    /// Which.
    pub key: PathKey,
    /// Where it stands.
    pub state: PathState,
    /// It is up, or down, since then.
    pub since: SystemTime,
    /// What it fell to last, or cannot come up for.
    pub fault: Option<Fault>,
    /// Counters.
    pub stats: PathStats,
}

impl ClientLane {
    /// What [`Self::state`] may say.
    pub const STATES: [&str; 4] = ["up", "stalled", "connecting", "down"];

    /// How it fares, in a word.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (self.up, self.lives) {
            (Some(up), _) if up.stalled.is_some() => "stalled",
            (Some(_), _) => "up",
            (None, 0) => "connecting",
            (None, _) => "down",
        }
    }

    pub(super) fn of(cx: &Cx, session: Id, engine: &Client, paths: &PathNotes) -> Self {
        let (users, under_way) = engine.users();
        let figures = paths.iter(engine).map(|(note, state, stats)| PathFigures {
            key: note.key,
            state,
            since: note.since,
            fault: note.fault,
            stats,
        });
        Self {
            session,
            reactor: cx.id(),
            peer: engine.peer(),
            up: None,
            since: SystemTime::UNIX_EPOCH,
            died: None,
            lives: 0,
            incarnation: engine.incarnation(),
            policy: Policy::default(),
            users,
            under_way,
            waiting: engine.waiting_users(),
            paths: figures.collect(),
        }
    }

    pub(super) fn with(
        self,
        up: Option<LaneUp>,
        since: SystemTime,
        died: Option<Death>,
        lives: u64,
        policy: Policy,
    ) -> Self {
        Self { up, since, died, lives, policy, ..self }
    }
}

/// A lane at its server.
#[derive(Clone, Debug)]
pub struct ServerLane {
    /// The port's name for it.
    pub lane: LaneRef,
    /// The session, named by the client.
    pub session: Id,
    /// Where it is.
    pub reactor: ReactorId,
    /// Its number in the session: the client's reactor.
    pub number: u16,
    /// The client's host.
    pub host: Id,
    /// Up since.
    pub since: SystemTime,
    /// Its connections.
    pub connections: Vec<ServedPath>,
    /// What was counted in this life, on these and on those that are gone.
    pub stats: ServedStats,
}

//! What monitors ask of the pools of a reactor: all of them in one message.

use super::stops::Stops;
use super::{LegState, Pool, Pools};
use rmr_engine::client::Phase;
use rmr_proto::MemberId;
use std::time::Duration;
use tgt_reactor::{CallError, Cx, Handle};
use uuid::Uuid;

/// A leg in figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LegFigures {
    /// Its number.
    pub member: MemberId,
    /// Messages go.
    pub connected: bool,
    /// In the set, and nothing is left to copy.
    pub up_to_date: bool,
    /// Moving average of what its reads take; none was measured yet.
    pub read_ns: Option<u64>,
}

/// A pool in figures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolFigures {
    /// Label.
    pub name: String,
    /// Identity.
    pub pool: Uuid,
    /// Does it serve?
    pub serves: bool,
    /// How many members it has.
    pub members: usize,
    /// Of these, how many are up to date.
    pub up_to_date: usize,
    /// How often it was started, by whomever.
    pub generation: u64,
    /// Requests under way.
    pub under_way: usize,
    /// By [`super::StopKind::ALL`].
    pub stops: [Stops; 2],
    /// Legs.
    pub legs: Vec<LegFigures>,
}

/// The pools of a reactor.
///
/// # Errors
/// If it does not answer within `patience`.
pub fn figures(home: &Handle, patience: Duration) -> Result<Vec<PoolFigures>, CallError> {
    home.call_within(patience, |reactor| {
        let cx = reactor.cx();
        let pools: Vec<_> = Pools::of(cx).0.borrow().values().cloned().collect();
        pools.iter().map(|pool| pool.borrow().figures(cx)).collect()
    })
}

impl Pool {
    fn figures(&self, cx: &Cx) -> PoolFigures {
        let now = cx.now().as_ns();
        let engine = self.engine.as_ref();
        let status = engine.map(|engine| engine.status(now));
        let leg = |leg: &super::leg::Leg| LegFigures {
            member: leg.member,
            connected: leg.state == LegState::Up,
            up_to_date: status.as_ref().is_some_and(|status| status.up_to_date().has(leg.member)),
            read_ns: engine.and_then(|engine| engine.read_latency(leg.member)),
        };
        PoolFigures {
            name: self.name.clone(),
            pool: Uuid::from_bytes(self.id.0),
            serves: status.as_ref().is_some_and(|s| matches!(s.phase, Phase::Active | Phase::Changing)),
            members: status.as_ref().map_or(0, |status| status.members.iter().count()),
            up_to_date: status.as_ref().map_or(0, |status| status.up_to_date().iter().count()),
            generation: status.as_ref().map_or(0, |status| status.epoch.promise.generation),
            under_way: self.ops.len(),
            stops: self.stops.stops(now),
            legs: self.legs.iter().flatten().map(leg).collect(),
        }
    }
}

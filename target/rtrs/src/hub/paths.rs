//! What is known of the paths of a lane: which of the session's they are, how they fare, since when and why.

use crate::client::{Client, PathChange, PathState};
use crate::tcp::{ClientPort, LaneNo, PathAddress};
use crate::{Fault, Id, PathNo};
use std::time::SystemTime;
use tgt_reactor::Cx;

/// A path of a session, by the number that the session gave it; the same in all its lanes, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PathKey(pub u32);

/// One path of a lane.
#[derive(Debug)]
pub(super) struct PathNote {
    pub(super) key: PathKey,
    no: PathNo,
    /// The lane's own name for it: its number may be another's by now.
    id: Id,
    pub(super) up: bool,
    /// It is up, or is down, since then.
    pub(super) since: SystemTime,
    /// What it fell to last, or cannot come up for; stays when it is up again.
    pub(super) fault: Option<Fault>,
}

#[derive(Default, Debug)]
pub(super) struct PathNotes(Vec<PathNote>);

impl PathNotes {
    /// Adds a path to a lane; one that is there already stays.
    pub(super) fn add(
        &mut self,
        cx: &mut Cx,
        port: &mut ClientPort,
        lane: LaneNo,
        key: PathKey,
        address: PathAddress,
    ) {
        if self.0.iter().any(|path| path.key == key) {
            return;
        }
        let id = Id(*uuid::Uuid::new_v4().as_bytes());
        if let Some(no) = port.add_path(cx, lane, id, address) {
            self.0.push(PathNote { key, no, id, up: false, since: SystemTime::now(), fault: None });
        }
    }

    pub(super) fn remove(&mut self, cx: &mut Cx, port: &mut ClientPort, lane: LaneNo, key: PathKey) {
        if let Some(at) = self.0.iter().position(|path| path.key == key) {
            // Forgotten first: what its end is told as is no news.
            let path = self.0.remove(at);
            port.remove_path(cx, lane, path.no);
        }
    }

    /// Takes a change down. `Some` if somebody should hear of it: which path, and what it fell to, if it did.
    pub(super) fn on(&mut self, change: PathChange) -> Option<(PathKey, Option<Fault>)> {
        let path = self.0.iter_mut().find(|path| path.id == change.id)?;
        match change.state {
            PathState::Up => {
                (path.up, path.since) = (true, SystemTime::now());
                Some((path.key, None))
            }
            PathState::Waiting { fault: Some(fault), .. } => {
                let news = path.up
                    || path.fault.as_ref().map(std::mem::discriminant)
                        != Some(std::mem::discriminant(&fault));
                if path.up {
                    (path.up, path.since) = (false, SystemTime::now());
                }
                path.fault = Some(fault);
                news.then_some((path.key, Some(fault)))
            }
            _ => None,
        }
    }

    pub(super) fn iter<'a>(
        &'a self,
        engine: &'a Client,
    ) -> impl Iterator<Item = (&'a PathNote, PathState, crate::client::PathStats)> {
        self.0.iter().filter_map(|note| {
            let (_, _, state, stats) = engine.paths().find(|(no, ..)| *no == note.no)?;
            Some((note, state, stats))
        })
    }
}

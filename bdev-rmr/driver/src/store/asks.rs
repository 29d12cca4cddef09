//! Requests that came in and are not answered yet.

use super::mail::Arrived;
use rmr_proto::Tag;
use std::collections::HashMap;
use tgt_bdev::Bufs;

/// A request that came in, by its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AskNo(u32);

/// Who waits for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AskKind {
    /// A client's read or write, for the engine's answer.
    Io { client: u32, tag: Tag },
    /// A letter whose data the engine has not given back.
    Letter,
}

#[derive(Debug)]
struct Ask {
    arrived: Arrived,
    kind: AskKind,
    /// The disk has its memory.
    away: bool,
}

/// Unanswered requests. In steady state nothing is allocated.
#[derive(Debug, Default)]
pub(super) struct Asks {
    slots: Vec<Option<Ask>>,
    free: Vec<u32>,
    by_tag: HashMap<(u32, Tag), AskNo>,
}

impl Asks {
    /// Keeps a request until it is answered. Back if the same client has one with the same tag under way.
    pub(super) fn put(&mut self, arrived: Arrived, kind: AskKind) -> Result<AskNo, Arrived> {
        let place = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        if let AskKind::Io { client, tag } = kind {
            if self.by_tag.contains_key(&(client, tag)) {
                return Err(arrived);
            }
            self.by_tag.insert((client, tag), AskNo(place));
        }
        if self.free.pop().is_none() {
            self.slots.push(None);
        }
        self.slots[place as usize] = Some(Ask { arrived, kind, away: false });
        Ok(AskNo(place))
    }

    /// The request that the engine answers.
    pub(super) fn of(&self, client: u32, tag: Tag) -> Option<AskNo> {
        self.by_tag.get(&(client, tag)).copied()
    }

    pub(super) fn kind(&self, no: AskNo) -> Option<AskKind> {
        self.slots[no.0 as usize].as_ref().map(|ask| ask.kind)
    }

    /// Its memory goes to the disk.
    pub(super) fn lend(&mut self, no: AskNo) -> Bufs {
        let ask = self.slots[no.0 as usize].as_mut().expect("a request stays until the disk is done with it");
        ask.away = true;
        std::mem::replace(&mut ask.arrived.incoming.bufs, Bufs::none())
    }

    /// Its memory is back.
    pub(super) fn give_back(&mut self, no: AskNo, bufs: Bufs) {
        let ask = self.slots[no.0 as usize].as_mut().expect("a request stays until the disk is done with it");
        (ask.away, ask.arrived.incoming.bufs) = (false, bufs);
    }

    /// To be answered now. `None`: it was, or its memory is with the disk.
    pub(super) fn take(&mut self, no: AskNo) -> Option<Arrived> {
        let ask = self.slots[no.0 as usize].take_if(|ask| !ask.away)?;
        if let AskKind::Io { client, tag } = ask.kind {
            self.by_tag.remove(&(client, tag));
        }
        self.free.push(no.0);
        Some(ask.arrived)
    }

    /// Any whose memory is here.
    pub(super) fn take_any(&mut self) -> Option<Arrived> {
        let at = self.slots.iter().position(|ask| ask.as_ref().is_some_and(|ask| !ask.away))?;
        self.take(AskNo(at as u32))
    }

    /// Has a client any under way?
    pub(super) fn any_of(&self, client: u32) -> bool {
        self.by_tag.keys().any(|(of, _)| *of == client)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

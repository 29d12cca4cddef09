//! Between the reactors of a node: a request may come in on any of them, and a store lives on one. Requests go to the
//! store's reactor whole, with their memory, and their answers come back to where they came in.

use super::node::StoreKey;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use tgt_reactor::{Cx, ReactorId};
use tgt_ring::{Inbox, Outbox};
use tgt_rtrs::client::Answer as Counts;
use tgt_rtrs::hub::Hub;
use tgt_rtrs::server::LaneRef;
use tgt_rtrs::tcp::{Answer, Incoming};

/// Items that wait for a reactor; more wait with their sender.
pub(super) const INBOX: usize = 4096;
/// Empty headers kept for answers that come from other reactors.
const SPARE: usize = 4096;

/// A request, and where it came in if that was not here.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) incoming: Incoming,
    pub(super) origin: Option<Origin>,
}

/// Another reactor, and memory of its for the answer's header.
#[derive(Debug)]
pub(super) struct Origin {
    reactor: ReactorId,
    header: Vec<u8>,
}

/// A lane that ended on a reactor. They give lanes the same names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LaneAt {
    pub(super) lane: LaneRef,
    /// `None`: this one.
    pub(super) reactor: Option<ReactorId>,
}

impl Arrived {
    pub(super) fn lane(&self) -> LaneAt {
        let reactor = self.origin.as_ref().map(|origin| origin.reactor);
        LaneAt { lane: self.incoming.execute.lane, reactor }
    }
}

/// What goes from reactor to reactor.
#[derive(Debug)]
pub(super) enum Carried {
    /// To the store.
    Request(Arrived),
    /// Back, for the session.
    Answered { incoming: Incoming, bytes: u32, header: Vec<u8> },
    /// What came on it has nobody to go to.
    LaneDown(LaneAt),
    /// A store is there, or nowhere.
    Home { key: StoreKey, reactor: Option<ReactorId> },
}

/// How a reactor's stores answer, and reach other reactors.
pub(super) struct Mail {
    pub(super) hub: Rc<Hub>,
    own: ReactorId,
    inbox: Inbox<Carried>,
    /// The reactors of this node but this one.
    others: Vec<(ReactorId, Outbox<Carried>)>,
    /// Did not find room.
    backlog: RefCell<VecDeque<(ReactorId, Carried)>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Mail {
    pub(super) fn new(
        hub: Rc<Hub>,
        own: ReactorId,
        inbox: Inbox<Carried>,
        all: Vec<(ReactorId, Outbox<Carried>)>,
    ) -> Self {
        let others = all.into_iter().filter(|(reactor, _)| *reactor != own).collect();
        Self { hub, own, inbox, others, backlog: RefCell::default(), spare: RefCell::default() }
    }

    /// Ends a request, wherever it came in.
    pub(super) fn answer(&self, cx: &mut Cx, arrived: Arrived, bytes: u32, header: &[u8]) {
        let Arrived { incoming, origin } = arrived;
        match origin {
            None => {
                let counts = Counts { result: Ok(0), bytes, user_len: 0 };
                self.hub.answer(cx, Answer { incoming, counts, header });
            }
            Some(Origin { reactor, header: mut copy }) => {
                copy.extend_from_slice(header);
                self.send(reactor, Carried::Answered { incoming, bytes, header: copy });
            }
        }
    }

    /// Gives a request to the reactor of its store.
    pub(super) fn forward(&self, to: ReactorId, incoming: Incoming) {
        let header = self.spare.borrow_mut().pop().unwrap_or_default();
        let origin = Some(Origin { reactor: self.own, header });
        self.send(to, Carried::Request(Arrived { incoming, origin }));
    }

    /// Tells all other reactors.
    pub(super) fn tell_lane_down(&self, lane: LaneRef) {
        for (reactor, _) in &self.others {
            self.send(*reactor, Carried::LaneDown(LaneAt { lane, reactor: Some(self.own) }));
        }
    }

    /// Tells all other reactors that a store is here, or is not any more.
    pub(super) fn tell_home(&self, key: StoreKey, here: bool) {
        for (reactor, _) in &self.others {
            self.send(*reactor, Carried::Home { key, reactor: here.then_some(self.own) });
        }
    }

    fn send(&self, to: ReactorId, item: Carried) {
        let mut backlog = self.backlog.borrow_mut();
        let refused = match self.others.iter().find(|(reactor, _)| *reactor == to) {
            // Behind those that wait: a lane's end must not overtake its requests.
            Some((_, outbox)) if backlog.is_empty() => outbox.send(item),
            Some(_) => Err(item),
            None => unreachable!("{to} is no reactor of this node"),
        };
        if let Err(item) = refused {
            backlog.push_back((to, item));
        }
    }

    /// Tries again what did not find room. `true`: some of it still waits.
    pub(super) fn push(&self) -> bool {
        let waiting = std::mem::take(&mut *self.backlog.borrow_mut());
        waiting.into_iter().for_each(|(to, item)| self.send(to, item));
        !self.backlog.borrow().is_empty()
    }

    /// What came from other reactors. Answers are given on the way.
    pub(super) fn next(&self, cx: &mut Cx) -> Option<Carried> {
        loop {
            match self.inbox.pop()? {
                Carried::Answered { incoming, bytes, mut header } => {
                    let counts = Counts { result: Ok(0), bytes, user_len: 0 };
                    self.hub.answer(cx, Answer { incoming, counts, header: &header });
                    let mut spare = self.spare.borrow_mut();
                    if spare.len() < SPARE {
                        header.clear();
                        spare.push(header);
                    }
                }
                other => return Some(other),
            }
        }
    }
}

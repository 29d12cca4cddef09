//! The io channels of namespaces on one reactor.
//!
//! A *view* is a subsystem that some IO queue here uses, a *lane* the channel of one of its namespaces. Lanes are opened with the
//! first queue of a view, or when a namespace comes, and closed with the last, or when it goes, once nothing is in flight.

use super::plan::Geometry;
use crate::model::{Namespace, Subsystem};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use tgt_bdev::{Cx, DoneQueue, Event, Io, IoChannel, Tag, Work};

/// A view's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ViewNo(usize);

/// A lane: its place, and the key of its namespace. A place is used again, a key never: what waited for one namespace never
/// reaches another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneNo {
    place: u32,
    key: u64,
}

struct View {
    subsystem: Arc<Subsystem>,
    /// IO queues.
    users: u32,
    /// By number less one.
    by_nsid: Vec<Option<LaneNo>>,
}

struct Lane {
    key: u64,
    view: ViewNo,
    nsid: u32,
    ana_group: u32,
    channel: IoChannel,
    in_flight: u32,
    /// What the channel did not take.
    overflow: VecDeque<Io>,
    /// To be closed when nothing is in flight. Those who wait for that hear of it by the drop of what they gave.
    closing: bool,
    waiters: Vec<Sender<()>>,
}

/// Views and lanes.
#[derive(Default)]
pub(super) struct Lanes {
    views: Vec<Option<View>>,
    lanes: Vec<Option<Lane>>,
}

impl Lanes {
    /// One more queue that uses this subsystem.
    pub(super) fn enter(&mut self, cx: &mut Cx, subsystem: &Arc<Subsystem>) -> ViewNo {
        if let Some(no) = self.view_of(subsystem) {
            self.views[no.0].as_mut().expect("just found").users += 1;
            return no;
        }
        let by_nsid = vec![None; subsystem.spec.max_namespaces as usize];
        let view = View { subsystem: subsystem.clone(), users: 1, by_nsid };
        let no = ViewNo(free_place(&mut self.views));
        self.views[no.0] = Some(view);
        for namespace in subsystem.namespaces() {
            self.open(cx, no, &namespace);
        }
        no
    }

    /// One queue less.
    pub(super) fn leave(&mut self, no: ViewNo) {
        let view = self.views[no.0].as_mut().expect("a view is there while it has users");
        view.users -= 1;
        if view.users == 0 {
            self.views[no.0] = None;
            self.lanes
                .iter_mut()
                .flatten()
                .filter(|lane| lane.view == no)
                .for_each(|lane| lane.closing = true);
            self.close_idle();
        }
    }

    /// A namespace has come. Does nothing if its subsystem is not used here.
    pub(super) fn namespace_came(&mut self, cx: &mut Cx, subsystem: &Arc<Subsystem>, namespace: &Namespace) {
        if let Some(no) = self.view_of(subsystem) {
            self.open(cx, no, namespace);
        }
    }

    /// A namespace is to go: no command finds it any more. `waiter` is dropped when its channel is closed.
    pub(super) fn namespace_goes(&mut self, key: u64, waiter: Sender<()>) {
        let Lanes { views, lanes } = self;
        for lane in lanes.iter_mut().flatten().filter(|lane| lane.key == key) {
            lane.closing = true;
            lane.waiters.push(waiter.clone());
            if let Some(view) = &mut views[lane.view.0] {
                view.by_nsid[lane.nsid as usize - 1] = None;
            }
        }
        self.close_idle();
    }

    fn view_of(&self, subsystem: &Arc<Subsystem>) -> Option<ViewNo> {
        let same = |view: &Option<View>| view.as_ref().is_some_and(|v| Arc::ptr_eq(&v.subsystem, subsystem));
        self.views.iter().position(same).map(ViewNo)
    }

    fn open(&mut self, cx: &mut Cx, view: ViewNo, namespace: &Namespace) {
        // It may have come between the list and the news of it.
        if self.lanes.iter().flatten().any(|lane| lane.key == namespace.key && !lane.closing) {
            return;
        }
        let channel = match namespace.desc.open_channel(cx) {
            Ok(channel) => channel,
            Err(error) => {
                // Commands to it end with "invalid namespace", as they do once it is removed.
                tracing::warn!("namespace {} is not to be had on {}: {error}", namespace.nsid, cx.id());
                return;
            }
        };
        let no = LaneNo { place: free_place(&mut self.lanes) as u32, key: namespace.key };
        self.lanes[no.place as usize] = Some(Lane {
            key: namespace.key,
            view,
            nsid: namespace.nsid,
            ana_group: namespace.ana_group.load(Relaxed),
            channel,
            in_flight: 0,
            overflow: VecDeque::new(),
            closing: false,
            waiters: Vec::new(),
        });
        let view = self.views[view.0].as_mut().expect("it has users");
        view.by_nsid[namespace.nsid as usize - 1] = Some(no);
    }

    /// The lane to a namespace, and its group of asymmetric access.
    #[inline]
    pub(super) fn find(&self, view: ViewNo, nsid: u32) -> Option<(LaneNo, u32)> {
        let view = self.views[view.0].as_ref()?;
        let no = (*view.by_nsid.get((nsid as usize).checked_sub(1)?)?)?;
        let lane = self.lanes[no.place as usize].as_ref()?;
        Some((no, lane.ana_group))
    }

    /// What a plan has to know of a lane's namespace.
    #[inline]
    pub(super) fn geometry(&self, no: LaneNo, max_bytes: u32) -> Option<Geometry> {
        let lane = self.lanes[no.place as usize].as_ref().filter(|lane| lane.key == no.key)?;
        let bdev = lane.channel.bdev();
        let (block_size, num_blocks, ops) = (bdev.block_size(), bdev.num_blocks(), bdev.ops());
        Some(Geometry { block_size, num_blocks, ops, max_bytes })
    }

    /// Hands an IO to a lane that is there.
    #[inline]
    pub(super) fn submit(&mut self, cx: &mut Cx, no: LaneNo, io: Io) {
        let lane = self.lanes[no.place as usize].as_mut().expect("a lane with a command is there");
        assert_eq!(lane.key, no.key, "a command goes to the namespace it was sent to");
        lane.in_flight += 1;
        if let Err(io) = lane.channel.submit(cx, io) {
            lane.overflow.push_back(io);
        }
    }

    /// Asks for an IO to be aborted.
    pub(super) fn abort(&mut self, cx: &mut Cx, no: LaneNo, tag: Tag, target: Tag) {
        self.submit(cx, no, Io::abort(tag, target));
    }

    /// Whether there is a place to poll.
    pub(super) fn places(&self) -> usize {
        self.lanes.len()
    }

    /// Polls the lane of one place.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Cx, place: usize, done: &mut DoneQueue) -> Work {
        let Some(lane) = &mut self.lanes[place] else { return Work::Idle };
        let before = done.len();
        let mut work = lane.channel.poll(cx, done);
        lane.in_flight -= (done.len() - before) as u32;
        while let Some(io) = lane.overflow.pop_front() {
            if let Err(io) = lane.channel.submit(cx, io) {
                lane.overflow.push_front(io);
                work = work.max(Work::Spin);
                break;
            }
        }
        while let Some(event) = lane.channel.take_event() {
            // Control threads are told of both as well, and tell hosts.
            debug_assert!(matches!(event, Event::Removed | Event::Resized(_)));
        }
        if lane.closing && lane.in_flight == 0 {
            self.close_idle();
        }
        work
    }

    /// True if no lane is open.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(Option::is_none)
    }

    /// IO that bdevs have.
    pub(super) fn in_flight(&self) -> u64 {
        self.lanes.iter().flatten().map(|lane| u64::from(lane.in_flight)).sum()
    }

    fn close_idle(&mut self) {
        for place in &mut self.lanes {
            if place.as_ref().is_some_and(|lane| lane.closing && lane.in_flight == 0) {
                *place = None;
            }
        }
    }
}

/// A place that is free; one more if there is none.
fn free_place<T>(places: &mut Vec<Option<T>>) -> usize {
    places.iter().position(Option::is_none).unwrap_or_else(|| {
        places.push(None);
        places.len() - 1
    })
}

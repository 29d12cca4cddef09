//! Order of overlapping requests: one that shares a block with an earlier one waits for it, unless both only read.
//!
//! Requests hang in lanes by place (a lane is 2^shift blocks, folded into a fixed table); a request touches at most two
//! lanes. Linked through the slots: nothing is allocated, and a step looks only at requests of the same lanes.

use rmr_proto::BlockRange;

const LANES_MAX: usize = 1024;
const NONE: u32 = u32::MAX;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Link {
    lane: u32,
    prev: u32,
    next: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Node {
    range: BlockRange,
    write: bool,
    links: [Link; 2],
}

/// The table.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Lanes {
    shift: u8,
    /// First and last node of each lane; a node is `slot * 2 + which link`.
    ends: Vec<(u32, u32)>,
    nodes: Vec<Node>,
}

impl Lanes {
    pub(super) fn new(shift: u8, slots: usize) -> Self {
        let link = Link { lane: NONE, prev: NONE, next: NONE };
        let node = Node { range: BlockRange::default(), write: false, links: [link.clone(), link] };
        // No more lanes than a full table can make use of: a small client stays small.
        let lanes = (4 * slots).clamp(1, LANES_MAX);
        Self { shift, ends: vec![(NONE, NONE); lanes], nodes: vec![node; slots] }
    }

    fn lanes_of(&self, range: BlockRange) -> [Option<u32>; 2] {
        let lane = |block: u64| ((block >> self.shift) as usize % self.ends.len()) as u32;
        let (first, last) = (lane(range.first), lane(range.end() - 1));
        [Some(first), (last != first).then_some(last)]
    }

    fn link(&mut self, node: u32) -> &mut Link {
        &mut self.nodes[(node / 2) as usize].links[(node % 2) as usize]
    }

    /// Queues a request behind those that came before.
    pub(super) fn enter(&mut self, slot: u32, range: BlockRange, write: bool) {
        let node = &mut self.nodes[slot as usize];
        (node.range, node.write) = (range, write);
        for (which, lane) in self.lanes_of(range).into_iter().enumerate() {
            let id = slot * 2 + which as u32;
            let Some(lane) = lane else {
                self.link(id).lane = NONE;
                continue;
            };
            let last = self.ends[lane as usize].1;
            *self.link(id) = Link { lane, prev: last, next: NONE };
            if last == NONE {
                self.ends[lane as usize].0 = id;
            } else {
                self.link(last).next = id;
            }
            self.ends[lane as usize].1 = id;
        }
    }

    /// May the request run: does no earlier one that is still here conflict with it?
    pub(super) fn is_free(&self, slot: u32) -> bool {
        let me = &self.nodes[slot as usize];
        for link in &me.links {
            if link.lane == NONE {
                continue;
            }
            let mut at = link.prev;
            while at != NONE {
                let other = &self.nodes[(at / 2) as usize];
                if (me.write || other.write) && me.range.overlaps(other.range) {
                    return false;
                }
                at = other.links[(at % 2) as usize].prev;
            }
        }
        true
    }

    /// The request is gone; calls `waiter` with every later one of its lanes that shares blocks with it.
    pub(super) fn leave(&mut self, slot: u32, mut waiter: impl FnMut(u32)) {
        let range = self.nodes[slot as usize].range;
        for which in 0..2 {
            let id = slot * 2 + which;
            let Link { lane, prev, next } = self.link(id).clone();
            if lane == NONE {
                continue;
            }
            if prev == NONE {
                self.ends[lane as usize].0 = next
            } else {
                self.link(prev).next = next
            }
            if next == NONE {
                self.ends[lane as usize].1 = prev
            } else {
                self.link(next).prev = prev
            }
            self.link(id).lane = NONE;
            let mut at = next;
            while at != NONE {
                let other = &self.nodes[(at / 2) as usize];
                if other.range.overlaps(range) {
                    waiter(at / 2);
                }
                at = other.links[(at % 2) as usize].next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_requests_run_in_order_and_reads_together() {
        let range = |first, count| BlockRange { first, count };
        let mut lanes = Lanes::new(4, 8);
        lanes.enter(0, range(10, 8), true);
        lanes.enter(1, range(17, 2), false);
        lanes.enter(2, range(18, 4), false);
        lanes.enter(3, range(18, 1), true);
        assert!(lanes.is_free(0) && !lanes.is_free(1) && lanes.is_free(2) && !lanes.is_free(3));
        let mut woken = Vec::new();
        lanes.leave(0, |slot| woken.push(slot));
        assert_eq!(woken, [1]);
        assert!(lanes.is_free(1) && !lanes.is_free(3), "the write waits for both reads");
        lanes.leave(1, |_| {});
        assert!(!lanes.is_free(3));
        lanes.leave(2, |_| {});
        assert!(lanes.is_free(3));
    }
}

//! Media that fail in silence, and the scrub that finds it: while no load is on, so that nobody reads what rotted.

use crate::world::{MS, World};
use rmr_engine::client::{ClientEvent, Scrub, ScrubCommand, ScrubRange, ScrubState};
use rmr_engine::store::{Resync, Store};
use rmr_engine::{OpenError, ResyncLimits};
use rmr_proto::disk::{Layout, PageKind};
use rmr_proto::{ChunkNo, MemberId};
use std::collections::BTreeSet;

impl World {
    pub(crate) fn start_scrub(&mut self, host: usize, first: u64, pace_ns: u64) {
        self.scrub_believing(host, first, pace_ns, None);
    }

    pub(crate) fn scrub_believing(
        &mut self,
        host: usize,
        first: u64,
        pace_ns: u64,
        believe: Option<MemberId>,
    ) {
        let range = ScrubRange { first: ChunkNo(first), end: ChunkNo(u64::MAX), believe, pace_ns };
        self.client_event(host, ClientEvent::Scrub(ScrubCommand::Start(range)));
    }

    pub(crate) fn scrub_of(&self, host: usize) -> Scrub {
        self.hosts[host].client.as_ref().map(|client| client.scrub()).unwrap_or_default()
    }

    /// A block of a leg changes, and nobody is told.
    pub(crate) fn rot(&mut self, node: usize, block: u64) {
        self.next_value += 1;
        self.nodes[node].disk.rot(block, 0xb0b0_0000_0000 + self.next_value);
        self.rotten += 1;
    }

    /// A block of a leg rots; the legs are not compared until a scrub has found it.
    pub fn rot_block(&mut self, node: usize, block: u64) {
        self.stop_comparing();
        self.rot(node, block);
    }

    /// The next data write of a leg lands at another block; it leaves `chunks` chunks wrong.
    pub fn misdirect_next_write(&mut self, node: usize, to: u64, chunks: u64) {
        self.stop_comparing();
        self.misdirect = Some((node, to));
        self.rotten += chunks;
    }

    /// Legs are compared again only at the end of the script.
    pub fn stop_comparing(&mut self) {
        self.comparing = false;
    }

    /// From now on data writes of `node` fail, or of nobody.
    pub fn fail_writes(&mut self, node: Option<usize>) {
        self.write_fails = node;
    }

    /// Sets how fast a running store copies.
    pub fn set_resync_limits(&mut self, node: usize, limits: ResyncLimits) {
        if let Some(store) = &mut self.nodes[node].store {
            store.set_resync_limits(limits);
        }
    }

    /// Has a request of a scenario ended?
    pub fn has_ended(&self, user: u64) -> bool {
        self.results.contains_key(&user)
    }

    /// Both places of everything that metadata has two copies of, bytes from the start of the area.
    pub fn metadata_places(&self) -> Vec<[u64; 2]> {
        let layout = Layout::new(&self.geometry, self.store_config().journal_bytes);
        let page = |kind| [0, 1].map(|copy| layout.page(kind, 0, copy));
        let mut places =
            vec![[0, 1].map(|copy| layout.superblock(copy)), [0, 1].map(|copy| layout.journal(copy))];
        places.extend([PageKind::Epoch, PageKind::Intent, PageKind::Map].map(page));
        places
    }

    /// A bit of metadata flips; a second time it is as it was.
    pub fn rot_metadata(&mut self, node: usize, at: u64) {
        self.nodes[node].disk.meta[at as usize + 20] ^= 1;
    }

    /// Would the store of a node that is down open?
    pub fn opens(&self, node: usize) -> Result<(), OpenError> {
        Store::open(&self.nodes[node].disk.meta, self.store_config(), 1).map(|_| ())
    }

    /// Every block can be read again.
    pub fn mend_media(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.disk.bad.clear());
    }

    /// Can the disk of a node read a block?
    pub fn can_read(&self, node: usize, block: u64) -> bool {
        self.nodes[node].disk.read(rmr_proto::BlockRange { first: block, count: 1 }).is_some()
    }

    /// How resync of a running store stands.
    pub fn resync(&self, node: usize) -> Resync {
        self.nodes[node].store.as_ref().map(Store::resync).unwrap_or_default()
    }

    /// The pool is whole and idle. Some blocks cannot be read any more, with at least three legs some rot; no chunk is hit
    /// on two legs. A scrub must leave every leg whole.
    pub(crate) fn media_phase(&mut self) {
        // Commands may have left the pool with fewer members than there are nodes.
        let client = self.hosts[0].client.as_ref();
        let legs: Vec<usize> = client.into_iter().flat_map(|c| c.set().iter()).map(MemberId::index).collect();
        if self.breach.is_some() || legs.len() < 2 {
            return;
        }
        let mut hit = BTreeSet::new();
        for _ in 0..self.rng.usize(0..8) {
            let (node, block) = (legs[self.rng.usize(0..legs.len())], self.rng.u64(0..self.options.blocks));
            if !hit.insert(self.geometry.chunk_of(block)) {
                continue;
            }
            if legs.len() > 2 && self.rng.bool() {
                self.count("rotten block");
                self.rot(node, block);
            } else {
                self.count("latent sector error");
                self.nodes[node].disk.bad.insert(block);
            }
        }
        self.start_scrub(0, 0, 0);
        let end = self.now + self.options.liveness_ns;
        let through = |world: &Self| world.scrub_of(0).state == ScrubState::Done;
        let mut repaired = 0;
        let all = rmr_proto::BlockRange { first: 0, count: self.options.blocks as u32 };
        let readable = move |world: &Self| world.nodes.iter().all(|node| node.disk.read(all).is_some());
        while self.breach.is_none() && !(through(self) && readable(self) && self.is_whole()) {
            if self.now >= end {
                let text = self.describe();
                let scrub = self.scrub_of(0);
                self.fail(format!("media are not whole again after a scrub: {scrub:?}{text}"));
                return;
            }
            self.run_until(self.now + 10 * MS);
            let scrub = self.scrub_of(0);
            if through(self) && scrub.unresolved > 0 && self.is_whole() {
                // A leg had left, for it could not read: with all of them back the operator scrubs again.
                repaired += scrub.repaired;
                self.start_scrub(0, 0, 0);
            }
        }
        let scrub = self.scrub_of(0);
        if self.breach.is_none() && (repaired + scrub.repaired, scrub.unresolved) != (self.rotten, 0) {
            self.fail(format!(
                "{} chunks rotted, {repaired} repaired before, the scrub says {scrub:?}",
                self.rotten
            ));
        }
    }
}

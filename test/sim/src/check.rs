//! What is compared across engines.

use crate::world::World;
use rmr_engine::client::{Client, Phase};
use rmr_engine::store::{Service, Store, View};
use rmr_proto::{BlockRange, ChunkNo, Epoch, MemberId, MemberSet};

impl World {
    fn clean_on(&self, store: &Store, chunk: ChunkNo) -> bool {
        let (region, index) = (self.geometry.region_of(chunk), self.geometry.index_in_region(chunk));
        let me = store.member();
        !store.view().unclean(region, me).has(index) && !store.durable().unclean(region, me).has(index)
    }

    fn serving(&self, member: MemberId, epoch: Epoch) -> Option<&Store> {
        let store = self.nodes[member.index()].store.as_ref()?;
        let same = store.service() == Service::Serving && store.view().record.adopted == epoch;
        same.then_some(store)
    }

    /// Legs of a client's set whose chunk is clean.
    pub(crate) fn clean_legs(&self, host: usize, chunk: ChunkNo) -> MemberSet {
        let Some(client) = &self.hosts[host].client else { return MemberSet::EMPTY };
        let clean = |m: &MemberId| {
            let store = self.nodes[m.index()].store.as_ref();
            store.is_some_and(|store| self.clean_on(store, chunk))
        };
        client.set().iter().filter(clean).fold(MemberSet::EMPTY, MemberSet::with)
    }

    /// Promise 3: when a write is acknowledged, every clean leg of the set knows durably who missed it.
    pub(crate) fn check_misses_durable(&mut self, host: usize, range: BlockRange) {
        let Some(client) = &self.hosts[host].client else { return };
        let (first, last) = self.geometry.chunks_of(range);
        let outsiders = client.members().minus(client.set());
        let mut wrong = None;
        for chunk in (first.0..=last.0).map(ChunkNo) {
            let (region, index) = (self.geometry.region_of(chunk), self.geometry.index_in_region(chunk));
            for member in client.set().iter() {
                let Some(store) = self.serving(member, client.epoch()).filter(|s| self.clean_on(s, chunk))
                else {
                    continue;
                };
                let durable = store.durable();
                let knows =
                    |m: &MemberId| durable.missed(region, *m).has(index) || durable.intents.contains(&region);
                if let Some(outsider) = outsiders.iter().find(|m| !knows(m)) {
                    wrong = Some(format!(
                        "a write to {chunk:?} is acknowledged, {member} does not know that {outsider} missed it"
                    ));
                }
            }
        }
        if let Some(what) = wrong {
            self.fail(what);
        }
    }

    /// No chunk is missed by everybody: somebody, up or down, holds it, or may.
    pub(crate) fn check_held(&mut self) {
        if self.sides_open {
            return; // Each side may count the other stale.
        }
        let named = self.named();
        let views: Vec<_> =
            named.iter().filter_map(|m| Some((m.index(), self.durable_view(m.index())?))).collect();
        if views.len() < named.len() {
            return;
        }
        for region in (0..self.geometry.regions()).map(rmr_proto::RegionNo) {
            let all = self.geometry.all_of(region);
            let missed = |(index, view): &(usize, View)| view.missed(region, MemberId::at(*index));
            let lost = views.iter().map(missed).fold(all, rmr_proto::ChunkBits::and);
            if !lost.is_empty() {
                self.fail(format!("chunks {lost:?} of {region:?} are missed by every member"));
            }
        }
    }

    /// What a store takes for durable is what its disk holds.
    pub(crate) fn check_disks(&mut self) {
        let config = rmr_engine::StoreConfig { journal_bytes: 64 << 10, ..Default::default() };
        let mut wrong = None;
        for node in &self.nodes {
            let Some(store) = &node.store else { continue };
            if node.disk.has_meta_queued() || store.service() == Service::Latched {
                continue;
            }
            let on_disk = rmr_engine::store::read_view(&self.room(), &config, &node.disk.meta);
            let same = on_disk.as_ref().is_ok_and(|view| {
                let told =
                    |view: &View| view.misses.values().filter(|m| !m.is_empty()).copied().collect::<Vec<_>>();
                let durable = store.durable();
                view.record == durable.record
                    && view.intents == durable.intents
                    && told(view) == told(durable)
            });
            if !same {
                wrong = Some(format!("{} takes for durable what is not on its disk", store.member()));
            }
        }
        if let Some(what) = wrong {
            self.fail(what);
        }
    }

    fn durable_view(&self, node: usize) -> Option<View> {
        match &self.nodes[node].store {
            Some(store) => Some(store.durable().clone()),
            None => {
                let config = rmr_engine::StoreConfig { journal_bytes: 64 << 10, ..Default::default() };
                rmr_engine::store::read_view(&self.room(), &config, &self.nodes[node].disk.meta).ok()
            }
        }
    }

    fn idle_client(&self) -> Option<&Client> {
        let clients = self.hosts.iter().filter_map(|host| host.client.as_ref());
        let newest = clients.filter(|c| c.phase() == Phase::Active).max_by_key(|c| c.epoch())?;
        (newest.under_way() == 0).then_some(newest)
    }

    /// While nothing is in flight, all clean legs of the set hold the same, and it is allowed.
    pub fn compare_legs(&mut self) {
        let Some(client) = self.idle_client() else { return };
        let (epoch, set) = (client.epoch(), client.set());
        if self.nodes.iter().filter_map(|n| n.store.as_ref()).any(|s| s.promise() > epoch.promise) {
            return; // Somebody is taking over: this client's set may be behind.
        }
        let mut wrong = None;
        let mut compared = 0;
        let geometry = *client.geometry();
        for chunk in (0..geometry.chunks()).map(ChunkNo) {
            let mut first: Option<MemberId> = None;
            for member in set.iter() {
                if self.serving(member, epoch).is_none_or(|store| !self.clean_on(store, chunk)) {
                    continue;
                }
                compared += 1;
                let range = geometry.chunk_range(chunk);
                for block in range.first..range.end() {
                    let value = self.nodes[member.index()].disk.seen(block);
                    let other = first.map(|m| self.nodes[m.index()].disk.seen(block));
                    if !self.oracle.allows(block, value) {
                        let allowed = self.oracle.allowed(block);
                        wrong = Some(format!(
                            "{member} holds {value:#x} in block {block}, allowed are {allowed:x?}"
                        ));
                    } else if other.is_some_and(|other| other != value) {
                        wrong = Some(format!(
                            "block {block}: {member} holds {value:#x}, {first:?} holds {other:x?}"
                        ));
                    }
                }
                first = first.or(Some(member));
            }
        }
        self.stats.compared += compared;
        if let Some(what) = wrong {
            self.fail(format!("legs called clean: {what}"));
        }
    }

    /// Nothing is under way: no engine has kept a buffer that it was given.
    pub(crate) fn check_buffers(&mut self) {
        let nodes = self.nodes.iter().enumerate().filter(|(_, node)| node.store.is_some());
        let nodes = nodes.map(|(n, node)| ("store", n, node.buffers.in_use()));
        let hosts = self.hosts.iter().enumerate().filter(|(_, host)| host.client.is_some());
        let hosts = hosts.map(|(n, host)| ("client", n, host.buffers.in_use()));
        let kept = nodes.chain(hosts).find(|(_, _, in_use)| *in_use > 0);
        if let Some((who, n, in_use)) = kept.filter(|_| self.breach.is_none()) {
            self.fail(format!("{who} {n} is idle and keeps {in_use} buffers"));
        }
    }

    pub(crate) fn is_fenced(&self, host: usize) -> bool {
        self.hosts[host].client.as_ref().is_some_and(|client| client.phase() == Phase::Fenced)
    }

    /// Is everything well: a client active with every member, nothing missed anywhere?
    pub fn is_whole(&self) -> bool {
        let clients = self.hosts.iter().filter_map(|host| host.client.as_ref());
        let Some(client) = clients.filter(|c| c.phase() == Phase::Active).max_by_key(|c| c.epoch()) else {
            return false;
        };
        let clean = |m: MemberId| self.serving(m, client.epoch()).is_some_and(|s| s.dirty_chunks() == 0);
        client.set() == Self::wanted(client) && client.set().iter().all(clean)
    }

    /// Does every serving leg besides `node` hold everything, durably?
    pub fn is_whole_without(&self, node: usize) -> bool {
        let others = self.nodes.iter().enumerate().filter(|(index, _)| *index != node);
        others.filter_map(|(_, n)| n.store.as_ref()).all(|s| s.dirty_chunks() == 0)
    }

    /// Why not, for the report.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for (index, host) in self.hosts.iter().enumerate() {
            if let Some(c) = &host.client {
                text += &format!(
                    "\n  client {index}: {:?} {:?} set {:?}, {} under way, {} buffers",
                    c.phase(),
                    c.epoch(),
                    c.set(),
                    c.under_way(),
                    host.buffers.in_use()
                );
            }
        }
        for node in &self.nodes {
            match &node.store {
                Some(s) => {
                    let r = &s.view().record;
                    text += &format!(
                        "\n  {}: {:?} promise {:?} adopted {:?} {:?} {:?}, {} dirty, {} entries, fencing {}",
                        s.member(),
                        s.service(),
                        r.promise,
                        r.adopted,
                        r.origin,
                        r.set,
                        s.dirty_chunks(),
                        s.live_entries(),
                        s.is_fencing()
                    );
                    let own =
                        |m: &&rmr_proto::RegionMisses| !s.view().unclean(m.region, s.member()).is_empty();
                    for misses in s.view().misses.values().filter(own).take(3) {
                        text += &format!("\n     {misses:?}");
                    }
                }
                None => text += "\n  down",
            }
        }
        text
    }
}

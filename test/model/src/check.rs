//! What must hold in every state.

use crate::config::Config;
use crate::node::Node;
use crate::world::{Host, World};
use rmr_engine::client::Phase;
use rmr_engine::store::{Service, Store};
use rmr_proto::{ChunkBits, ChunkNo, MemberId, RegionNo};

fn place(store: &Store, block: u64) -> (RegionNo, u32) {
    // A chunk is a block.
    (store.geometry().region_of(ChunkNo(block)), store.geometry().index_in_region(ChunkNo(block)))
}

fn is_clean(store: &Store, block: u64) -> bool {
    let ((region, index), me) = (place(store, block), store.member());
    !store.view().unclean(region, me).has(index) && !store.durable().unclean(region, me).has(index)
}

impl World {
    pub(crate) fn check(&self, config: &Config) -> Result<(), String> {
        self.check_legs(config)?;
        self.check_held()
    }

    fn serving<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = (&'a Node, &'a Store)> {
        let epoch = host.client.epoch();
        host.client.set().iter().filter_map(move |member| {
            let node: &Node = &self.nodes[member.index()];
            let store = node.store.as_ref()?;
            let same = store.service() == Service::Serving && store.view().record.adopted == epoch;
            same.then_some((node, store))
        })
    }

    /// Legs that call a block clean hold what it may hold; while nothing is in flight, the same.
    fn check_legs(&self, config: &Config) -> Result<(), String> {
        let active = self.hosts.iter().flatten().filter(|host| host.client.phase() == Phase::Active);
        let Some(host) = active.max_by_key(|host| host.client.epoch()) else { return Ok(()) };
        let newer = |n: &Node| n.store.as_ref().is_some_and(|s| s.promise() > host.client.epoch().promise);
        if self.nodes.iter().any(|node| newer(node)) {
            return Ok(()); // Somebody is taking over: this client's set may be behind.
        }
        for block in 0..config.blocks {
            let mut first = None;
            for (node, store) in self.serving(host).filter(|(_, store)| is_clean(store, block)) {
                let value = node.seen(block);
                if !self.oracle.allows(block as usize, value) {
                    return Err(format!(
                        "{} holds {value} in block {block}, allowed are {:?}",
                        store.member(),
                        self.oracle.allowed(block as usize)
                    ));
                }
                if host.client.under_way() == 0 && first.is_some_and(|first| first != value) {
                    return Err(format!("clean legs hold {first:?} and {value} in block {block}"));
                }
                first = Some(value);
            }
        }
        Ok(())
    }

    /// No chunk is missed by everybody.
    fn check_held(&self) -> Result<(), String> {
        let views = self.nodes.iter().map(|node| node.store.as_ref().map_or(&node.durable, Store::durable));
        let views: Vec<_> = views.enumerate().collect();
        let regions = views.iter().flat_map(|(_, view)| view.misses.keys().copied());
        for region in regions {
            let missed = |bits: ChunkBits, (member, view): &(usize, &rmr_engine::store::View)| {
                bits.and(view.missed(region, MemberId::at(*member)))
            };
            let lost = views.iter().fold(ChunkBits(u128::MAX), missed);
            if !lost.is_empty() {
                return Err(format!("chunks {lost:?} of {region:?} are missed by every member"));
            }
        }
        Ok(())
    }

    /// When a write is acknowledged, every clean leg of the set knows durably who missed it.
    pub(crate) fn check_misses_durable(&self, host: usize, block: u64) -> Result<(), String> {
        let Some(host) = &self.hosts[host] else { return Ok(()) };
        let outsiders = host.client.members().minus(host.client.set());
        for (_, store) in self.serving(host).filter(|(_, store)| is_clean(store, block)) {
            let (region, index) = place(store, block);
            let durable = store.durable();
            let knows =
                |m: &MemberId| durable.missed(region, *m).has(index) || durable.intents.contains(&region);
            if let Some(outsider) = outsiders.iter().find(|m| !knows(m)) {
                let me = store.member();
                return Err(format!(
                    "a write to block {block} is acknowledged, {me} does not know that {outsider} missed it"
                ));
            }
        }
        Ok(())
    }

    /// Legs of the client's set where the block is clean, as bits.
    pub(crate) fn clean_legs(&self, host: usize, block: u64) -> u8 {
        let Some(host) = &self.hosts[host] else { return 0 };
        let clean = |m: &MemberId| {
            let store = self.nodes[m.index()].store.as_ref();
            store.is_some_and(|store| is_clean(store, block))
        };
        host.client.set().iter().filter(clean).fold(0, |bits, m| bits | 1 << m.index())
    }
}

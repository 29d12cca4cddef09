//! A device that dies at any store, and the one that comes after it: nothing is lost, nothing is answered twice, and what
//! was in flight is taken again in its order.

use super::*;
use crate::inflight::InflightRegion;
use crate::ring::Taken;
use std::collections::BTreeSet;
use tgt_guest_memory::crash;

const SIZE: u16 = 8;

/// What happens to a ring before and while it dies.
struct World {
    guest: Guest,
    driver: Driver,
    region: InflightRegion,
    spec: RingSpec,
}

impl World {
    fn new(packed: bool) -> World {
        let guest = Guest::new(KIB * KIB);
        let (driver, spec) = drive(&guest, spec(packed, SIZE, true));
        let (region, _file) = InflightRegion::create(1, SIZE, packed).expect("a region");
        World { guest, driver, region, spec }
    }

    /// A process begins; the front end of a split ring gives the used index as base, QEMU's of a packed ring knows nothing.
    fn ring(&self) -> Ring {
        let part = self.region.part(0, self.spec.packed).expect("in it");
        Ring::new(&self.guest.memory, &self.spec, self.driver.base(), part).expect("a ring")
    }

    fn offer(&mut self, tables: bool) -> Option<u16> {
        let request = [(DATA, 16, false), (DATA + 512, 512, true), (DATA + 8192, 1, true)];
        if tables {
            self.driver.offer_indirect(&self.guest, GUEST + 256 * KIB, &request)
        } else {
            self.driver.offer(&request[..2])
        }
    }

    fn take(&self, ring: &mut Ring) -> Option<Taken> {
        ring.take(&self.guest.memory, &mut Chain::default()).expect("sound")
    }

    fn answer(&self, ring: &mut Ring, taken: Taken) {
        ring.answer(&self.guest.memory, taken, 1).expect("room");
    }
}

/// Some rounds of offering, taking, and answering out of order in batches, dying after `stores` stores. Gives whether it
/// died, which are answered, and which were offered and are not.
fn lives_and_dies(world: &mut World, stores: u32, tables: bool) -> (bool, BTreeSet<u16>) {
    let mut owed: Vec<u16> = Vec::new();
    let mut ring = world.ring();
    // Three in flight when it begins to die, one of them answered, one more offered.
    for _ in 0..3 {
        owed.push(world.offer(tables).expect("room"));
    }
    crash::die_after(stores);
    let mut taken: Vec<Taken> = (0..3).map(|_| world.take(&mut ring).expect("offered")).collect();
    let order = [1, 0, 0];
    for (nth, index) in order.into_iter().enumerate() {
        let one = taken.remove(index);
        world.answer(&mut ring, one);
        if nth > 0 {
            ring.publish(&world.guest.memory).expect("no log");
        }
    }
    let died = crash::live() > stores;
    let mut owed: BTreeSet<u16> = owed.into_iter().collect();
    while let Some(answer) = world.driver.next_answer() {
        assert!(owed.remove(&answer.id), "{} was answered twice, or never offered", answer.id);
    }
    (died, owed)
}

fn dies_at_every_store(packed: bool, tables: bool) {
    for stores in 0.. {
        let mut world = World::new(packed);
        // A ring that has gone round, and a region that was used before.
        for _ in 0..5 {
            let (died, owed) = lives_and_dies(&mut world, u32::MAX, tables);
            assert!(!died && owed.is_empty());
        }
        let (died, owed) = lives_and_dies(&mut world, stores, tables);
        // The next process, and one that is offered more while it takes up what was left.
        let mut ring = world.ring();
        let fresh = world.offer(tables).expect("room");
        let mut taken = Vec::new();
        while let Some(one) = world.take(&mut ring) {
            taken.push(one);
        }
        let ids: Vec<u16> = taken.iter().map(|taken| taken.id).collect();
        let mut expected: BTreeSet<u16> = owed.clone();
        expected.insert(fresh);
        assert_eq!(ids.iter().copied().collect::<BTreeSet<_>>(), expected, "after {stores} stores");
        assert_eq!(ids.len(), expected.len(), "taken twice after {stores} stores: {ids:?}");
        assert_eq!(ids.last(), Some(&fresh), "old ones first, after {stores} stores");
        for one in taken {
            world.answer(&mut ring, one);
        }
        ring.publish(&world.guest.memory).expect("no log");
        let answers: Vec<u16> = std::iter::from_fn(|| world.driver.next_answer()).map(|a| a.id).collect();
        assert_eq!(answers, ids, "after {stores} stores");
        assert!(world.take(&mut world.ring()).is_none(), "nothing is left after {stores} stores");
        if !died {
            assert!(stores > 20, "only {stores} stores were died at");
            return;
        }
    }
}

#[test]
fn a_split_ring_loses_and_doubles_nothing_whatever_store_its_device_dies_at() {
    dies_at_every_store(false, false);
    dies_at_every_store(false, true);
}

#[test]
fn a_packed_ring_loses_and_doubles_nothing_whatever_store_its_device_dies_at() {
    dies_at_every_store(true, false);
    dies_at_every_store(true, true);
}

/// Where positions before and after differ by the wrap counter alone.
#[test]
fn a_chain_that_fills_the_ring_is_neither_lost_nor_doubled() {
    'kinds: for packed in [false, true] {
        for stores in 0.. {
            let mut world = World::new(packed);
            let piece = [(DATA, 16, false); SIZE as usize];
            let mut owed = None;
            // The third one dies.
            for limit in [u32::MAX, u32::MAX, stores] {
                let id = world.driver.offer(&piece).expect("room");
                let mut ring = world.ring();
                crash::die_after(limit);
                let taken = world.take(&mut ring).expect("offered");
                world.answer(&mut ring, taken);
                ring.publish(&world.guest.memory).expect("no log");
                let died = crash::live() > limit;
                owed = Some((id, died)).filter(|_| world.driver.next_answer().is_none());
                assert!(died || owed.is_none());
                if limit == stores && !died {
                    assert!(stores > 8, "only {stores} stores were died at");
                    continue 'kinds;
                }
            }
            let mut ring = world.ring();
            let again = world.take(&mut ring);
            assert_eq!(again.as_ref().map(|taken| taken.id), owed.map(|(id, _)| id), "after {stores} stores");
            if let Some(taken) = again {
                world.answer(&mut ring, taken);
                ring.publish(&world.guest.memory).expect("no log");
                assert!(world.driver.next_answer().is_some());
            }
        }
    }
}

#[test]
fn what_was_in_flight_is_taken_again_in_its_order() {
    for packed in [false, true] {
        let mut world = World::new(packed);
        // Ids go round, so that their order is not that of their numbers.
        let (_, owed) = lives_and_dies(&mut world, u32::MAX, true);
        assert!(owed.is_empty());
        let offered: Vec<u16> = (0..6).map(|_| world.offer(true).expect("room")).collect();
        let mut ring = world.ring();
        let taken: Vec<Taken> = (0..6).map(|_| world.take(&mut ring).expect("offered")).collect();
        assert!(offered.windows(2).any(|two| two[0] > two[1]));
        drop((ring, taken));
        let mut ring = world.ring();
        assert!(ring.owes());
        let again: Vec<u16> = (0..6).map(|_| world.take(&mut ring).expect("in flight").id).collect();
        assert_eq!(again, offered);
        assert!(!ring.owes() && world.take(&mut ring).is_none());
    }
}

#[test]
fn a_region_of_nonsense_is_refused_or_gives_chains_of_the_ring() {
    use tgt_guest_memory::{Mapping, Window};
    for packed in [false, true] {
        for seed in 0..2000_u64 {
            let mut world = World::new(packed);
            let (_, owed) = lives_and_dies(&mut world, (seed % 60) as u32, seed % 2 == 0);
            let _ = owed;
            let (region, file) = InflightRegion::create(1, SIZE, packed).expect("a region");
            let window = Mapping::shared(&file, 0, region.len()).expect("mapped");
            let window = Window::new(&std::sync::Arc::new(window), 0, region.len(), 8).expect("all of it");
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for place in 0..window.len() {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                window.store_u8(place, (state % 11) as u8, std::sync::atomic::Ordering::Relaxed);
            }
            window.store_u16(8, 1, std::sync::atomic::Ordering::Relaxed);
            window.store_u16(10, SIZE, std::sync::atomic::Ordering::Relaxed);
            let part = region.part(0, packed).expect("in it");
            let Ok(mut ring) = Ring::new(&world.guest.memory, &world.spec, 0, part) else { continue };
            // Bounded, whatever it says; what is given is of this ring.
            for _ in 0..4 * SIZE {
                match ring.take(&world.guest.memory, &mut Chain::default()) {
                    Ok(Some(taken)) => {
                        assert!(taken.id < SIZE);
                        if ring.answer(&world.guest.memory, taken, 0).is_err() {
                            break;
                        }
                        let _ = ring.publish(&world.guest.memory);
                    }
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }
}

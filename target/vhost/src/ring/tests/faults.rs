//! What a hostile driver does: each is refused, with what was wrong.

use super::*;
use crate::ring::RingFault;
use std::sync::atomic::Ordering::Relaxed;
use tgt_guest_memory::{Fault, Window};

/// What taking says of descriptors that are written here raw: address, length, flags, next or id.
fn refused(packed: bool, indirect: bool, descs: &[(u64, u32, u16, u16)]) -> RingFault {
    let spec = RingSpec { indirect, ..spec(packed, 4, false) };
    let (guest, driver, mut ring) = setup(spec);
    let table = guest.memory.user_window(driver.at().desc, 64, 16).expect("the table");
    for (index, (at, len, flags, other)) in descs.iter().enumerate() {
        let (third, fourth) = if packed { (*other, flags | 1 << 7) } else { (*flags, *other) };
        put(&table, index * 16, *at, *len, third, fourth);
    }
    if !packed {
        let available = guest.memory.user_window(driver.at().driver, 14, 2).expect("the ring");
        available.store_u16(2, 1, Relaxed);
    }
    let mut chain = Chain::default();
    ring.take(&guest.memory, &mut chain).expect_err("refused")
}

fn put(table: &Window, place: usize, at: u64, len: u32, third: u16, fourth: u16) {
    table.store_u64(place, at, Relaxed);
    table.store_u32(place + 8, len, Relaxed);
    table.store_u16(place + 12, third, Relaxed);
    table.store_u16(place + 14, fourth, Relaxed);
}

#[test]
fn descriptors_of_memory_that_is_not_there_are_refused() {
    for packed in [false, true] {
        for (at, len) in
            [(0, 16), (GUEST - 1, 2), (GUEST + KIB * KIB - 1, 2), (u64::MAX, 2), (GUEST, u32::MAX)]
        {
            let fault = refused(packed, true, &[(at, len, 0, 0)]);
            assert_eq!(fault, RingFault::Memory(Fault::Outside { at, len: u64::from(len) }));
            let table = refused(packed, true, &[(at, 16, 4, 0)]);
            if len != u32::MAX && at != GUEST - 1 && at != GUEST + KIB * KIB - 1 {
                assert_eq!(table, RingFault::Memory(Fault::Outside { at, len: 16 }));
            }
        }
    }
}

#[test]
fn loops_and_indices_beyond_the_ring_are_refused() {
    assert_eq!(refused(false, true, &[(DATA, 1, 1, 0)]), RingFault::Loop { limit: 4 });
    assert_eq!(refused(false, true, &[(DATA, 1, 1, 1), (DATA, 1, 1, 0)]), RingFault::Loop { limit: 4 });
    assert_eq!(refused(false, true, &[(DATA, 1, 1, 4)]), RingFault::Index { index: 4, size: 4 });
    let endless = [(DATA, 1, 1, 0); 4];
    assert_eq!(refused(true, true, &endless), RingFault::Loop { limit: 4 });
    assert_eq!(refused(true, true, &[(DATA, 1, 0, 4)]), RingFault::Twice { id: 4, size: 4 });
}

#[test]
fn indirect_tables_are_refused_that_are_nested_not_agreed_on_or_of_odd_length() {
    for packed in [false, true] {
        assert_eq!(refused(packed, false, &[(DATA, 16, 4, 0)]), RingFault::Indirect);
        assert_eq!(refused(packed, true, &[(DATA, 16, 5, 0)]), RingFault::Indirect, "with a next one");
        for len in [0, 15, 17, 16 * 1025, u32::MAX] {
            assert_eq!(refused(packed, true, &[(DATA, len, 4, 0)]), RingFault::Table(len));
        }
        let (guest, mut driver, mut ring) = setup(spec(packed, 4, false));
        driver.offer_indirect(&guest, DATA, &[(DATA, 16, false)]).expect("room");
        guest.write(DATA + if packed { 14 } else { 12 }, &4_u16.to_le_bytes());
        let nested = ring.take(&guest.memory, &mut Chain::default());
        assert_eq!(nested, Err(RingFault::Indirect));
    }
}

#[test]
fn a_table_that_leads_round_or_out_is_refused() {
    let (guest, mut driver, mut ring) = setup(spec(false, 4, false));
    driver.offer_indirect(&guest, DATA, &[(DATA, 16, false), (DATA, 16, false)]).expect("room");
    guest.write(DATA + 14, &0_u16.to_le_bytes());
    assert_eq!(ring.take(&guest.memory, &mut Chain::default()), Err(RingFault::Loop { limit: 2 }));
    guest.write(DATA + 14, &2_u16.to_le_bytes());
    assert_eq!(ring.take(&guest.memory, &mut Chain::default()), Err(RingFault::Index { index: 2, size: 2 }));
}

#[test]
fn what_the_device_reads_comes_before_what_it_writes() {
    assert_eq!(refused(false, true, &[(DATA, 1, 3, 1), (DATA, 1, 0, 0)]), RingFault::Order);
    assert_eq!(refused(true, true, &[(DATA, 1, 3, 0), (DATA, 1, 0, 0)]), RingFault::Order);
}

#[test]
fn an_available_index_that_runs_away_is_refused() {
    let (guest, driver, mut ring) = setup(spec(false, 4, false));
    let available = guest.memory.user_window(driver.at().driver, 14, 2).expect("the ring");
    available.store_u16(2, 5, Relaxed);
    let fault = ring.take(&guest.memory, &mut Chain::default());
    assert_eq!(fault, Err(RingFault::TooFar { index: 5, waiting: 5, size: 4 }));
    available.store_u16(2, 4, Relaxed);
    available.store_u16(4, 4, Relaxed);
    assert_eq!(ring.take(&guest.memory, &mut Chain::default()), Err(RingFault::Index { index: 4, size: 4 }));
}

#[test]
fn a_chain_that_is_in_flight_is_not_taken_again() {
    let (guest, mut driver, mut ring) = setup(spec(false, 4, false));
    let id = driver.offer(&[(DATA, 16, false)]).expect("room");
    let mut chain = Chain::default();
    let _taken = ring.take(&guest.memory, &mut chain).expect("sound").expect("offered");
    let available = guest.memory.user_window(driver.at().driver, 14, 2).expect("the ring");
    available.store_u16(6, id, Relaxed);
    available.store_u16(2, 2, Relaxed);
    assert_eq!(ring.take(&guest.memory, &mut chain), Err(RingFault::Twice { id, size: 4 }));
}

#[test]
fn rings_of_odd_sizes_places_and_positions_are_refused() {
    let guest = Guest::new(KIB * KIB);
    let made = |spec: RingSpec, base| Ring::new(&guest.memory, &spec, base, None).map(drop);
    let (_, good) = drive(&guest, spec(false, 4, true));
    assert_eq!(made(good, 0), Ok(()));
    for size in [0, 3, 1025, 32768] {
        assert_eq!(made(RingSpec { size, ..good }, 0), Err(RingFault::Size(size)));
    }
    let (_, packed) = drive(&guest, spec(true, 3, true));
    assert_eq!(made(packed, 0x8000_8000), Ok(()), "packed rings need not be powers of two");
    assert_eq!(made(packed, 3), Err(RingFault::Index { index: 3, size: 3 }));
    for wrong in [
        RingSpec { desc: good.desc + 8, ..good },
        RingSpec { driver: good.driver + 1, ..good },
        RingSpec { device: good.device + 2, ..good },
        RingSpec { desc: 0, ..good },
        RingSpec { device: good.desc + KIB * KIB - 16, ..good },
    ] {
        assert!(matches!(made(wrong, 0), Err(RingFault::Memory(_))), "{wrong:?}");
    }
}

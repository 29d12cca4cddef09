//! What a sound driver does.

use super::*;

#[test]
fn chains_are_taken_as_they_were_offered_and_answered_in_any_order() {
    each_kind(8, |spec| {
        let (guest, mut driver, mut ring) = setup(spec);
        let mut chain = Chain::default();
        // Often enough that positions and wrap counters go round many times.
        for round in 0..70_000_u64 {
            let one = [(DATA + round % 7, 16, false), (DATA + 64, 512, true), (DATA + 4096, 1, true)];
            let two = [(DATA + 100, 16, false), (DATA + 8192, 1, true)];
            let first = driver.offer(&one).expect("room");
            let second = driver.offer(&two).expect("room");
            let taken_one = ring.take(&guest.memory, &mut chain).expect("sound").expect("offered");
            assert_eq!((taken_one.id, pieces(&chain)), (first, one.to_vec()));
            let taken_two = ring.take(&guest.memory, &mut chain).expect("sound").expect("offered");
            assert_eq!((taken_two.id, pieces(&chain)), (second, two.to_vec()));
            assert_eq!(ring.take(&guest.memory, &mut chain).expect("sound"), None);
            ring.answer(&guest.memory, taken_two, 1).expect("room");
            ring.answer(&guest.memory, taken_one, 513).expect("room");
            ring.publish(&guest.memory).expect("no log");
            let answers = [driver.next_answer(), driver.next_answer(), driver.next_answer()];
            let answers = answers.map(|answer| answer.map(|answer| (answer.id, answer.written)));
            assert_eq!(answers, [Some((second, 1)), Some((first, 513)), None]);
        }
    });
}

#[test]
fn a_table_holds_more_pieces_than_the_ring_has_descriptors() {
    each_kind(4, |spec| {
        let (guest, mut driver, mut ring) = setup(spec);
        let mut all: Vec<_> = (0..100).map(|n| (DATA + 4096 * n, 4096, false)).collect();
        all.push((DATA, 1, true));
        for _ in 0..9 {
            let id = driver.offer_indirect(&guest, GUEST + 256 * KIB, &all).expect("room");
            let mut chain = Chain::default();
            let taken = ring.take(&guest.memory, &mut chain).expect("sound").expect("offered");
            assert_eq!((taken.id, pieces(&chain)), (id, all.clone()));
            ring.answer(&guest.memory, taken, 1).expect("room");
            ring.publish(&guest.memory).expect("no log");
            assert_eq!(driver.next_answer().map(|answer| answer.id), Some(id));
        }
    });
}

#[test]
fn the_guest_is_called_when_it_asked_for_it_and_for_nothing_else() {
    each_kind(8, |spec| {
        let (guest, mut driver, mut ring) = setup(spec);
        let mut chain = Chain::default();
        let mut answer = |driver: &mut Driver, ring: &mut Ring| {
            driver.offer(&[(DATA, 16, false), (DATA, 1, true)]).expect("room");
            let taken = ring.take(&guest.memory, &mut chain).expect("sound").expect("offered");
            ring.answer(&guest.memory, taken, 1).expect("room");
            ring.publish(&guest.memory).expect("no log");
            let wants = ring.wants_call();
            assert!(!ring.wants_call(), "once for each");
            driver.next_answer().expect("answered");
            wants
        };
        for round in 0..50 {
            driver.ask_for_calls(true);
            assert!(answer(&mut driver, &mut ring), "{spec:?} {round}");
            driver.ask_for_calls(false);
            assert!(!answer(&mut driver, &mut ring), "{spec:?} {round}");
        }
    });
}

#[test]
fn a_kick_comes_for_what_is_offered_after_it_was_asked_for_and_not_before() {
    each_kind(8, |spec| {
        let (guest, mut driver, mut ring) = setup(spec);
        let request = [(DATA, 16, false), (DATA, 1, true)];
        assert!(!ring.ask_for_kicks(&guest.memory, true).expect("no log"), "nothing is there");
        driver.offer(&request).expect("room");
        assert!(driver.must_kick(), "{spec:?}");
        assert!(ring.ask_for_kicks(&guest.memory, true).expect("no log"), "its kick may have gone by");
        ring.ask_for_kicks(&guest.memory, false).expect("no log");
        if !spec.event_idx {
            driver.offer(&request).expect("room");
            assert!(!driver.must_kick(), "{spec:?}");
        }
    });
}

#[test]
fn a_ring_goes_on_where_it_stopped() {
    each_kind(4, |spec| {
        let guest = Guest::new(KIB * KIB);
        let (mut driver, spec) = drive(&guest, spec);
        let mut ring = Ring::new(&guest.memory, &spec, driver.base(), None).expect("a ring");
        let mut chain = Chain::default();
        for _ in 0..11 {
            let id = driver.offer(&[(DATA, 16, false), (DATA, 1, true)]).expect("room");
            let base = ring.base();
            ring = Ring::new(&guest.memory, &spec, base, None).expect("a ring");
            let taken = ring.take(&guest.memory, &mut chain).expect("sound").expect("offered");
            ring.answer(&guest.memory, taken, 1).expect("room");
            ring.publish(&guest.memory).expect("no log");
            assert_eq!(driver.next_answer().map(|answer| answer.id), Some(id));
        }
    });
}

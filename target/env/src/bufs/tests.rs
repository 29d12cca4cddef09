use super::*;
use proptest::prelude::*;

fn buffer(len: u32, byte: u8) -> Bufs {
    let mut bufs = Bufs::from(DmaBuf::alloc(len).expect("memory for a test"));
    bufs.fill(byte);
    bufs
}

fn bytes(bufs: &Bufs) -> Vec<u8> {
    let mut out = vec![0; bufs.len() as usize];
    bufs.copy_to_slice(0, &mut out);
    out
}

#[test]
fn a_pool_buffer_goes_in_and_comes_out() {
    let bufs = buffer(4096, 7);
    assert_eq!(bytes(&bufs), vec![7; 4096]);
    assert_eq!(bufs.into_dma().expect("it was made from one").len(), 4096);
    assert!(Bufs::none().into_dma().is_err());
}

#[test]
fn a_write_is_lent_to_two_and_comes_back_once() {
    let mut lender = Lender::new();
    let lease = lender.lend(buffer(4096, 3)).expect("room");
    let (a, b) = (lender.view(&lease), lender.view(&lease));
    assert!(a.is_read_only() && b.is_read_only());
    assert_eq!(bytes(&a), bytes(&b));
    lender.give_back(a);
    assert_eq!(lender.away(&lease), 1);
    lender.give_back(b);
    assert_eq!(lender.end(lease).len(), 4096);
}

#[test]
#[should_panic(expected = "pieces still away")]
fn a_lease_does_not_end_while_a_piece_is_away() {
    let mut lender = Lender::new();
    let lease = lender.lend(buffer(512, 0)).expect("room");
    let away = lender.view(&lease);
    std::mem::forget(away);
    let _ = lender.end(lease);
}

#[test]
#[should_panic(expected = "read-only")]
fn a_view_is_not_written() {
    let mut lender = Lender::new();
    let lease = lender.lend(buffer(512, 0)).expect("room");
    lender.view(&lease).fill(1);
}

#[test]
#[should_panic(expected = "was not lent here")]
fn a_piece_goes_back_only_where_it_came_from() {
    let (mut here, mut there) = (Lender::new(), Lender::new());
    let lease = here.lend(buffer(512, 0)).expect("room");
    let other = there.lend(buffer(512, 0)).expect("room");
    let away = here.view(&lease);
    drop(other);
    there.give_back(away);
}

#[test]
#[should_panic(expected = "cannot be cut")]
fn a_shared_buffer_is_not_cut() {
    let mut lender = Lender::new();
    let lease = lender.lend(buffer(512, 0)).expect("room");
    std::mem::forget(lender.view(&lease));
    let _ = lender.cut(&lease, 8);
}

#[test]
#[should_panic(expected = "dropped instead of given back")]
fn a_lost_piece_is_noticed() {
    let mut lender = Lender::new();
    let lease = lender.lend(buffer(512, 0)).expect("room");
    drop(lender.view(&lease));
}

#[test]
fn operations_without_data_are_lent_too() {
    let mut lender = Lender::new();
    let lease = lender.lend(Bufs::none()).expect("room");
    let (a, b) = (lender.view(&lease), lender.cut(&lease, 4096));
    lender.give_back(a);
    lender.give_back(b);
    assert!(lender.end(lease).is_empty());
}

#[test]
fn a_part_can_be_lent_on_by_another_lender() {
    let (mut outer, mut inner) = (Lender::new(), Lender::new());
    let whole = outer.lend(buffer(1024, 9)).expect("room");
    let part = outer.cut(&whole, 512);
    let nested = inner.lend(part).expect("room");
    let views = [inner.view(&nested), inner.view(&nested)];
    views.into_iter().for_each(|view| inner.give_back(view));
    let part = inner.end(nested);
    outer.give_back(part);
    assert_eq!(bytes(&outer.end(whole)), vec![9; 1024]);
}

#[test]
fn steady_use_of_lists_and_leases_reuses_their_memory() {
    let mut lender = Lender::new();
    let mut bufs = lender.gather([buffer(512, 1), buffer(512, 2)]);
    let held = lender.held();
    for _ in 0..10_000 {
        let lease = lender.lend(bufs).expect("room");
        let part = lender.cut(&lease, 700);
        assert_eq!(part.segment_count(), 2);
        lender.give_back(part);
        bufs = lender.end(lease);
    }
    assert_eq!(lender.held().0, held.0.max(1));
    assert_eq!(lender.held().1, held.1);
}

proptest! {
    /// Copies and compares between buffers in pieces of any sizes, against plain vectors.
    #[test]
    fn buffers_are_copied_and_compared_across_their_pieces(
        ours in prop::collection::vec(1u32..300, 1..5),
        theirs in prop::collection::vec(1u32..300, 1..5),
        at in (0u32..300, 0u32..300, 1u32..600),
        spoiled in 0u32..600,
    ) {
        let mut lender = Lender::new();
        let mut gathered = |sizes: &[u32], byte| lender.gather(sizes.iter().map(|size| buffer(*size, byte)));
        let (mut a, mut b) = (gathered(&ours, 1), gathered(&theirs, 2));
        let pattern: Vec<u8> = (0..b.len()).map(|i| (i * 31 % 251) as u8).collect();
        b.copy_from_slice(0, &pattern);
        let (to, from) = (at.0 % a.len(), at.1 % b.len());
        let len = at.2.min(a.len() - to).min(b.len() - from);
        let mut oracle = vec![1; a.len() as usize];
        oracle[to as usize..(to + len) as usize].copy_from_slice(&pattern[from as usize..(from + len) as usize]);
        a.copy_from_bufs(to, &b, from, len);
        prop_assert_eq!(bytes(&a), oracle.clone());
        prop_assert!(a.equals(to, &b, from, len));
        let wrong = to + spoiled % len;
        a.copy_from_slice(wrong, &[!oracle[wrong as usize]]);
        prop_assert!(!a.equals(to, &b, from, len));
        prop_assert!(a.equals(to, &b, from, wrong - to), "what lies before is the same");
    }

    /// Against a plain vector: gathered buffers of any sizes, cut anywhere, hold the bytes where the vector does.
    #[test]
    fn cuts_of_gathered_buffers_cover_the_same_bytes(
        sizes in prop::collection::vec(1u32..600, 1..6),
        cuts in prop::collection::vec(1u32..900, 1..8),
    ) {
        let mut lender = Lender::new();
        let parts: Vec<Bufs> = sizes.iter().map(|size| buffer(*size, 0)).collect();
        let mut bufs = lender.gather(parts);
        let oracle: Vec<u8> = (0..bufs.len()).map(|i| (i * 31 % 251) as u8).collect();
        bufs.copy_from_slice(0, &oracle);
        let lease = lender.lend(bufs).expect("room");
        let (mut at, mut away) = (0, Vec::new());
        for cut in cuts {
            let len = cut.min(oracle.len() as u32 - at);
            let part = lender.cut(&lease, len);
            prop_assert_eq!(bytes(&part), &oracle[at as usize..(at + len) as usize]);
            away.push(part);
            at += len;
        }
        away.into_iter().for_each(|part| lender.give_back(part));
        prop_assert_eq!(bytes(&lender.end(lease)), oracle);
    }
}

use super::script::{on_reactor, scripted, write};
use crate::{Bdevs, Claim, ClaimError, Desc, DoneQueue, IoStatus, Mode, OpenError};

const SHARED: Claim = Claim::ReadManyWriteShared(7);

#[test]
fn a_claim_keeps_writers_out_and_readers_in_until_it_is_closed() {
    for claim in [Claim::ExclusiveWrite, Claim::ReadManyWriteOne, Claim::ReadManyWriteNone, SHARED] {
        let bdevs = Bdevs::new();
        let (bdev, _) = scripted(&bdevs, |_| ());
        let holder = Desc::open(&bdev, "holder", Mode::Write).expect("free");
        holder.claim(claim).expect("nobody else is there");
        assert_eq!(bdev.claim(), claim);
        let refused = OpenError::Claimed { bdev: "Scripted0".into(), holder: "holder".into(), claim };
        assert_eq!(Desc::open(&bdev, "writer", Mode::Write).expect_err("claimed"), refused);
        drop(Desc::open(&bdev, "reader", Mode::Read).expect("readers may"));
        drop(holder);
        assert_eq!(bdev.claim(), Claim::None);
        drop(Desc::open(&bdev, "writer", Mode::Write).expect("free again"));
    }
}

#[test]
fn only_shared_claims_of_one_kind_and_key_go_together() {
    let all = [Claim::ExclusiveWrite, Claim::ReadManyWriteOne, Claim::ReadManyWriteNone, SHARED];
    let all = all.into_iter().chain([Claim::ReadManyWriteShared(8)]).collect::<Vec<_>>();
    for first in &all {
        for second in &all {
            let bdevs = Bdevs::new();
            let (bdev, _) = scripted(&bdevs, |_| ());
            let a = Desc::open(&bdev, "a", Mode::Read).expect("free");
            let b = Desc::open(&bdev, "b", Mode::Read).expect("free");
            a.claim(*first).expect("nobody else is there");
            let together =
                first == second && matches!(first, Claim::ReadManyWriteNone | Claim::ReadManyWriteShared(_));
            assert_eq!(b.claim(*second).is_ok(), together, "{first:?} then {second:?}");
            assert_eq!(bdev.claim(), *first);
            drop(a);
            assert_eq!(bdev.claim(), if together { *second } else { Claim::None });
        }
    }
}

#[test]
fn nothing_is_claimed_while_another_writes() {
    let bdevs = Bdevs::new();
    let (bdev, _) = scripted(&bdevs, |_| ());
    let writer = Desc::open(&bdev, "writer", Mode::Write).expect("free");
    let other = Desc::open(&bdev, "other", Mode::Read).expect("free");
    let refused = ClaimError::OpenForWriting { bdev: "Scripted0".into(), writer: "writer".into() };
    assert_eq!(other.claim(Claim::ExclusiveWrite), Err(refused));
    drop(writer);
    assert_eq!(other.claim(Claim::ExclusiveWrite), Ok(()));
}

#[test]
fn a_claim_lets_its_holder_write_or_not() {
    for (claim, status) in [
        (Claim::ExclusiveWrite, IoStatus::SUCCESS),
        (Claim::ReadManyWriteNone, IoStatus::WRITE_PROTECTED),
        (Claim::None, IoStatus::WRITE_PROTECTED),
    ] {
        on_reactor(move |cx| {
            let bdevs = Bdevs::new();
            let (bdev, script) = scripted(&bdevs, |_| ());
            script.set_automatic(|io| io.complete(IoStatus::SUCCESS));
            let desc = Desc::open(&bdev, "holder", Mode::Read).expect("free");
            desc.claim(claim).expect("nobody else is there");
            let mut channel = desc.open_channel(cx).expect("opens");
            channel.submit(cx, write(1, 0, 1)).expect("room");
            let mut done = DoneQueue::default();
            let _ = channel.poll(cx, &mut done);
            assert_eq!(done.pop().map(|done| done.finish().status), Some(status), "{claim:?}");
        });
    }
}

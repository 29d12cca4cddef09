//! Memory from outside: what is in it can be read and written, what is not cannot be reached.

#![allow(clippy::unwrap_used)]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use crate::{DirtyLog, Fault, GuestMemory, LOG_PAGE, MapError, Mapping, REGIONS_MAX, RegionSpec, Window};
use crate::{is_sealed, sealed_memfd};

const K: u64 = 1024;

fn file(len: u64) -> OwnedFd {
    sealed_memfd("test", len).unwrap()
}

fn spec(guest: u64, len: u64, user: u64, offset: u64) -> RegionSpec {
    RegionSpec { guest, len, user, offset }
}

/// 8 KiB at 0, 8 KiB at 8 KiB of another file, a hole, 4 KiB at 1 MiB that begin 4 KiB into a file.
fn three() -> GuestMemory {
    let none = GuestMemory::default();
    let one = none.with(spec(0, 8 * K, 0x10_0000, 0), file(8 * K)).unwrap();
    let two = one.with(spec(8 * K, 8 * K, 0x40_0000, 0), file(8 * K)).unwrap();
    two.with(spec(1024 * K, 4 * K, 0x80_0000, 4 * K), file(8 * K)).unwrap()
}

#[test]
fn what_is_written_is_read_also_across_regions_that_meet() {
    let memory = three();
    let bytes: Vec<u8> = (0..=255).collect();
    memory.write(8 * K - 100, &bytes).unwrap();
    let mut back = vec![0; 256];
    memory.read(8 * K - 100, &mut back).unwrap();
    assert_eq!(back, bytes);
    let mut second = vec![0; 156];
    memory.read(8 * K, &mut second).unwrap();
    assert_eq!(second, bytes[100..]);
}

#[test]
fn nothing_outside_is_reached_at_any_edge() {
    let memory = three();
    for (at, len) in
        [(16 * K - 1, 2), (16 * K, 1), (1024 * K - 1, 1), (1028 * K, 1), (u64::MAX, 1), (1, u64::MAX)]
    {
        assert_eq!(memory.check(at, len), Err(Fault::Outside { at, len }));
    }
    assert_eq!(memory.check(16 * K - 1, 1), Ok(()));
    assert_eq!(memory.check(1024 * K, 4 * K), Ok(()));
    assert_eq!(memory.check(u64::MAX, 0), Ok(()), "no byte is anywhere");
    let outside = Err(Fault::Outside { at: 16 * K - 2, len: 4 });
    assert_eq!(memory.write(16 * K - 2, &[1; 4]), outside);
    assert_eq!(memory.read(16 * K - 2, &mut [1; 4]), outside);
}

#[test]
fn a_region_is_refused_that_overlaps_wraps_or_goes_past_its_file() {
    let memory = three();
    let refused = |spec: RegionSpec, len: u64| memory.with(spec, file(len)).unwrap_err();
    assert!(matches!(refused(spec(4 * K, 4 * K, 0, 0), 8 * K), MapError::Overlap { other: 0, .. }));
    assert!(matches!(refused(spec(15 * K, 4 * K, 0, 0), 8 * K), MapError::Overlap { other: 8192, .. }));
    assert!(matches!(refused(spec(u64::MAX - 10, 4 * K, 0, 0), 8 * K), MapError::Wraps { .. }));
    assert!(matches!(refused(spec(64 * K, 4 * K, u64::MAX, 0), 8 * K), MapError::Wraps { .. }));
    assert!(matches!(refused(spec(64 * K, 0, 0, 0), 8 * K), MapError::Length { .. }));
    assert!(matches!(refused(spec(64 * K, 8 * K, 0, 4 * K), 8 * K), MapError::BeyondFile { size: 8192, .. }));
    assert!(matches!(refused(spec(64 * K, 8 * K, 0, u64::MAX), 8 * K), MapError::Length { .. }));
    let not_a_file = std::os::unix::net::UnixStream::pair().unwrap().0;
    assert!(memory.with(spec(64 * K, 4 * K, 0, 0), not_a_file).is_err());
}

#[test]
fn regions_are_bounded_and_leave_by_their_place() {
    let mut memory = GuestMemory::default();
    for at in 0..REGIONS_MAX as u64 {
        memory = memory.with(spec(at * 8 * K, 4 * K, at * 8 * K, 0), file(4 * K)).unwrap();
    }
    let more = memory.with(spec(1 << 40, 4 * K, 0, 0), file(4 * K)).unwrap_err();
    assert!(matches!(more, MapError::TooMany(n) if n == REGIONS_MAX + 1));
    assert!(matches!(memory.without(&spec(1, 4 * K, 0, 0)), Err(MapError::NoRegion { at: 1, .. })));
    let rest = memory.without(&spec(8 * K, 4 * K, 8 * K, 77)).unwrap();
    assert_eq!(rest.regions().count(), REGIONS_MAX - 1);
    assert!(rest.check(8 * K, 1).is_err() && memory.check(8 * K, 1).is_ok(), "the old one is as it was");
}

#[test]
fn a_window_is_found_by_the_monitors_address_and_holds_its_memory() {
    let memory = three();
    let window = memory.user_window(0x80_0000, 4 * K, 16).unwrap();
    memory.write(1024 * K, &[0x34, 0x12, 0, 0, 0, 0, 0, 0x80]).unwrap();
    drop(memory);
    assert_eq!(window.load_u16(0, Relaxed), 0x1234);
    assert_eq!(window.load_u64(0, Relaxed), 0x8000_0000_0000_1234);
    window.store_u32(4, 7, Relaxed);
    assert_eq!((window.load_u8(4, Relaxed), window.load_u32(4, Relaxed)), (7, 7));
}

#[test]
fn a_window_is_refused_that_is_outside_crosses_regions_or_is_misaligned() {
    let memory = three();
    let refused = |at, len, align| memory.user_window(at, len, align).map(drop).unwrap_err();
    assert_eq!(
        refused(0x10_0000 + 8 * K - 16, 32, 16),
        Fault::UserOutside { at: 0x10_0000 + 8 * K - 16, len: 32 }
    );
    assert_eq!(refused(0, 16, 16), Fault::UserOutside { at: 0, len: 16 });
    assert_eq!(refused(0x10_0000, u64::MAX, 16), Fault::UserOutside { at: 0x10_0000, len: u64::MAX });
    assert_eq!(refused(0x10_0008, 16, 16), Fault::Misaligned { at: 0x10_0008, align: 16 });
}

#[test]
#[should_panic(expected = "byte 4094 of a window of 4096")]
fn a_word_past_the_end_of_a_window_is_never_read() {
    let mapping = Arc::new(Mapping::shared(file(4 * K), 0, 4 * K).unwrap());
    let _word = Window::new(&mapping, 0, 4 * K, 4).unwrap().load_u32(4094, Relaxed);
}

#[test]
fn what_is_written_is_in_the_log_page_by_page_and_beyond_it_is_a_fault() {
    let bits = file(1);
    let log = DirtyLog::new(Mapping::shared(&bits, 0, 1).unwrap()).unwrap();
    let seen = Mapping::shared(&bits, 0, 1).unwrap();
    let seen = Window::new(&Arc::new(seen), 0, 1, 1).unwrap();
    let memory = three().with_log(Some(Arc::new(log)));
    memory.write(5, &[1; 3]).unwrap();
    assert_eq!(seen.load_u8(0, Relaxed), 1);
    memory.write(LOG_PAGE - 1, &[1; 2]).unwrap();
    memory.write(3 * LOG_PAGE, &[1]).unwrap();
    assert_eq!(seen.load_u8(0, Relaxed), 0b1011);
    assert_eq!(memory.write(9, &[]), Ok(()));
    let beyond = Fault::BeyondLog { at: 1024 * K, end: 8 * LOG_PAGE };
    assert_eq!(memory.write(1024 * K, &[9]), Err(beyond));
    let mut byte = [0];
    memory.read(1024 * K, &mut byte).unwrap();
    assert_eq!(byte, [9], "it is the log that is too short");
    memory.with_log(None).write(0, &[1]).unwrap();
}

#[test]
fn a_memfd_of_ours_is_sealed() {
    let sealed = file(4 * K);
    assert!(is_sealed(&sealed) && rustix::fs::ftruncate(&sealed, 0).is_err());
    let open = rustix::fs::memfd_create("open", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    assert!(!is_sealed(open));
}

proptest! {
    /// Against a flat array in which a byte outside is None.
    #[test]
    fn reads_and_writes_agree_with_a_flat_array(
        moves in prop::collection::vec((0_u64..20 * K, 0_usize..600, any::<u8>(), any::<bool>()), 1..40)
    ) {
        let memory = three();
        let mut flat: Vec<Option<u8>> = (0..21 * K).map(|at| (at < 16 * K).then_some(0)).collect();
        for (at, len, byte, write) in moves {
            let range = at as usize..at as usize + len;
            let inside = flat[range.clone()].iter().all(Option::is_some);
            if write {
                prop_assume!(inside || memory.check(at, len as u64).is_err());
                if inside {
                    memory.write(at, &vec![byte; len]).unwrap();
                    flat[range].fill(Some(byte));
                }
            } else {
                let mut out = vec![0; len];
                prop_assert_eq!(memory.read(at, &mut out).is_ok(), inside);
                if inside {
                    prop_assert!(out.iter().zip(&flat[range]).all(|(out, flat)| Some(*out) == *flat));
                }
            }
        }
    }
}

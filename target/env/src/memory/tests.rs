//! DMA memory as its users see it. What is counted or limited per process runs in a process of its own.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::runs::Run;
use super::space::Purpose;
use super::*;
use crate::testing::{alone, become_a_plain_user};

const MIB: u64 = 1 << 20;
const GRANULE: u64 = GRANULE_BYTES as u64;

fn here(test: &str, body: impl FnOnce()) {
    alone(module_path!(), test, body);
}

fn class_stats(bytes: u32) -> ClassStats {
    let classes = memory().stats().classes;
    *classes.iter().find(|class| class.bytes == bytes).expect("a class in use")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_buffer_is_as_long_as_asked_aligned_and_all_its_own(lens in prop::collection::vec(1..=DmaBuf::MAX_LEN, 1..8)) {
        let mut bufs: Vec<_> = lens.iter().map(|&len| DmaBuf::alloc(len).expect("memory")).collect();
        for (mark, buf) in (1u8..).zip(&mut bufs) {
            let size = buf.len().next_power_of_two().max(512) as usize;
            prop_assert_eq!(buf.as_ptr().addr() % size, 0);
            buf.as_mut_slice().fill(mark);
        }
        for ((mark, buf), &len) in (1u8..).zip(&bufs).zip(&lens) {
            prop_assert_eq!(buf.as_slice().len(), len as usize);
            prop_assert!(buf.as_slice().iter().all(|&byte| byte == mark));
        }
    }
}

#[test]
fn lengths_outside_the_classes_are_refused_by_number() {
    for asked in [0, DmaBuf::MAX_LEN + 1, u32::MAX] {
        let error = DmaBuf::alloc(asked).expect_err("refused").to_string();
        assert!(error.contains(&format!("{asked} bytes")) && error.contains("1 to 2097152"), "{error}");
    }
    assert!(matches!(Region::alloc(0), Err(MemoryError::RegionEmpty)));
    assert!(matches!(Region::alloc(u64::MAX), Err(MemoryError::AddressSpace { asked: u64::MAX, .. })));
}

#[test]
fn a_zeroed_buffer_is_zero_whatever_was_in_it() {
    for _ in 0..3 {
        let mut buf = DmaBuf::alloc_zeroed(9000).expect("memory");
        assert!(buf.as_slice().iter().all(|&byte| byte == 0));
        buf.as_mut_slice().fill(0xff);
    }
}

#[test]
fn ownership_survives_the_way_through_a_raw_pointer() {
    let mut buf = DmaBuf::alloc(5000).expect("memory");
    buf.as_mut_slice().fill(7);
    let (ptr, len) = buf.into_raw();
    // SAFETY: straight from `into_raw`, used once.
    let buf = unsafe { DmaBuf::from_raw(ptr, len) };
    assert_eq!((buf.len(), buf.as_slice()[4999]), (5000, 7));
}

/// Each thread marks what it holds, checks the marks before letting go, and lets go half of it on the next thread.
#[test]
fn no_buffer_is_ever_held_twice_by_threads_that_allocate_and_free_together() {
    const THREADS: u64 = 4;
    const STEPS: u64 = 6_000;
    const HELD: usize = 300;
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..THREADS).map(|_| mpsc::channel::<(u64, DmaBuf)>()).unzip();
    let workers: Vec<_> = (0u64..)
        .zip(receivers)
        .map(|(me, inbox)| {
            let next = senders[((me + 1) % THREADS) as usize].clone();
            thread::spawn(move || {
                let mut held = Vec::new();
                let mut random = me + 1;
                for step in 0..STEPS {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let mark = me << 32 | step;
                    let mut buf = DmaBuf::alloc(512 << ((random >> 40) % 5)).expect("memory");
                    buf.as_mut_slice()
                        .chunks_exact_mut(8)
                        .for_each(|word| word.copy_from_slice(&mark.to_ne_bytes()));
                    held.push((mark, buf));
                    if held.len() > HELD {
                        let item = held.swap_remove((random >> 20) as usize % held.len());
                        if random >> 63 == 0 {
                            next.send(item).expect("the next thread listens");
                        } else {
                            check(&item);
                        }
                    }
                    inbox.try_iter().for_each(|item| check(&item));
                }
                held.iter().for_each(check);
                drop(next);
                inbox
            })
        })
        .collect();
    drop(senders);
    // All inboxes stay open until the last sender is done.
    let inboxes: Vec<_> = workers.into_iter().map(|worker| worker.join().expect("a worker")).collect();
    inboxes.iter().flat_map(|inbox| inbox.try_iter()).for_each(|item| check(&item));
}

fn check((mark, buf): &(u64, DmaBuf)) {
    let mut words = buf.as_slice().chunks_exact(8);
    assert!(words.all(|word| word == mark.to_ne_bytes()), "somebody else wrote to buffer {mark:#x}");
}

#[test]
fn nothing_is_mapped_at_rest_and_one_granule_by_the_first_buffer() {
    here("nothing_is_mapped_at_rest_and_one_granule_by_the_first_buffer", || {
        let memory = Memory::init(MemoryConfig::default()).expect("first use");
        assert_eq!((memory.stats().mapped_bytes(), memory.stats().pages.len()), (0, 0));
        let buf = DmaBuf::alloc(1).expect("memory");
        assert_eq!(memory.stats().mapped_bytes(), GRANULE);
        drop(buf);
        let many: Vec<_> = (0..5000).map(|_| DmaBuf::alloc(512).expect("memory")).collect();
        assert_eq!(memory.stats().mapped_bytes(), 2 * GRANULE, "{} buffers of 512 B", many.len());
        assert!(matches!(Memory::init(MemoryConfig::default()), Err(MemoryError::AlreadyInitialised)));
    });
}

#[test]
fn buffers_in_use_and_cached_are_counted_and_a_thread_leaves_nothing_behind() {
    here("buffers_in_use_and_cached_are_counted_and_a_thread_leaves_nothing_behind", || {
        let (hold, held) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let worker = thread::spawn(move || {
            let mut bufs: Vec<_> = (0..10).map(|_| DmaBuf::alloc(4096).expect("memory")).collect();
            let kept = bufs.split_off(7);
            drop(bufs);
            hold.send(kept).expect("the test listens");
            wait.recv().expect("the test says when");
        });
        let kept = held.recv().expect("three buffers");
        let stats = class_stats(4096);
        assert_eq!((stats.total, stats.in_use), (512, 3));
        assert!(stats.cached >= 7, "{stats:?}");
        assert_eq!(memory().stats().buffer_bytes_in_use(), 3 * 4096);
        go.send(()).expect("the worker waits");
        worker.join().expect("the worker");
        let after = class_stats(4096);
        assert_eq!((after.total, after.in_use, after.cached), (512, 3, 0));
        drop(kept);
        assert_eq!(class_stats(4096).in_use, 0);
    });
}

#[test]
fn a_threads_cache_is_bounded_and_the_rest_serves_others() {
    here("a_threads_cache_is_bounded_and_the_rest_serves_others", || {
        let bufs: Vec<_> = (0..2048).map(|_| DmaBuf::alloc(4096).expect("memory")).collect();
        let mapped = memory().stats().mapped_bytes();
        drop(bufs);
        let stats = class_stats(4096);
        assert_eq!((stats.total, stats.in_use), (2048, 0));
        assert!((1..=512).contains(&stats.cached), "{stats:?}");
        let there =
            thread::spawn(|| (0..1536).map(|_| DmaBuf::alloc(4096).expect("memory")).collect::<Vec<_>>());
        assert_eq!(there.join().expect("the other thread").len(), 1536);
        assert_eq!(memory().stats().mapped_bytes(), mapped, "the other thread used what was there");
    });
}

#[test]
fn the_limit_is_kept_named_and_no_longer_in_the_way_once_memory_came_back() {
    here("the_limit_is_kept_named_and_no_longer_in_the_way_once_memory_came_back", || {
        let config = MemoryConfig { limit_bytes: Some(3 * GRANULE), ..MemoryConfig::ordinary() };
        Memory::init(config).expect("first use");
        let region = Region::alloc(2 * GRANULE).expect("within the limit");
        let buf = DmaBuf::alloc(DmaBuf::MAX_LEN).expect("within the limit");
        for error in
            [DmaBuf::alloc(4096).map(drop).expect_err("full"), Region::alloc(1).map(drop).expect_err("full")]
        {
            let MemoryError::Limit { asked, mapped, limit } = error else { panic!("{error}") };
            assert_eq!((asked, mapped, limit), (GRANULE, 3 * GRANULE, 3 * GRANULE));
        }
        drop(region);
        drop(buf);
        assert_eq!(DmaBuf::alloc(4096).expect("room again").len(), 4096);
        assert!(Region::alloc(2 * GRANULE).is_err(), "two granules are buffers now");
        assert_eq!(Region::alloc(GRANULE).expect("room for one").len(), GRANULE);
    });
}

#[test]
fn a_region_is_zero_when_new_also_in_the_place_of_an_old_one() {
    here("a_region_is_zero_when_new_also_in_the_place_of_an_old_one", || {
        let [a, b, c] = [3 * MIB, 2 * MIB, 2 * MIB].map(|len| Region::alloc(len).expect("memory"));
        for region in [&a, &b, &c] {
            region.write_at(0, &vec![0xee; region.len() as usize]);
        }
        let (place, length) = (a.as_ptr(), a.len());
        assert_eq!(length, 3 * MIB);
        assert_eq!(memory().stats().mapped_bytes(), 8 * MIB);
        drop((a, b));
        assert_eq!(memory().stats().mapped_bytes(), 2 * MIB);
        let merged = Region::alloc(6 * MIB).expect("the gap of a and b");
        assert_eq!(merged.as_ptr(), place, "lowest first, neighbours merged");
        let mut bytes = vec![1; 6 << 20];
        merged.read_at(0, &mut bytes);
        assert!(bytes.iter().all(|&byte| byte == 0));
        c.read_at(0, &mut bytes[..2 << 20]);
        assert!(bytes[..2 << 20].iter().all(|&byte| byte == 0xee), "a neighbour keeps its bytes");
    });
}

#[test]
fn a_region_is_copied_to_and_from_within_its_bounds_only() {
    let region = Region::alloc(5000).expect("memory");
    region.write_at(4990, b"0123456789");
    region.fill_zero(4992, 4);
    let mut bytes = [0xff; 10];
    region.read_at(4990, &mut bytes);
    assert_eq!(&bytes, b"01\0\0\0\x006789");
    for (offset, len) in [(4991, 10), (5001, 0), (u64::MAX, 2)] {
        let outside = std::panic::catch_unwind(|| region.fill_zero(offset, len));
        assert!(outside.is_err(), "{len} bytes at {offset}");
    }
}

/// The bookkeeping of pages larger than a granule, played on ordinary memory with pages of four granules.
#[test]
fn a_large_page_is_shared_by_its_granules_and_given_back_when_the_last_is_free() {
    let space = Space::with_units(MemoryConfig::ordinary(), |_| 4).expect("addresses");
    let log = Arc::new(Log::default());
    space.observe(log.clone());
    let mapped = || space.page_stats().iter().map(|page| page.mapped / GRANULE).sum::<u64>();
    let grant = |count, purpose| space.grant(count, 0, purpose).expect("memory");

    let small = grant(1, Purpose::Region);
    assert_eq!((mapped(), small.fresh), (4, true));
    let rest = grant(3, Purpose::Region);
    assert_eq!((mapped(), rest.run.first, rest.fresh), (4, 1, false));
    let large = grant(6, Purpose::Region);
    assert_eq!((mapped(), large.run.first), (12, 4));
    space.give_back(rest.run);
    assert_eq!(mapped(), 12, "a region still lives in the first page");
    space.give_back(large.run);
    assert_eq!(mapped(), 4);
    space.give_back(small.run);
    assert_eq!(mapped(), 0);
    let ranges: Vec<_> =
        log.lines().into_iter().map(|(added, first, granules, _)| (added, first, granules)).collect();
    assert_eq!(
        ranges,
        [(true, 0, 4), (true, 4, 4), (true, 8, 4), (false, 4, 4), (false, 8, 4), (false, 0, 4)]
    );
}

/// (added, mapping, granules, registrable)
type LogLine = (bool, u32, usize, bool);

#[derive(Default)]
struct Log(Mutex<Vec<LogLine>>);

impl Log {
    fn note(&self, added: bool, range: &MappedRange) {
        let line = (added, range.mapping, range.len / GRANULE_BYTES, range.registrable);
        self.0.lock().expect("not poisoned").push(line);
    }
    fn lines(&self) -> Vec<LogLine> {
        std::mem::take(&mut self.0.lock().expect("not poisoned"))
    }
}

impl MemoryObserver for Log {
    fn added(&self, range: &MappedRange) {
        // SAFETY: mapped, and its contents belong to nobody yet or may be read while they change: one byte.
        unsafe { range.base.read_volatile() };
        self.note(true, range);
    }
    fn removed(&self, range: &MappedRange) {
        // SAFETY: still mapped until this returns.
        unsafe { range.base.read_volatile() };
        self.note(false, range);
    }
}

/// An io_uring may have pinned their pages: others in their place would be written and read by nobody.
#[test]
fn granules_of_buffers_are_numbered_and_their_page_stays_when_all_else_in_it_is_given_back() {
    let space = Space::with_units(MemoryConfig::ordinary(), |_| 4).expect("addresses");
    let number = |run: Run| space.table().record(run.first).number();
    let [region, buffers, more] = [Purpose::Region, Purpose::Buffers, Purpose::Buffers]
        .map(|purpose| space.grant(1, 0, purpose).expect("memory").run);
    assert_eq!([region, buffers, more].map(number), [None, Some(0), Some(1)]);
    space.give_back(region);
    assert_eq!(space.page_stats()[0].mapped, 4 * GRANULE);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| space.give_back(buffers)));
    assert!(refused.is_err(), "buffers are never given back");
    assert_eq!(number(buffers), Some(0));
}

#[test]
fn an_observer_hears_of_what_is_there_of_growth_and_of_removal_until_it_is_forgotten() {
    here("an_observer_hears_of_what_is_there_of_growth_and_of_removal_until_it_is_forgotten", || {
        let seen = |log: &Log| {
            log.lines().into_iter().map(|(added, at, len, _)| (added, at, len)).collect::<Vec<_>>()
        };
        let first = Region::alloc(4 * MIB).expect("memory");
        let log = Arc::new(Log::default());
        let id = memory().register_observer(log.clone());
        assert_eq!(seen(&log), [(true, 0, 2)]);
        let buf = DmaBuf::alloc(4096).expect("memory");
        assert_eq!(memory().lookup(buf.as_ptr()).map(|segment| segment.mapping), Some(2));
        assert_eq!(seen(&log), [(true, 2, 1)]);
        drop((first, buf));
        assert_eq!(seen(&log), [(false, 0, 2)], "buffers stay");
        memory().unregister_observer(id);
        drop(Region::alloc(MIB).expect("memory"));
        assert_eq!(seen(&log), []);
    });
}

#[test]
fn an_address_is_found_while_it_is_mapped_and_only_then() {
    here("an_address_is_found_while_it_is_mapped_and_only_then", || {
        let region = Region::alloc(4 * MIB).expect("memory");
        let at = region.ptr_at(2 * MIB + 100, 1).as_ptr();
        let segment = memory().lookup(at).expect("mapped");
        let page = rustix::param::page_size() as u64;
        assert_eq!((segment.mapping, segment.iova), (0, at.addr() as u64));
        assert_eq!((segment.phys, segment.contiguous), (None, page - 100), "ordinary pages");
        drop(region);
        assert_eq!(memory().lookup(at), None);
        assert_eq!(memory().lookup([0u8; 1].as_ptr()), None);
        assert_eq!(memory().lookup(std::ptr::null()), None);
    });
}

#[test]
fn a_plain_user_gets_memory_beyond_the_lock_limit_unlocked_and_is_told() {
    here("a_plain_user_gets_memory_beyond_the_lock_limit_unlocked_and_is_told", || {
        become_a_plain_user(8 * MIB);
        let memory = Memory::init(MemoryConfig { page_size: PageSize::Ordinary, ..MemoryConfig::default() })
            .expect("first use");
        let log = Arc::new(Log::default());
        memory.register_observer(log.clone());
        let bufs: Vec<_> =
            (0..8).map(|_| DmaBuf::alloc(DmaBuf::MAX_LEN).expect("never fails for the limit")).collect();
        let big = Region::alloc(64 * MIB).expect("never fails for the limit");
        big.write_at(64 * MIB - 1, &[1]);
        let registrable: Vec<_> = log.lines().iter().map(|line| line.3).collect();
        assert_eq!(registrable, [true, true, true, true, false, false, false, false, false]);
        let page = memory.stats().pages[0];
        assert_eq!((page.locked, page.buffers, page.regions), (8 * MIB, 16 * MIB, 64 * MIB));
        assert_eq!(memory.lookup(bufs[0].as_ptr()).and_then(|segment| segment.phys), None);
        let advice = memory.advice().expect("something is lost");
        assert!(advice.contains("8 MiB") && !advice.contains('\n'), "{advice}");
    });
}

#[test]
fn a_plain_user_without_any_right_to_lock_still_gets_memory() {
    here("a_plain_user_without_any_right_to_lock_still_gets_memory", || {
        become_a_plain_user(0);
        let memory = Memory::init(MemoryConfig::ordinary()).expect("first use");
        assert_eq!(DmaBuf::alloc_zeroed(4096).expect("memory").len(), 4096);
        assert_eq!(memory.stats().pages[0].locked, 0);
    });
}

#[test]
fn little_address_space_means_a_smaller_reservation_not_a_failure() {
    here("little_address_space_means_a_smaller_reservation_not_a_failure", || {
        let limit = 6 << 30;
        setrlimit(Resource::As, Rlimit { current: Some(limit), maximum: Some(limit) })
            .expect("lowering is allowed");
        let memory = Memory::init(MemoryConfig::ordinary()).expect("first use");
        let reserved = memory.stats().reserved_bytes;
        assert!((64 * MIB..limit).contains(&reserved), "{reserved}");
        assert_eq!(DmaBuf::alloc(4096).expect("memory").len(), 4096);
        let error = Region::alloc(limit).expect_err("more than is reserved").to_string();
        assert!(error.contains("ulimit -v"), "{error}");
    });
}

/// Hugepages to work with, or the reason why not in one line.
fn free_hugepages() -> Option<u64> {
    const WANTED: u64 = 8;
    let free = Hugepages::read(PageKind::Huge2M).free;
    if free < WANTED {
        println!(
            "skipped: {free} 2 MiB hugepages are free, {WANTED} are needed (raise /proc/sys/vm/nr_hugepages)"
        );
        return None;
    }
    Some(free)
}

/// One test for all that takes hugepages, so that no two of them fight for the same pages.
#[test]
fn hugepages_are_used_looked_up_given_back_and_fallen_back_from() {
    let Some(free) = free_hugepages() else { return };
    here("hugepages_are_used_looked_up_given_back_and_fallen_back_from", || {
        let memory = Memory::init(MemoryConfig::default()).expect("first use");
        assert_eq!(memory.advice(), None);
        let granules = free / 2 + 1;
        // Twice more than half: only possible if the first was given back.
        for _ in 0..2 {
            let region = region_in_hugepages(granules * GRANULE);
            region.write_at(region.len() - 1, &[1]);
            let log = Arc::new(Log::default());
            let id = memory.register_observer(log.clone());
            assert_eq!(log.lines(), [(true, 0, granules as usize, true)], "hugepages are registrable");
            memory.unregister_observer(id);
        }
        physical_addresses_are_those_of_the_pages(memory);

        let more_than_all = (Hugepages::read(PageKind::Huge2M).total + 64) * GRANULE;
        let beyond = Region::alloc(more_than_all).expect("ordinary pages instead");
        let advice = memory.advice().expect("hugepages ran out");
        assert!(advice.contains("nr_hugepages"), "{advice}");
        let kinds: Vec<_> = memory.stats().pages.iter().map(|page| (page.kind, page.regions)).collect();
        assert!(kinds.contains(&(PageKind::Ordinary, beyond.len())), "{kinds:?}");
    });
}

/// Other processes may take hugepages for a moment, so this may need more than one try.
fn region_in_hugepages(bytes: u64) -> Region {
    const BOUND: Duration = Duration::from_secs(20);
    let start = Instant::now();
    loop {
        let region = Region::alloc(bytes).expect("memory of some kind");
        if memory().stats().hugepage_bytes() == bytes {
            return region;
        }
        assert!(
            start.elapsed() < BOUND,
            "no {bytes} bytes of hugepages within {BOUND:?}: {:?}",
            memory().advice()
        );
    }
}

fn physical_addresses_are_those_of_the_pages(memory: &Memory) {
    let buf = DmaBuf::alloc(65536).expect("hugepages");
    let at = |offset: usize| memory.lookup(buf.as_ptr().wrapping_add(offset)).expect("mapped");
    let (start, later) = (at(0), at(5000));
    assert!(start.contiguous >= 65536 && later.contiguous == start.contiguous - 5000);
    match (start.phys, later.phys) {
        (Some(start), Some(later)) => assert_eq!((start % 65536, later - start), (0, 5000)),
        (None, None) if !rustix::process::geteuid().is_root() => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn hugepages_that_are_demanded_and_missing_are_an_error_that_says_what_to_type() {
    here("hugepages_that_are_demanded_and_missing_are_an_error_that_says_what_to_type", || {
        Memory::init(MemoryConfig { page_size: PageSize::Huge2M, ..MemoryConfig::default() })
            .expect("first use");
        let total = Hugepages::read(PageKind::Huge2M).total;
        let asked = (total + 16) * GRANULE;
        let error = Region::alloc(asked).expect_err("more pages than there are");
        assert!(matches!(error, MemoryError::Hugepages { kind: PageKind::Huge2M, .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&asked.to_string()) && text.contains("echo ") && text.contains("nr_hugepages"),
            "{text}"
        );
        assert_eq!(memory().stats().mapped_bytes(), 0);
    });
}

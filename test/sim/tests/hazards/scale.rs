//! What must hold however large or small the pool is, and however long it runs.

use rmr_engine::IoError;
use rmr_engine::client::Phase;
use rmr_proto::IoOp;
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, Script};

#[test]
pub(crate) fn an_idle_pool_makes_no_metadata_writes_after_it_has_settled() {
    let mut s = Script::pool(3);
    for block in [3, 20, 40] {
        s.write(block);
    }
    s.until_entries_clear();
    s.run(1_000);
    let before = s.world.stats().meta_writes;
    s.run(20_000);
    assert_eq!(s.world.stats().meta_writes, before, "metadata writes in 20 idle seconds");
    s.end();
}

/// What only records peers' counters is not counted, but it is written: else this disk would be believed.
#[test]
pub(crate) fn a_disk_that_went_back_in_time_while_all_were_down_is_not_started_with() {
    let mut s = Script::pool(2);
    s.write(5);
    s.run(100);
    s.keep_image(B);
    s.until_entries_clear();
    s.run(1_000);
    s.crash_client();
    s.power_off(A);
    s.restore_image(B);
    s.start(A);
    s.start(B);
    s.restart_client();
    s.run(2_000);
    assert_eq!(s.phase(), Some(Phase::Assembling), "B is older than A remembers: the pool waits for it");
}

#[test]
pub(crate) fn a_load_that_touches_every_region_keeps_few_entries_and_never_hangs() {
    // 64 regions of one chunk of one block; nobody flushes but the client on its own.
    let options = Options {
        blocks: 64,
        chunk_shift: 0,
        region_shift: 0,
        intents_soft_max: 8,
        intent_idle_ns: 60_000_000_000,
        ..Options::quiet(2)
    };
    let mut s = Script::started(options);
    s.until_whole();
    let mut most = 0;
    for round in 0..6 {
        for block in 0..64 {
            s.submit(IoOp::Write, (block * 29 + round) % 64, 1);
            s.run(1);
            most = most.max(s.live_entries());
        }
    }
    assert!(
        most <= 4 * 8,
        "{most} live entries, the bound is 8 and nothing may go beyond four times as many"
    );
    s.run(200);
    assert!(s.live_entries() <= 8, "{} live entries at rest, the bound is 8", s.live_entries());
    s.end();
}

#[test]
pub(crate) fn a_pool_of_zeroed_stores_starts_clean_everywhere() {
    let mut s = Script::started(Options { zeroed: u8::MAX, ..Options::quiet(3) });
    s.until_set(&[A, B, C]);
    assert!(s.world.is_whole(), "nothing to copy");
    for block in 0..62 {
        s.read(block);
    }
    assert_eq!(s.world.stats().data_writes, 0, "not one block was written");
    s.end();
}

#[test]
pub(crate) fn one_store_that_does_not_read_zero_makes_the_others_copy() {
    let mut s = Script::started(Options { zeroed: 0b011, ..Options::quiet(3) });
    s.until_set(&[A, B, C]);
    assert!(!s.world.is_whole(), "C holds something else than A and B");
    s.until_whole();
    for block in 0..62 {
        s.read(block);
    }
    s.end();
}

#[test]
pub(crate) fn a_client_learns_the_size_from_the_pool_and_not_from_its_configuration() {
    for client_blocks in [7, 1_000] {
        let mut s = Script::started(Options { client_blocks, ..Options::quiet(2) });
        // Handed over before the pool has said how large it is.
        let beyond = (client_blocks > 62).then(|| s.submit(IoOp::Read, 70, 1));
        s.until_whole();
        s.write(61);
        s.read(61);
        let result = beyond.map(|user| s.wait(user));
        assert!(result.is_none_or(|r| r == Err(IoError::BadRange)), "{result:?}");
        s.end();
    }
}

#[test]
pub(crate) fn a_device_that_has_grown_reads_the_same_from_every_leg() {
    let mut s = Script::pool(3);
    // 62 blocks in chunks of 4: the last chunk is cut, and holds something else behind the end on each disk.
    // Nothing is suspect there, or the start that grows it would settle that chunk anyway.
    s.write(61);
    s.until_entries_clear();
    assert_eq!(s.resize(90), Ok(90));
    for block in 56..90 {
        s.read(block);
    }
    s.write(62);
    s.write(89);
    s.until_whole();
    for block in 56..90 {
        s.read(block);
    }
    s.end();
}

#[test]
pub(crate) fn a_growth_that_is_cut_short_by_the_death_of_everybody_is_whole_or_not_at_all() {
    for cut in 0..40 {
        let mut s = Script::pool(2);
        s.write(61);
        s.flush();
        s.ask_resize(90);
        s.world.run_until(s.now() + cut * 25_000);
        s.crash_client();
        s.power_off(A);
        s.power_off(B);
        for node in if cut % 2 == 0 { [A, B] } else { [B, A] } {
            s.start(node);
        }
        s.restart_client();
        s.until_whole();
        s.read(61);
        let blocks = s.blocks();
        assert!(blocks == 62 || blocks == 90, "{blocks}");
        for block in 56..blocks {
            s.read(block);
        }
        s.end();
    }
}

#[test]
pub(crate) fn a_member_that_was_away_while_the_device_grew_comes_back() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(61);
    assert_eq!(s.resize(90), Ok(90));
    s.write(62);
    s.write(89);
    s.start(B);
    s.until_whole();
    for block in 56..90 {
        s.read(block);
    }
    s.end();
}

#[test]
pub(crate) fn a_growth_that_cannot_be_is_refused_in_clear_words() {
    let mut s = Script::pool(2);
    let said =
        |result: Result<u64, rmr_engine::client::ResizeError>| result.expect_err("refused").to_string();
    assert!(said(s.resize(62)).contains("can only grow"));
    assert!(said(s.resize(1_000)).contains("member A has room for 164 blocks"));
    s.write(5);
    s.read(5);
    assert_eq!(s.resize(164), Ok(164));
    s.end();
}

#[test]
pub(crate) fn finding_20_a_pool_of_one_member_comes_back_from_every_outage_alone() {
    let mut s = Script::pool(1);
    for round in 0..5 {
        for block in 0..20 {
            s.write(block);
        }
        s.submit(IoOp::Write, 7, 3);
        s.run(round);
        s.power_off(A);
        s.crash_client();
        s.start(A);
        s.restart_client();
        s.until_whole();
        s.read(7);
    }
    s.end();
}

//! One test for a hazard of docs/102-hazards.md, named as a sentence. The oracle judges every read, the legs are compared
//! whenever nothing is in flight, `end` demands that everything converges.

use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, CLIENT, Script};

#[test]
fn h01_no_write_is_acknowledged_before_its_miss_is_durable() {
    // Metadata is slow: an acknowledgement that does not wait for it comes first, and the checker of promise 3 sees it.
    let mut s = Script::with(Options { meta_delay_ns: 3_000_000, ..Options::quiet(2) });
    s.kill(B);
    s.until_set(&[A]);
    for block in [1, 17, 33, 49] {
        s.write(block);
    }
    s.start(B);
    s.end();
}

#[test]
fn h03_a_failed_metadata_write_stops_the_store() {
    let mut s = Script::pool(2);
    s.metadata_fails_on(Some(A));
    s.submit(IoOp::Write, 20, 1);
    s.run(30);
    s.check_disks();
    s.metadata_fails_on(None);
    s.until_whole();
    s.read(20);
    s.end();
}

#[test]
fn h21_a_leg_whose_flush_failed_leaves_and_comes_back_repaired() {
    for _ in 0..4 {
        let mut s = Script::pool(2);
        for block in 0..40 {
            s.write(block);
        }
        s.flushes_fail_on(Some(B));
        s.flush();
        s.until_set(&[A]);
        s.flushes_fail_on(None);
        s.until_whole();
        for block in 0..40 {
            s.read(block);
        }
        s.end();
    }
}

#[test]
fn h25_a_request_delivered_twice_executes_once() {
    let options = Options { duplicate_ppm: 1_000_000, slow_ppm: 30_000, ..Options::quiet(2) };
    let mut s = Script::with(options);
    for _ in 0..60 {
        // The second copy of the first write may come after the second write.
        s.write(4);
        s.write(4);
        s.run(70);
        s.read(4);
    }
    s.end();
}

#[test]
fn h01_a_degraded_write_survives_the_loss_of_the_only_recorder() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.flush();
    s.power_off(A);
    s.crash_client();
    s.start(B);
    s.start(A);
    s.restart_client();
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
fn h04_writes_during_a_return_reach_the_returning_leg() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.start(B);
    for block in 0..40 {
        s.write(block);
        s.run(1);
    }
    s.until_whole();
    for block in 0..40 {
        s.read(block);
    }
    s.end();
}

#[test]
fn h05_a_second_client_restart_does_not_let_a_stale_leg_win() {
    let mut s = Script::pool(2);
    for _ in 0..3 {
        s.crash_client();
        s.restart_client();
        s.until_set(&[A, B]);
        s.kill(B);
        s.until_set(&[A]);
        s.write(9);
        s.crash_client();
        s.start(B);
        s.restart_client();
        s.until_whole();
        s.read(9);
    }
    s.end();
}

#[test]
fn h07_a_late_clear_does_not_wipe_a_newer_miss() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    // The first telling is delayed; the second does the work.
    let first = std::cell::Cell::new(true);
    s.hold(move |e| e.to == A && matches!(e.msg, Msg::Cleared { .. }) && first.replace(false));
    s.start(B);
    s.until_whole();
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.until_entries_clear();
    s.world.release();
    s.run(20);
    s.start(B);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
fn h09_a_leg_that_does_not_know_it_was_cut_off_serves_nobody() {
    let mut s = Script::pool(3);
    s.cut(B, CLIENT);
    s.until_set(&[A, C]);
    s.write(7);
    s.kill(C);
    s.until_set(&[A]);
    s.start(C);
    s.until_set(&[A, C]);
    s.read(7);
    s.end();
}

#[test]
fn h11_a_write_that_no_leg_answers_ends_the_same_on_all() {
    let mut s = Script::pool(2);
    s.write(3);
    s.hold(|e| e.to == B && matches!(e.msg, Msg::Io(..)));
    let lost = s.submit(IoOp::Write, 3, 1);
    s.run(1);
    s.cut(A, CLIENT);
    s.run(200);
    s.world.drop_held();
    s.mend();
    s.until_whole();
    s.read(3);
    s.until("the write ended", move |w| w.stats().ios > 0 && lost > 0);
    s.end();
}

#[test]
fn h12_zeroes_written_while_degraded_are_missed_like_any_write() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.zero(6);
    s.start(B);
    s.until_whole();
    s.read(6);
    s.end();
}

#[test]
fn h18_the_last_chunk_is_clamped_to_the_device() {
    // 62 blocks in chunks of 4: the last chunk has two.
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(61);
    s.start(B);
    s.until_whole();
    s.read(61);
    s.end();
}

#[test]
fn h19_a_copied_chunk_is_durable_before_it_is_called_clean() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    for block in 0..30 {
        s.write(block);
    }
    s.start(B);
    s.until_whole();
    s.power_off(B);
    s.start(B);
    s.until_whole();
    for block in 0..30 {
        s.read(block);
    }
    s.end();
}

#[test]
fn h20_what_a_leg_lost_with_its_power_is_fetched_again() {
    for _ in 0..8 {
        let mut s = Script::pool(2);
        for block in 0..30 {
            s.write(block);
        }
        s.power_off(B);
        s.start(B);
        s.until_whole();
        for block in 0..30 {
            s.read(block);
        }
        s.end();
    }
}

#[test]
fn h22_copies_agree_after_everything_loses_power_with_writes_in_flight() {
    let mut s = Script::pool(3);
    for round in 0..6 {
        for block in 0..20 {
            s.submit(IoOp::Write, block, 2);
        }
        s.world.run_until(0);
        s.crash_client();
        for node in [A, B, C] {
            s.power_off(node);
        }
        for node in [C, B, A] {
            s.start(node);
        }
        s.restart_client();
        s.until_whole();
        s.read(round);
    }
    s.end();
}

#[test]
fn h25_a_request_that_was_delayed_never_executes_late() {
    let mut s = Script::pool(2);
    s.hold(|e| e.to == B && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    let first = s.submit(IoOp::Write, 4, 1);
    s.until_set(&[A]);
    s.write(4);
    s.until_whole();
    s.world.release();
    s.run(50);
    s.read(4);
    assert!(first > 0);
    s.end();
}

#[test]
fn h26_a_client_that_was_superseded_writes_nothing_more() {
    let mut s = Script::pool(2);
    s.write(2);
    s.hold(|e| e.from == CLIENT && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    s.submit(IoOp::Write, 2, 1);
    s.run(1);
    s.other_client();
    s.until_set(&[A, B]);
    s.write(2);
    s.world.release();
    s.run(50);
    s.read(2);
    s.end();
}

#[test]
fn h27_overlapping_writes_end_in_the_same_order_on_all_legs() {
    let mut s = Script::pool(3);
    for round in 0..20 {
        for _ in 0..6 {
            s.submit(IoOp::Write, 10 + round % 3, 3);
        }
        s.run(3);
    }
    s.read(11);
    s.end();
}

#[test]
fn h31_a_miss_of_one_block_does_not_stop_writes_to_its_chunk() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(20);
    s.start(B);
    s.until_set(&[A, B]);
    s.write(21);
    s.write(22);
    s.until_whole();
    s.read(20);
    s.end();
}

#[test]
fn h40_rule_n_blocks_never_written_read_the_same_from_every_leg() {
    let mut s = Script::pool(3);
    for block in 0..62 {
        s.read(block);
    }
    s.end();
}

#[test]
fn h45_a_disk_that_went_back_in_time_has_missed_everything() {
    let mut s = Script::pool(2);
    s.write(5);
    s.until_entries_clear();
    s.keep_image(B);
    s.write(5);
    s.write(30);
    s.until_entries_clear();
    s.kill(B);
    s.until_set(&[A]);
    s.write(40);
    s.restore_image(B);
    s.start(B);
    s.until_whole();
    s.read(5);
    s.read(30);
    s.end();
}

#[test]
fn finding_02_a_leg_that_may_have_shrunk_the_set_is_waited_for() {
    let mut s = Script::pool(2);
    s.hold(|e| e.from == A && matches!(e.msg, Msg::Adopted { .. }));
    s.kill(B);
    s.run(30);
    s.start(B);
    s.run(300);
    s.world.release();
    s.until_whole();
    s.write(1);
    s.read(1);
    s.end();
}

#[test]
fn finding_08_an_abandoned_join_leaves_no_epoch_to_go_back_to() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.hold(|e| e.from == B && matches!(e.msg, Msg::Adopted { .. }));
    s.start(B);
    s.run(200);
    s.write(8);
    s.kill(B);
    s.world.drop_held();
    s.crash_client();
    s.kill(A);
    s.start(B);
    s.run(50);
    s.restart_client();
    s.start(A);
    s.until_whole();
    s.read(8);
    s.end();
}

//! Copies of chunks, and the news of them.

use rmr_proto::{ChunkNo, IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, CLIENT, Script};
use rmr_sim::world::Envelope;

#[test]
pub(crate) fn h07_a_late_clear_does_not_wipe_a_newer_miss() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    // The first telling is delayed; the second does the work.
    let first = std::cell::Cell::new(true);
    s.hold(move |e| e.to == A && matches!(e.msg, Msg::Cleared { .. }) && first.replace(false));
    s.start(B);
    s.until_whole();
    s.until_entries_clear(); // Else B copies the chunk again on the word of its own entry.
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
pub(crate) fn h18_the_last_chunk_is_clamped_to_the_device() {
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
pub(crate) fn h40_rule_n_blocks_never_written_read_the_same_from_every_leg() {
    let mut s = Script::pool(3);
    for block in 0..62 {
        s.read(block);
    }
    s.end();
}

/// `target` asks for a chunk.
fn asks(e: &Envelope<'_>, target: usize) -> bool {
    e.from == target && matches!(e.msg, Msg::CopyRead { .. })
}

#[test]
pub(crate) fn h09_a_source_that_missed_the_chunk_refuses_it() {
    let mut s = Script::pool(3);
    s.kill(B);
    s.kill(C);
    s.until_set(&[A]);
    s.write(5);
    // The clean leg does not answer, so the two that missed the chunk ask each other.
    s.hold(|e| e.to == A && matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.start(C);
    s.until_set(&[A, B, C]);
    s.run(300);
    s.world.release();
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn h24_a_write_waits_for_the_copy_of_its_chunk() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    // The first answer may be a refusal: B is let in before A is.
    s.hold(|e| e.to == B && matches!(e.msg, Msg::CopyReply { buf: Some(_), .. }));
    s.start(B);
    s.until_held(|e| matches!(e.msg, Msg::CopyReply { .. }));
    // What is on its way to B was read before this write.
    s.submit(IoOp::Write, 5, 1);
    s.run(5);
    s.world.release();
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn finding_11_a_copy_waits_until_writes_to_its_chunk_are_answered_by_all() {
    // Copies fail at once for as long as disks cannot read, and are tried again after half a second.
    let mut s = Script::with(Options { peer_timeout_ns: 500_000_000, ..Options::quiet(3) });
    s.world.reads_fail = true;
    // A misses the chunk of block 7, B that of block 8, C nothing.
    s.kill(A);
    s.until_set(&[B, C]);
    s.write(7);
    s.until_entries_clear();
    s.start(A);
    s.until_set(&[A, B, C]);
    s.kill(B);
    s.until_set(&[A, C]);
    s.write(8);
    s.until_entries_clear();
    s.start(B);
    s.until_set(&[A, B, C]);
    // Shortly before B tries again, and long before A does.
    s.run(490);
    s.world.reads_fail = false;
    s.hold(|e| e.to == A && matches!(e.msg, Msg::Io(io, _) if io.proved));
    s.submit(IoOp::Write, 7, 2);
    // A, where block 8 is clean, does not execute the write for a while, B does.
    s.run(46);
    s.world.release();
    s.run(100);
    s.until_whole();
    s.read(8);
    s.end();
}

#[test]
pub(crate) fn h30_a_leg_that_left_is_not_stale_where_it_told_that_it_holds_the_chunk() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.start(B);
    s.until_whole();
    // Now B is the only one to hold the chunk: A lost power, B did not.
    s.write(5);
    s.crash_client();
    s.power_off_losing_all(A);
    s.start(A);
    s.hold(|e| asks(e, A));
    s.restart_client();
    s.until_set(&[A, B]);
    s.kill(B);
    s.until_set(&[A]);
    s.start(B);
    s.until_set(&[A, B]);
    s.world.release();
    s.until_whole();
    s.read(5);
    s.end();
}

/// A write that one leg has executed is in what another leg copies from it. The copier must know that its chunk may differ,
/// for the write may reach nobody else: neither the leg it was copied from nor the client need come back.
#[test]
pub(crate) fn a_copy_that_brings_an_unfinished_write_along_leaves_the_chunk_suspect() {
    let mut s = Script::pool(3);
    s.kill(C);
    s.until_set(&[A, B]);
    s.write(5);
    s.until_entries_clear();
    // C copies from A only after A has the second write, which reaches neither B nor C.
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(C);
    s.until_set(&[A, B, C]);
    s.until("C asks for the chunk", |w| w.held() > 0);
    s.hold(|e| e.from == CLIENT && e.to != A && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    s.submit(IoOp::Write, 5, 1);
    s.run(2);
    s.release_if(|msg| matches!(msg, Msg::CopyRead { .. }));
    s.hold(|e| e.from == CLIENT && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    s.until("C has the chunk", |w| w.dirty_chunks(C) == 0);
    s.kill_loudly(A);
    s.until_set(&[B, C]);
    s.crash_client();
    s.world.drop_held();
    s.restart_client();
    s.until_set(&[B, C]);
    s.read(5);
    s.end();
}

/// A write over two chunks that only A may execute: B missed one of them, C both. C copies the first from A, with the
/// write in it, and A leaves. B and C are clean there, and differ; that neither executes the write proves nothing.
#[test]
pub(crate) fn a_write_that_was_copied_from_a_leg_that_left_is_settled_by_a_new_generation() {
    let mut s = Script::pool(3);
    s.kill(C);
    s.until_set(&[A, B]);
    s.write(3);
    s.until_entries_clear();
    s.kill(B);
    s.until_set(&[A]);
    s.write(4);
    s.until_entries_clear();
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    s.start(C);
    s.until_set(&[A, B, C]);
    let from_c = |e: &Envelope<'_>| e.from == C && matches!(e.msg, Msg::CopyRead { chunk: ChunkNo(0), .. });
    s.until_held(from_c);
    s.hold(|e| e.from == C && matches!(e.msg, Msg::IoReply(..)));
    s.submit(IoOp::Write, 3, 2);
    s.run(2);
    s.let_go(from_c);
    s.until("C has the first chunk", |w| w.dirty_chunks(C) == 1);
    s.kill_loudly(A);
    s.world.drop_filters();
    s.until_set(&[B, C]);
    s.run(200);
    for _ in 0..4 {
        s.read(3);
    }
    s.start(A);
    s.until_whole();
    s.end();
}

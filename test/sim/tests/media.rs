//! The data path when media fail, and while chunks are copied: one test for a rule, named as a sentence.

use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, CLIENT, Script};

/// A write that one leg has executed is in what another leg copies from it. The copier must know that its chunk may differ,
/// for the write may reach nobody else: neither the leg it was copied from nor the client need come back.
#[test]
fn a_copy_that_brings_an_unfinished_write_along_leaves_the_chunk_suspect() {
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

#[test]
fn a_write_past_its_deadline_does_not_make_the_pool_wait_for_the_leg_that_owes_it() {
    let mut s = Script::with(Options { deadline_ns: 20_000_000, ..Options::quiet(2) });
    s.hold(|e| e.to == B && matches!(e.msg, Msg::Io(..)));
    s.submit(IoOp::Write, 5, 1);
    s.run(30);
    s.kill(B);
    s.world.drop_held();
    s.until_set(&[A]);
    s.write(5);
    s.end();
}

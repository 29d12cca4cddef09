//! What it costs to reach another reactor: a message while both are awake, and the first IO after idleness.
//!
//! `cargo bench -p rmr-perf --bench wake [-- --quick]`. Needs two cores.

mod common;

use hdrhistogram::Histogram;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;
use test_bdevs::hop;
use tgt_bdev::{Bdevs, Bufs, Cx, Desc, DoneQueue, Io, IoChannel, Mode, Op, Tag, Ticks, Work};
use tgt_reactor::{Poller, Reactors, SleepPolicy, StartOptions};

/// Sends one IO to a bdev of another reactor after each gap, and keeps how long it took.
struct Knocker {
    channel: IoChannel,
    done: DoneQueue,
    gap: Ticks,
    next: Ticks,
    left: u32,
    seen: Histogram<u64>,
    report: SyncSender<Histogram<u64>>,
}

impl Knocker {
    fn new(
        cx: &mut Cx,
        desc: &Desc,
        gap: Duration,
        count: u32,
        report: SyncSender<Histogram<u64>>,
    ) -> Knocker {
        Knocker {
            channel: desc.open_channel(cx).expect("it opens"),
            done: DoneQueue::default(),
            gap: Ticks::from_duration(gap),
            next: cx.now(),
            left: count,
            seen: Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("valid bounds"),
            report,
        }
    }
}

impl Poller for Knocker {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let _ = self.channel.poll(cx, &mut self.done);
        if let Some(done) = self.done.pop() {
            let finished = done.finish();
            self.seen.saturating_record((cx.now() - finished.submitted).as_ns());
            self.left -= 1;
            self.next = cx.now() + self.gap;
        }
        if self.left == 0 && self.channel.in_flight() == 0 {
            self.report.try_send(self.seen.clone()).expect("somebody waits");
            return Work::Over;
        }
        if self.channel.in_flight() == 0 && cx.now() >= self.next {
            self.channel.submit(cx, Io::new(Op::Flush, Tag(0), 0, 0, Bufs::none())).expect("room");
        }
        Work::Spin
    }

    fn name(&self) -> &str {
        "knocker"
    }
}

fn measure(sleep: SleepPolicy, gap: Duration, count: u32) -> Histogram<u64> {
    let options = StartOptions { cores: vec![0, 1], sleep, pin: true };
    let reactors = Reactors::start(&options).expect("two cores");
    let bdevs = Bdevs::new();
    let spec = bdev_null::NullSpec { name: "Null0".into(), uuid: None, block_size: 512, num_blocks: 8 };
    bdev_null::create(&bdevs, spec).expect("a null bdev");
    hop::create(&bdevs, "Hop", "Null0", &reactors.handles()[1]);
    let desc = bdevs.open("Hop", "wake", Mode::Read).expect("free");
    let (report, seen) = sync_channel(1);
    let spawn =
        move |reactor: &mut tgt_reactor::Reactor| Knocker::new(reactor.cx(), &desc, gap, count, report);
    reactors.handles()[0].spawn(spawn).expect("an answer");
    let seen = seen.recv_timeout(Duration::from_secs(120)).expect("the knocks end");
    assert!(reactors.stop().is_empty(), "a reactor did not stop");
    seen
}

fn main() {
    common::print_setting();
    let count = if common::quick() { 100 } else { 1000 };
    println!("one IO to the null bdev of another reactor and back, ns; {count} each but for the first row");
    println!("{:44} {:>8} {:>8} {:>8} {:>8}", "", "p50", "p99", "p99.9", "max");
    let rows = [
        ("both awake, always polling, no gap", SleepPolicy::Never, 0, 1_000_000),
        ("default sleep, after 20 us", SleepPolicy::ADAPTIVE, 20, count),
        ("default sleep, after 1 ms", SleepPolicy::ADAPTIVE, 1_000, count),
        ("default sleep, after 10 ms", SleepPolicy::ADAPTIVE, 10_000, count),
        ("always polling, after 10 ms", SleepPolicy::Never, 10_000, count),
    ];
    for (name, sleep, gap_us, count) in rows {
        let seen = measure(sleep, Duration::from_micros(gap_us), count);
        let at = |quantile| seen.value_at_quantile(quantile);
        println!("{name:44} {:>8} {:>8} {:>8} {:>8}", at(0.5), at(0.99), at(0.999), seen.max());
    }
}

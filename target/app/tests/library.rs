//! The target as a library, as the load tool and other tests use it.

#![allow(clippy::expect_used, missing_docs)]

use rmr_tgt::{Options, StartError, Target};
use rpc_server::ServerConfig;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tempfile::TempDir;
use tgt_bdev::{Bufs, Cx, DmaBuf, DoneQueue, Io, IoChannel, Mode, Op, Tag, Work};
use tgt_env::cores::usable_cores;
use tgt_reactor::{Poller, Reactor, SleepPolicy};

fn options(dir: &TempDir) -> Options {
    let core = usable_cores().expect("cores").iter().next().expect("a core");
    Options { cores: vec![core], lock_directory: dir.path().to_owned(), rpc: None, ..Options::default() }
}

#[test]
fn several_targets_live_in_one_process_one_after_the_other_and_beside_each_other() {
    let dir = TempDir::new().expect("a folder");
    let config = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config/two-bdevs.json"));
    let first = Target::start(Options { config, ..options(&dir) }).expect("the first");
    let second = Target::start(options(&dir)).expect("the second");
    assert_eq!((first.bdevs().all().len(), second.bdevs().all().len()), (2, 0));
    let null = json!({"name": "n", "num_blocks": 8, "block_size": 512});
    assert_eq!(second.registry().call_value("bdev_null_create", Some(&null)), Ok(json!("n")));
    assert!(second.bdevs().get("n").is_some() && first.bdevs().get("n").is_none());
    assert_eq!(first.reactors().len(), 1);
    assert_eq!(
        [first.stop(), second.stop()],
        [rmr_tgt::StopReport::default(), rmr_tgt::StopReport::default()]
    );
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("the folder").collect();
    assert!(left.is_empty(), "lock files are left: {left:?}");
    let third = Target::start(options(&dir)).expect("the third");
    assert!(third.stop().stuck.is_empty());
}

#[test]
fn two_that_poll_do_not_share_a_core_until_one_gives_up_its_claim() {
    let dir = TempDir::new().expect("a folder");
    let polling = || Options { sleep: SleepPolicy::Never, ..options(&dir) };
    let first = Target::start(polling()).expect("the first");
    let error = Target::start(polling()).expect_err("the core is claimed");
    assert!(matches!(error, StartError::CoreLock(_)) && error.exit_code() == 4, "{error}");
    let disable = first.registry().call_value("framework_disable_cpumask_locks", None);
    assert_eq!(disable, Ok(json!(true)));
    let second = Target::start(polling()).expect("the claim was given up");
    let error = first.registry().call_value("framework_enable_cpumask_locks", None).expect_err("claimed");
    assert!(error.code == -32603 && error.message.contains("is claimed"), "{error}");
    assert!(second.stop().stuck.is_empty());
    assert_eq!(first.registry().call_value("framework_enable_cpumask_locks", None), Ok(json!(true)));
    assert!(first.stop().stuck.is_empty());
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let dir = TempDir::new().expect("a folder");
    let socket = dir.path().join("rpc.sock");
    let rpc = || Some(ServerConfig::new(&socket));
    let first = Target::start(Options { rpc: rpc(), ..options(&dir) }).expect("the first");
    let error = Target::start(Options { rpc: rpc(), ..options(&dir) }).expect_err("the socket is in use");
    assert_eq!(error.exit_code(), 6, "{error}");
    assert!(first.stop().stuck.is_empty());
    let config = dir.path().join("bad.json");
    std::fs::write(
        &config,
        r#"{"subsystems": [{"subsystem": "bdev", "config": [{"method": "bdev_nul_create"}]}]}"#,
    )
    .expect("written");
    let bad = Options { rpc: rpc(), config: Some(config.clone()), ..options(&dir) };
    let error = Target::start(bad).expect_err("no such method");
    assert!(error.exit_code() == 5 && error.to_string().contains("bdev_nul_create"), "{error}");
    std::fs::remove_file(config).expect("it is there");
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("the folder").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_core_that_is_not_there_is_refused_by_number() {
    let dir = TempDir::new().expect("a folder");
    let error = Target::start(Options { cores: vec![1023], ..options(&dir) }).expect_err("no such core");
    assert!(error.exit_code() == 4 && error.to_string().contains("1023"), "{error}");
}

/// Reads block 0 of a bdev a number of times, one after the other, and then keeps its channel open.
struct Reader {
    channel: IoChannel,
    ended: DoneQueue,
    left: u64,
    finished: Option<Sender<()>>,
}

impl Reader {
    fn submit(&mut self, cx: &mut Cx) {
        let buf = DmaBuf::alloc(4096).expect("memory");
        let io = Io::new(Op::Read, Tag(self.left), 0, 1, Bufs::from(buf));
        self.channel.submit(cx, io).expect("there is room for one");
        self.left -= 1;
    }
}

impl Poller for Reader {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let work = self.channel.poll(cx, &mut self.ended);
        while let Some(done) = self.ended.pop() {
            assert!(done.finish().status.is_ok());
            if self.left > 0 {
                self.submit(cx);
            } else if let Some(finished) = self.finished.take() {
                finished.send(()).expect("the test waits");
            }
        }
        work
    }

    fn name(&self) -> &str {
        "reader"
    }
}

#[test]
fn io_that_was_done_is_seen_by_every_method_that_tells_of_it() {
    const READS: u64 = 100;
    let dir = TempDir::new().expect("a folder");
    let target = Target::start(options(&dir)).expect("a target");
    let call =
        |method: &str, params: Value| target.registry().call_value(method, Some(&params)).expect(method);
    let get = |method: &str| target.registry().call_value(method, None).expect(method);
    call("bdev_malloc_create", json!({"name": "m", "num_blocks": 64, "block_size": 4096}));
    let (finished, wait) = channel();
    let desc = target.bdevs().open("m", "test", Mode::Read).expect("open");
    let make = move |reactor: &mut Reactor| {
        let channel = desc.open_channel(reactor.cx()).expect("a channel");
        let mut reader =
            Reader { channel, ended: DoneQueue::default(), left: READS, finished: Some(finished) };
        reader.submit(reactor.cx());
        reader
    };
    target.reactors()[0].spawn(make).expect("spawned");
    wait.recv_timeout(Duration::from_secs(30)).expect("the reads end");

    let stats = call("bdev_get_iostat", json!({"names": ["m"]}))["bdevs"][0].take();
    assert_eq!((&stats["num_read_ops"], &stats["bytes_read"]), (&json!(READS), &json!(READS * 4096)));
    let ticks = |name: &str| stats[name].as_u64().expect("ticks");
    let (sum, min, max) =
        (ticks("read_latency_ticks"), ticks("min_read_latency_ticks"), ticks("max_read_latency_ticks"));
    assert!(0 < min && min <= max && min * READS <= sum && sum <= max * READS, "{stats}");
    let channels = call("bdev_get_iostat", json!({"names": ["m"], "per_channel": true, "reset_mode": "all"}));
    assert_eq!(channels["channels"][0]["thread_id"], 1);
    assert_eq!(channels["channels"][0]["num_read_ops"], READS);
    assert_eq!(call("bdev_get_iostat", json!({}))["bdevs"][0]["num_read_ops"], 0, "it was reset");

    let pollers = get("thread_get_pollers");
    let poller = &pollers["threads"][0]["active_pollers"][0];
    assert_eq!((&poller["name"], &poller["state"]), (&json!("reader"), &json!("waiting")));
    assert!(poller["busy_count"].as_u64() >= Some(READS), "{poller}");
    assert_eq!(get("thread_get_stats")["threads"][0]["active_pollers_count"], 1);
    let open = get("thread_get_io_channels");
    assert_eq!(open["threads"][0]["io_channels"], json!([{"name": "bdev_m", "ref": 1}]));
    assert!(target.stop().stuck.is_empty());
}

//! `rmr_tgt demo` as its users see it: from the start to Ctrl-C, with a node, the keeper and everybody killed in between.

#![allow(clippy::expect_used, missing_docs)]

use rmr_rpc::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_e2e::{PATIENCE, places};

/// What nothing can tell of is looked at so often.
const LOOK: Duration = Duration::from_millis(10);
/// Five processes start, and copy a small device.
const BOUND: Duration = PATIENCE.saturating_mul(4);
const CHUNK: u64 = 65536;

/// A demo and the folder of its sockets, its output, and of what it makes in a temporary folder.
struct Demo {
    program: PathBuf,
    keeper: Child,
    dir: TempDir,
}

impl Demo {
    /// Starts one and waits until it says what to try. None without a binary.
    fn start(args: &[&str]) -> Option<Demo> {
        let mut demo = Demo::begin(args)?;
        demo.wait("it says what to try", |demo| demo.output().contains("Ctrl-C here"));
        Some(demo)
    }

    fn begin(args: &[&str]) -> Option<Demo> {
        let program = places::target()?;
        let dir = tempfile::Builder::new().prefix("rmr-e2e-").tempdir().expect("a folder");
        let temporary = dir.path().join("tmp");
        fs::create_dir(&temporary).expect("a folder");
        let output = File::create(dir.path().join("output")).expect("a file");
        let errors = output.try_clone().expect("the same file");
        let mut command = Command::new(&program);
        command.args(["demo", "-r"]).arg(dir.path().join("rpc.sock")).args(args).env("TMPDIR", temporary);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        Some(Demo { program, keeper: command.spawn().expect("it starts"), dir })
    }

    fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("output")).expect("text")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("rpc.sock")
    }

    fn wait(&mut self, what: &str, condition: impl Fn(&Demo) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            if let Some(status) = self.keeper.try_wait().expect("our child") {
                panic!("it ended ({status}) before {what}:\n{}", self.output());
            }
            assert!(begun.elapsed() < BOUND, "waited in vain until {what}:\n{}", self.output());
            sleep(LOOK);
        }
    }

    /// What another terminal says and gets.
    fn ask(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(["demo", "-r"]).arg(self.socket()).args(args).output().expect("it starts")
    }

    /// As [`Demo::ask`], for what must succeed.
    fn told(&self, args: &[&str]) -> String {
        let output = self.ask(args);
        let (said, why) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {said}{why}\n{}", self.output());
        said
    }

    fn processes(&self) -> Vec<Value> {
        let socket = self.dir.path().join("rpc.sock.demo");
        let answer = Client::connect(&socket, BOUND).and_then(|mut keeper| keeper.call("demo_get", None));
        answer.expect("the keeper answers")["processes"].as_array().expect("a list").clone()
    }

    fn pids(&self) -> Vec<i32> {
        self.processes().iter().map(|process| process["pid"].as_i64().expect("a pid") as i32).collect()
    }

    /// Waits until no store may have writes that are not known to be durable everywhere: what is killed then has missed
    /// what comes later, and nothing else.
    fn wait_settled(&mut self) {
        let sockets: Vec<PathBuf> = self.processes()[..3]
            .iter()
            .map(|process| PathBuf::from(process["socket"].as_str().expect("a path")))
            .collect();
        let settled = |socket: &PathBuf| {
            let pools =
                Client::connect(socket, BOUND).and_then(|mut to| to.call("rmr_get_server_pools", None));
            pools.expect("a node answers")[0]["entries"] == json!(0)
        };
        self.wait("all is settled", |_| sockets.iter().all(settled));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.keeper), signal).expect("our child");
    }

    fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.keeper.try_wait().expect("our child") {
                return status;
            }
            assert!(begun.elapsed() < BOUND, "it does not end:\n{}", self.output());
            sleep(LOOK);
        }
    }

    /// Ctrl-C, and a look whether anything is left but what the test itself made.
    fn stop(mut self) {
        let pids = self.pids();
        self.signal(Signal::INT);
        let status = self.end();
        assert_eq!(status.code(), Some(0), "{}", self.output());
        assert!(pids.iter().all(|pid| is_gone(*pid)), "a process is left of {pids:?}:\n{}", self.output());
        let left = |dir: &Path| {
            let names =
                fs::read_dir(dir).expect("the folder").map(|entry| entry.expect("an entry").file_name());
            let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(left(self.dir.path()), ["output", "tmp"], "{}", self.output());
        assert_eq!(left(&self.dir.path().join("tmp")), [""; 0], "{}", self.output());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill. The nodes end with it.
        let _ended = self.keeper.kill();
        let _status = self.keeper.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ended, though whoever inherited it may not have looked yet.
fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('Z'))
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("it runs");
}

/// The number before ` bytes (`.
fn copied(said: &str) -> u64 {
    let number = said.split(" bytes (").next().and_then(|before| before.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no bytes in {said}"))
}

#[test]
fn a_node_dies_comes_back_and_copies_what_differs_and_ctrl_c_leaves_nothing() {
    const SIZE: u64 = 32 << 20;
    let Some(mut demo) = Demo::start(&["--size", "32"]) else { return };
    let shown = demo.told(&["--status"]);
    assert!(shown.matches("yes").count() == 3 && shown.contains("Brmr0, 32.0 MiB, is active"), "{shown}");
    let again = demo.ask(&["--restart", "1"]);
    assert!(
        !again.status.success() && text(&again.stderr).contains("node 1 runs"),
        "{}",
        text(&again.stderr)
    );
    let second = demo.ask(&[]);
    let why = text(&second.stderr);
    assert!(!second.status.success() && why.contains("-r PATH"), "a second demo: {why}");

    demo.wait_settled();
    kill(demo.pids()[1]);
    demo.wait("it tells of the death", |demo| demo.output().contains("node 1 (process"));
    assert!(demo.output().contains("--restart 1"), "the next step: {}", demo.output());
    let shown = demo.told(&["--status"]);
    assert!(shown.contains("dead (signal: 9 (SIGKILL))") && shown.contains("--restart 1"), "{shown}");
    demo.told(&["--load", "50"]);
    let said = demo.told(&["--restart", "1"]);
    let bytes = copied(&said);
    // At most one chunk for each request.
    assert!(bytes > 0 && bytes.is_multiple_of(CHUNK) && bytes <= 50 * CHUNK && bytes < SIZE, "{said}");
    demo.told(&["--load", "50"]);

    kill(demo.pids()[3]);
    demo.wait("it tells of the death", |demo| demo.output().contains("compute (process"));
    let refused = demo.ask(&["--load"]);
    assert!(text(&refused.stderr).contains("--restart compute"), "{}", text(&refused.stderr));
    demo.told(&["--restart", "compute"]);
    demo.told(&["--load", "50"]);
    demo.stop();
}

#[test]
fn a_folder_outlives_the_keepers_death_with_all_nodes_and_is_gone_on_with() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("kept");
    let dir = dir.to_str().expect("a path");
    let Some(mut first) = Demo::start(&["--size", "16", "--dir", dir]) else { return };
    first.told(&["--load", "300"]);
    let pids = first.pids();
    first.signal(Signal::KILL);
    assert_eq!(first.end().code(), None, "killed");
    let begun = Instant::now();
    while !pids.iter().all(|pid| is_gone(*pid)) {
        assert!(begun.elapsed() < BOUND, "a node outlives its keeper: {pids:?}");
        sleep(LOOK);
    }
    drop(first);
    // Its first load reads back what the loads before had written.
    let Some(second) = Demo::start(&["--dir", dir]) else { return };
    assert!(second.output().contains("assembling the device"), "{}", second.output());
    let elsewhere = Demo::begin(&["--dir", dir]);
    let mut elsewhere = elsewhere.expect("a binary");
    assert!(elsewhere.end().code() == Some(1) && elsewhere.output().contains("another demo runs in"));
    second.stop();
    for name in ["demo.json", "load.state", "node0.disk", "node2.disk"] {
        assert!(Path::new(dir).join(name).is_file(), "{name} is kept");
    }
}

#[test]
fn a_disk_in_memory_comes_back_empty_and_copies_everything() {
    let Some(mut demo) = Demo::start(&["--size", "16", "--ram"]) else { return };
    demo.wait_settled();
    kill(demo.pids()[2]);
    demo.wait("it tells of the death", |demo| demo.output().contains("node 2 (process"));
    let said = demo.told(&["--restart", "2"]);
    assert_eq!(copied(&said), 16 << 20, "{said}");
    demo.told(&["--load"]);
    demo.stop();
}

#[test]
fn without_a_demo_askers_say_how_to_start_one() {
    let Some(program) = places::target() else { return };
    for args in [["--status", "--"], ["--load", "7"], ["--restart", "0"]] {
        let args = args.iter().filter(|arg| **arg != "--");
        let output = Command::new(&program).args(["demo", "-r", "/nowhere/rpc.sock"]).args(args).output();
        let output = output.expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("rmr_tgt demo"), "{}", text(&output.stderr));
    }
}

//! The process: signals, phases, exit codes, users, memory.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{BINARY, BOUND, Process, calls_of, core, example, request};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Instant;
use tempfile::TempDir;
use tgt_env::core_lock::{CoreLock, CoreUse, LOCK_DIRECTORY};

#[test]
fn sigterm_and_sigint_stop_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::start(&["-c", example("malloc.json").to_str().expect("a path")]);
        process.wait_for_log("ready");
        let mut idle = process.client();
        idle.get("rmr_get_version");
        process.signal(signal);
        assert_eq!(process.wait().code(), Some(0), "{}", process.rest_of_log());
        assert_eq!(idle.rest(), "", "an idle connection is closed");
        assert!(!process.socket.exists() && !process.socket.with_extension("sock.lock").exists());
    }
}

#[test]
fn it_can_be_stopped_by_rpc() {
    let mut process = Process::start(&[]);
    let mut client = process.client();
    client.get("framework_wait_init");
    let (code, text) = client.refused("spdk_kill_instance", Some(&json!({"sig_name": "SIGWINCH"})));
    assert!(code == -32602 && text.contains("SIGTERM"), "{text}");
    client.call("spdk_kill_instance", json!({"sig_name": "SIGTERM"}));
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // A stop that is over before the second signal proves nothing: then again.
    let cut_short = (0..20).any(|_| match stop_with_two_signals().code() {
        Some(130) => true,
        Some(0) => false,
        other => panic!("exit code {other:?}"),
    });
    assert!(cut_short, "the second signal never ended it");
}

/// SIGTERM, while a call makes the stop last, and SIGINT.
fn stop_with_two_signals() -> ExitStatus {
    let mut process = Process::start(&[]);
    process.wait_for_log("ready");
    let mut client = process.client();
    let never = json!({"name": "never", "timeout": 600_000});
    // The answer to the first tells that the thread has got both.
    client.send_text(&(request("rmr_get_version", None) + &request("bdev_get_bdevs", Some(&never))));
    client.answer();
    process.signal(Signal::TERM);
    process.wait_for_log("stopping");
    process.signal(Signal::INT);
    process.wait()
}

#[test]
fn a_signal_that_comes_while_a_call_hangs_still_stops_it() {
    let mut process = Process::start(&["--wait-for-rpc"]);
    let waiting = process.client();
    waiting.send("framework_wait_init", None);
    process.client().get("rmr_get_version");
    process.signal(Signal::TERM);
    let status = process.wait();
    assert_eq!(status.code(), Some(0), "{status}: {}", process.rest_of_log());
}

#[test]
fn startup_takes_options_and_run_time_takes_the_rest() {
    let process = Process::start(&["--wait-for-rpc"]);
    let mut client = process.client();
    let null = json!({"name": "Null0", "num_blocks": 8, "block_size": 512});
    let (code, text) = client.refused("bdev_null_create", Some(&null));
    assert!(code == -1 && text.contains("framework_start_init RPC."), "{text}");
    client.call("bdev_set_options", json!({"bdev_io_pool_size": 2048}));
    client.call("iobuf_set_options", json!({"small_pool_count": 4096}));
    client.call("log_set_print_level", json!({"level": "warning"}));
    let waiting = process.client();
    waiting.send("framework_wait_init", None);
    assert_eq!(client.get("framework_start_init"), json!(true));
    assert_eq!(client.refused("framework_start_init", None).0, -1);
    assert_eq!(client.refused("bdev_set_options", Some(&json!({}))).0, -1);
    assert_eq!(client.get("framework_wait_init"), json!(true));
    client.call("bdev_null_create", null);
    let saved = client.save();
    assert_eq!(calls_of(&saved, "iobuf")[0]["params"]["small_pool_count"], 4096);
    assert_eq!(calls_of(&saved, "bdev")[0]["params"]["bdev_io_pool_size"], 2048);
    assert_eq!(client.get("log_get_print_level"), "WARNING");
    process.stop();
}

/// How many threads of it serve RPC connections.
fn connections(process: &Process) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).expect("its threads");
    // One may end while we look.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "rpc").count()
}

#[test]
fn clients_that_hang_up_while_they_wait_for_it_to_come_up_leave_nothing_behind() {
    let process = Process::start(&["--wait-for-rpc"]);
    let mut waiting: Vec<_> = (0..64).map(|_| process.client()).collect();
    for client in &mut waiting {
        // The first answer tells that its thread goes on to the second call.
        client.send_text(&(request("rmr_get_version", None) + &request("framework_wait_init", None)));
        let answer = client.answer();
        assert!(answer.get("result").is_some(), "{answer}");
    }
    drop(waiting);
    let end = Instant::now() + BOUND;
    while connections(&process) > 0 {
        assert!(Instant::now() < end, "calls go on whose clients hung up");
        std::thread::yield_now();
    }
    let mut client = process.client();
    client.get("rmr_get_version");
    assert_eq!(client.get("framework_start_init"), json!(true));
    assert_eq!(client.get("framework_wait_init"), json!(true));
    process.stop();
}

#[test]
fn only_allowed_methods_exist_for_clients_and_the_configuration_may_use_all() {
    let config = example("null.json");
    let args = ["--rpcs-allowed", "rpc_get_methods,bdev_get_bdevs", "-c", config.to_str().expect("a path")];
    let mut process = Process::start(&args);
    process.wait_for_log("ready");
    let mut client = process.client();
    assert_eq!(client.get("bdev_get_bdevs")[0]["name"], "Null0");
    assert_eq!(client.get("rpc_get_methods").as_array().expect("names").len(), 2);
    assert_eq!(client.refused("bdev_null_delete", Some(&json!({"name": "Null0"}))).0, -32601);
    process.stop();
}

fn exit_code(args: &[&str]) -> (Option<i32>, String) {
    let mut process = Process::launch(args);
    let status = process.wait();
    let log = process.rest_of_log();
    assert!(!process.socket.exists(), "the socket is left behind");
    (status.code(), log)
}

#[test]
fn help_and_version_end_well() {
    for arg in ["--help", "-h", "--version", "-v"] {
        let output = Command::new(BINARY).arg(arg).output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success() && text.contains("rmr_tgt"), "{arg}: {text}");
    }
}

#[test]
fn exit_codes_tell_mistakes_apart() {
    for args in
        [&["--bogus"][..], &["-m", "0xz"], &["-s", "much"], &["-L", "nothing"], &["--poll", "--spin-us", "1"]]
    {
        let (code, log) = exit_code(args);
        assert!(code == Some(2) && log.contains("error:"), "{args:?}: {code:?} {log}");
    }
    let (code, log) = exit_code(&["-c", "/nowhere/at.all"]);
    assert!(code == Some(5) && log.contains("/nowhere/at.all"), "{code:?} {log}");
    let (code, log) = exit_code(&["-m", "[1023]"]);
    assert!(code == Some(4) && log.contains("1023"), "{code:?} {log}");
    let (code, log) = exit_code(&["-r", "/nowhere/rpc.sock"]);
    assert!(code == Some(2) && log.contains("-r"), "an option given twice: {code:?} {log}");
}

#[test]
fn a_core_on_which_another_polls_is_not_had() {
    let core = core();
    // If somebody else has it, that will do as well.
    let _held = CoreLock::claim(Path::new(LOCK_DIRECTORY), core, CoreUse::Polling);
    let mask = format!("[{core}]");
    let (code, log) = exit_code(&["-m", &mask, "--poll"]);
    assert!(code == Some(4) && log.contains("--disable-cpumask-locks"), "{code:?} {log}");
    let mut process = Process::start(&["-m", &mask]);
    process.wait_for_log("shared");
    process.stop();
}

#[test]
fn targets_that_sleep_share_a_core_and_notice_each_other_come_and_go() {
    let mask = format!("[{}]", core());
    let mut first = Process::start(&["-m", &mask]);
    first.wait_for_log("ready");
    let mut second = Process::start(&["-m", &mask]);
    second.wait_for_log("shared with another target");
    first.wait_for_log("shared with another target: reactor_0 sleeps");
    second.stop();
    first.wait_for_log("ours alone again");
    first.stop();
}

#[test]
fn two_targets_on_one_socket() {
    let first = Process::start(&[]);
    let mut command = Command::new(BINARY);
    command.arg("-r").arg(&first.socket);
    let mut second = Process::spawn(TempDir::new().expect("a folder"), first.socket.clone(), command);
    let status = second.wait();
    let log = second.rest_of_log();
    assert!(status.code() == Some(6) && log.contains(&format!("{}", first.pid())), "{status}: {log}");
    assert_eq!(first.client().get("rmr_get_version")["version"], env!("CARGO_PKG_VERSION"));
    first.stop();
}

#[test]
fn a_socket_left_by_a_target_that_was_killed_is_taken_over() {
    let mut first = Process::start(&[]);
    first.signal(Signal::KILL);
    assert_eq!(first.wait().signal(), Some(9));
    assert!(first.socket.exists());
    let mut command = Command::new(BINARY);
    command.arg("-r").arg(&first.socket);
    let mut second = Process::spawn(TempDir::new().expect("a folder"), first.socket.clone(), command);
    second.wait_for_socket();
    second.stop();
}

/// Refuses io_uring_setup to what it executes, as container profiles do.
const WITHOUT_URING: &str = r#"
import ctypes, os, platform, struct, sys
nr = 425
audit = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[platform.machine()]
def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
prog = op(0x20, 0, 0, 4) + op(0x15, 0, 3, audit) + op(0x20, 0, 0, 0) + op(0x15, 0, 1, nr) \
     + op(0x06, 0, 0, 0x00050001) + op(0x06, 0, 0, 0x7FFF0000)
buf = ctypes.create_string_buffer(prog, len(prog))
class Fprog(ctypes.Structure): _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
fprog = Fprog(len(prog) // 8, ctypes.addressof(buf))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(fprog), 0, 0): sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn where_io_uring_is_refused_it_says_so_and_names_the_remedy() {
    let dir = TempDir::new().expect("a folder");
    let socket = dir.path().join("rpc.sock");
    let mut command = Command::new("python3");
    command.arg("-c").arg(WITHOUT_URING).arg(BINARY).arg("-r").arg(&socket);
    if Command::new("python3").arg("-c").arg("").output().is_err() {
        println!("skipped: no python3 to set up a seccomp filter with");
        return;
    }
    let mut process = Process::spawn(dir, socket, command);
    let status = process.wait();
    let log = process.rest_of_log();
    if status.code() == Some(77) {
        println!("skipped: this kernel takes no seccomp filter");
        return;
    }
    assert!(status.code() == Some(3) && log.contains("seccomp"), "{status}: {log}");
}

/// What `rmr_get_memory` and a malloc bdev of 16 MiB tell of a target.
fn memory_of(process: &Process) -> Value {
    let mut client = process.client();
    client.get("framework_wait_init");
    client.call("bdev_malloc_create", json!({"name": "m", "num_blocks": 32768, "block_size": 512}));
    let memory = client.get("rmr_get_memory");
    client.call("bdev_malloc_delete", json!({"name": "m"}));
    memory
}

#[test]
fn without_hugepages_it_works_on_ordinary_pages() {
    let process = Process::start(&["--no-huge"]);
    let memory = memory_of(&process);
    assert_eq!(memory["hugepage_bytes"], 0);
    assert_eq!(memory["pages"][0]["kind"], "ordinary pages");
    assert!(memory["mapped_bytes"].as_u64() >= Some(16 << 20), "{memory}");
    process.stop();
}

#[test]
fn the_memory_limit_holds_and_the_refusal_leaves_nothing() {
    let process = Process::start(&["-s", "8"]);
    let mut client = process.client();
    client.get("framework_wait_init");
    let big = json!({"name": "m", "num_blocks": 32768, "block_size": 512});
    let (code, text) = client.refused("bdev_malloc_create", Some(&big));
    assert!(code == -12 && text.contains("8388608 bytes allowed"), "{text}");
    assert_eq!(client.get("bdev_get_bdevs"), json!([]));
    client.call("bdev_malloc_create", json!({"name": "m", "num_blocks": 4096, "block_size": 512}));
    process.stop();
}

#[test]
fn a_plain_user_with_little_lockable_memory_can_run_it() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: the tests run as a plain user already");
        return;
    }
    let dir = TempDir::new().expect("a folder");
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(dir.path(), open).expect("a folder for all");
    // The checkout may lie where others cannot look.
    let binary = dir.path().join("rmr_tgt");
    std::fs::copy(BINARY, &binary).expect("a copy");
    let socket = dir.path().join("rpc.sock");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--", "sh", "-c"]);
    command.arg(format!("ulimit -l 8192; exec {} -r {}", binary.display(), socket.display()));
    if Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: no setpriv to become a plain user with");
        return;
    }
    let mut process = Process::spawn(dir, socket.clone(), command);
    process.wait_for_socket();
    assert_eq!(std::fs::metadata(&socket).expect("the socket").uid(), 65534);
    let memory = memory_of(&process);
    let locked = memory["pages"]
        .as_array()
        .expect("pages")
        .iter()
        .map(|page| page["locked_bytes"].as_u64().expect("bytes"));
    let hugepages = memory["hugepage_bytes"].as_u64().expect("bytes");
    assert!(locked.sum::<u64>() <= hugepages + (8 << 20), "{memory}");
    assert!(memory["mapped_bytes"].as_u64() >= Some(16 << 20), "{memory}");
    process.stop();
}

#[test]
fn logs_are_json_when_asked_and_levels_change_while_it_runs() {
    let mut process = Process::start(&["--log-format", "json"]);
    let line = process.wait_for_log("ready");
    let event: Value = serde_json::from_str(&line).expect("an object");
    assert_eq!(event["level"], "INFO");
    let mut client = process.client();
    client.call("log_set_print_level", json!({"level": "DEBUG"}));
    client.call("log_set_flag", json!({"flag": "rpc"}));
    client.get("rmr_get_version");
    process.wait_for_log("rmr_get_version");
    client.call("log_clear_flag", json!({"flag": "all"}));
    let (code, text) = client.refused("log_set_flag", Some(&json!({"flag": "nvmf"})));
    assert!(code == -32602 && text.contains("bdev_malloc"), "{text}");
    process.stop();
}

#[test]
fn an_idle_reactor_sleeps() {
    let mut process = Process::start(&[]);
    process.wait_for_log("ready");
    let mut client = process.client();
    let sleeps = |client: &mut common::Client| {
        let stats = client.get("framework_get_reactors");
        stats["reactors"][0]["in_interrupt"].as_bool().expect("a flag")
    };
    let end = Instant::now() + BOUND;
    while !sleeps(&mut client) {
        assert!(Instant::now() < end, "its reactor does not sleep");
        std::thread::yield_now();
    }
    process.stop();
}

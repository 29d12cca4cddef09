//! `rmr-rpc` as a process, on a live target and on none.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use test_e2e::places;
use test_e2e::target::Target;

struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Told {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn command(program: &Path, socket: &Path, line: &str) -> Command {
    let mut command = Command::new(program);
    command.arg("-s").arg(socket).args(line.split_whitespace()).stdin(Stdio::null());
    command
}

/// Runs lines of arguments against one target.
struct Rig {
    program: std::path::PathBuf,
    target: Target,
}

impl Rig {
    fn new(args: &[&str]) -> Option<Rig> {
        let program = places::rmr_rpc()?;
        Some(Rig { program, target: Target::start(args)? })
    }

    fn run(&self, line: &str) -> Told {
        command(&self.program, &self.target.socket(), line).output().expect("rmr-rpc").into()
    }

    fn good(&self, line: &str) -> String {
        let told = self.run(line);
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{line}: {}", told.out);
        told.out
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.good(&format!("{line} --json"))).expect("JSON")
    }
}

#[test]
fn bdevs_are_made_shown_and_deleted() {
    let Some(rig) = Rig::new(&[]) else { return };
    assert_eq!(rig.good("wait --timeout 20"), "");
    let uuid = "11111111-2222-4333-8444-555555555555";
    let create = format!("bdev_null_create --name Null0 --num-blocks 2048 --block-size 512 --uuid {uuid}");
    assert_eq!(rig.good(&create), "Null0\n");
    let table = rig.good("bdev_get_bdevs");
    let mut lines = table.lines();
    let header = lines.next().expect("a header");
    assert!(header.starts_with("NAME") && header.contains("NUM_BLOCKS"), "{table}");
    let row: Vec<&str> = lines.next().expect("a row").split_whitespace().collect();
    assert_eq!(row[0], "Null0");
    assert!(row.contains(&uuid) && row.contains(&"2048"), "{table}");
    let bdevs = rig.json("bdev_get_bdevs --name Null0");
    assert_eq!((&bdevs[0]["num_blocks"], &bdevs[0]["uuid"]), (&json!(2048), &json!(uuid)));
    let stats = rig.json("bdev_get_iostat --names Null0 --per_channel false");
    assert_eq!(stats["bdevs"][0]["name"], "Null0");
    assert_eq!(rig.good("call bdev_null_delete {\"name\":\"Null0\"}"), "true\n");
    assert_eq!(rig.good("bdev_get_bdevs"), "(none)\n");
}

#[test]
fn each_way_to_fail_has_its_code_its_words_and_a_hint() {
    let Some(rig) = Rig::new(&[]) else { return };
    rig.good("wait");
    rig.good("bdev_null_create --name Null0 --num-blocks 8 --block-size 512");
    let cases = [
        ("bdev_null_delete --name a", 1, "No such device", "rmr-rpc bdev_get_bdevs"),
        (
            "bdev_null_create --name a --num-blocks 1 --block-size 500",
            1,
            "512",
            "rmr-rpc bdev_null_create --help",
        ),
        ("bdev_null_delete --name a", 1, "accepted: Null0", "rmr-rpc bdev_get_bdevs"),
        (
            "bdev_null_create --name Null0 --num-blocks 8 --block-size 512",
            1,
            "File exists",
            "rmr-rpc bdev_null_delete",
        ),
        ("bdev_get_histogram --name Null0", 1, "not counted", "rmr-rpc bdev_enable_histogram"),
        ("keyring_file_remove_key --name key0", 1, "the keyring is empty", "rmr-rpc keyring_get_keys"),
        ("keyring_file_add_key --name key0 --path /dev/null", 1, "a character device", "--help"),
        ("call bdev_nul_create", 1, "Method not found", "did you mean bdev_null_create"),
        ("call bdev_null_create {", 2, "PARAMS is no JSON", "rmr-rpc --help"),
        ("bdev_null_create --name a", 2, "--num-blocks", "--help"),
        ("bdev_nul_create", 2, "bdev_null_create", "--help"),
    ];
    for (line, code, words, hint) in cases {
        let told = rig.run(line);
        assert_eq!(told.code, Some(code), "{line}: {}", told.err);
        assert_eq!(told.out, "", "{line}");
        assert!(told.err.contains(words) && told.err.contains(hint), "{line}: {}", told.err);
    }
    let told = rig.run("bdev_null_delete --name a --json");
    let error: Value = serde_json::from_str(&told.err).expect("one JSON object");
    assert_eq!(
        (told.code, &error["code"], &error["data"]["parameter"]),
        (Some(1), &json!(-19), &json!("name"))
    );
}

#[test]
fn well_known_answers_are_shown_for_people() {
    let Some(rig) = Rig::new(&[]) else { return };
    rig.good("wait");
    rig.good("bdev_null_create --name Null0 --num-blocks 2048 --block-size 512");
    rig.good("bdev_enable_histogram --name Null0 --enable true");
    for (line, words) in [
        ("bdev_get_bdevs", "1 MiB"),
        ("bdev_get_iostat", "Null0  none"),
        ("framework_get_reactors", "ASLEEP"),
        ("thread_get_stats", "BUSY_TIME"),
        ("thread_get_pollers", "(none)"),
        ("thread_get_io_channels", "(none)"),
        ("iobuf_get_stats", "POOL"),
        ("notify_get_notifications", "bdev_register  Null0"),
        ("framework_get_config --name bdev", "name=\"Null0\""),
        ("bdev_get_histogram --name Null0", "0 IOs were counted"),
        ("bdev_get_histogram_borders --name Null0 --borders 10 100", "from 100 us"),
        ("call bdev_get_histogram_borders {\"name\":\"Null0\",\"borders\":[10]}", "from 10 us"),
    ] {
        let shown = rig.good(line);
        assert!(shown.contains(words), "{line}: {shown}");
    }
}

#[test]
fn top_prints_the_rates_of_one_interval_and_needs_a_terminal_for_more() {
    let Some(rig) = Rig::new(&[]) else { return };
    rig.good("wait");
    rig.good("bdev_null_create --name Null0 --num-blocks 2048 --block-size 512");
    let rates = rig.json("top --once --interval 0.05");
    assert!(rates["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.05), "{rates}");
    let (bdev, reactor) = (&rates["bdevs"][0], &rates["reactors"][0]);
    assert_eq!(
        (&bdev["name"], &bdev["read_iops"], &bdev["errors"]),
        (&json!("Null0"), &json!(0.0), &json!(0))
    );
    assert!(bdev["latency_mean_us"].is_null() && bdev["queue_depth"].is_null(), "{bdev}");
    let busy = reactor["busy_percent"].as_f64().expect("a number");
    assert!((0.0..=100.0).contains(&busy), "{reactor}");
    let shown = rig.good("top --once --interval 0.05 --sort name");
    assert!(shown.contains("BUSY") && shown.contains("IN FLIGHT") && shown.contains("Null0"), "{shown}");
    let told = rig.run("top");
    assert_eq!(told.code, Some(2), "{}", told.err);
    assert!(told.err.contains("top --once"), "{}", told.err);
}

#[test]
fn completions_know_methods_options_and_words() {
    let Some(program) = places::rmr_rpc() else { return };
    for shell in ["bash", "zsh", "fish"] {
        let socket = Path::new("/nowhere");
        let line = format!("completion {shell}");
        let told = Told::from(command(&program, socket, &line).output().expect("rmr-rpc"));
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{shell}");
        // fish writes long options without their dashes.
        for words in ["bdev_null_create", "num-blocks", "reset-mode", "maxmin", "completion"] {
            assert!(told.out.contains(words), "{shell} does not complete {words}");
        }
    }
}

/// What bash offers for the last word of a line, by the script that `rmr-rpc completion bash` prints.
fn offered(program: &Path, line: &[&str]) -> String {
    // `compopt` works only while bash itself completes.
    let script = "compopt() { :; }; source <(\"$0\" completion bash); COMP_WORDS=(rmr-rpc \"$@\"); COMP_CWORD=$#; \
                  complete=$(complete -p rmr-rpc); complete=${complete#*-F }; \
                  ${complete%% *} rmr-rpc \"${COMP_WORDS[$#]}\" \"${COMP_WORDS[$#-1]}\"; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("timeout");
    bash.args(["20", "bash", "-c", script]).arg(program).args(line);
    let told = Told::from(bash.output().expect("bash"));
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{line:?}");
    told.out
}

#[test]
fn bash_completes_a_method_its_options_and_their_words() {
    let Some(program) = places::rmr_rpc() else { return };
    let methods = offered(&program, &["bdev_null_"]);
    for name in ["bdev_null_create", "bdev_null_delete", "bdev_null_resize"] {
        assert!(methods.contains(name), "{methods}");
    }
    assert!(offered(&program, &["bdev_null_create", "--num"]).contains("--num-blocks"));
    assert!(offered(&program, &["bdev_get_iostat", "--reset-mode", ""]).contains("maxmin"));
}

#[test]
fn without_a_target_it_says_what_is_there_and_what_to_start() {
    let Some(program) = places::rmr_rpc() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (missing, file) = (dir.path().join("none.sock"), dir.path().join("file"));
    std::fs::write(&file, "").expect("a file");
    for (socket, words) in [(&missing, "there is no such file"), (&file, "it is no socket")] {
        for line in ["bdev_get_bdevs", "wait --timeout 0.05"] {
            let told = Told::from(command(&program, socket, line).output().expect("rmr-rpc"));
            assert_eq!(told.code, Some(3), "{line}: {}", told.err);
            assert!(
                told.err.contains(words) && told.err.contains(&socket.display().to_string()),
                "{}",
                told.err
            );
        }
    }
    let told = Told::from(command(&program, &missing, "bdev_get_bdevs").output().expect("rmr-rpc"));
    assert!(told.err.contains(&format!("rmr_tgt -r {}", missing.display())), "{}", told.err);
    // Who is served elsewhere is named: targets of other tests too, and not all of them when they are many.
    let Some(mut other) = Target::start(&[]) else { return };
    drop(other.client());
    let told = Told::from(command(&program, &missing, "bdev_get_bdevs").output().expect("rmr-rpc"));
    assert!(told.err.contains("a socket that is served: `-s /"), "{}", told.err);
}

#[test]
fn wait_outlasts_startup_and_says_what_the_target_waits_for() {
    let Some(mut rig) = Rig::new(&["--wait-for-rpc"]) else { return };
    drop(rig.target.client());
    let told = rig.run("wait --timeout 0.2");
    assert_eq!(told.code, Some(4), "{}", told.err);
    assert!(
        told.err.contains("not initialised") && told.err.contains("framework_start_init"),
        "{}",
        told.err
    );
    let waiting = Process(command(&rig.program, &rig.target.socket(), "wait").spawn().expect("rmr-rpc"));
    assert_eq!(rig.good("framework_start_init"), "true\n");
    assert!(waiting.end().success());
}

#[test]
fn parameters_may_come_from_stdin() {
    let Some(rig) = Rig::new(&[]) else { return };
    rig.good("wait");
    let mut command = command(&rig.program, &rig.target.socket(), "call bdev_null_create - --json");
    let mut process = Process(command.stdin(Stdio::piped()).spawn().expect("rmr-rpc"));
    let mut stdin = process.0.stdin.take().expect("a pipe");
    stdin.write_all(br#"{"name": "n", "num_blocks": 8, "block_size": 512}"#).expect("it reads");
    drop(stdin);
    assert!(process.end().success());
    assert_eq!(rig.json("bdev_get_bdevs")[0]["name"], "n");
}

/// A process that is killed when this is dropped. It bounds its own time.
struct Process(Child);

impl Process {
    fn end(mut self) -> std::process::ExitStatus {
        self.0.wait().expect("our child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has usually ended.
        let _ended = self.0.kill();
    }
}

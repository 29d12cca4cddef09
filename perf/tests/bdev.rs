//! `rmr-perf bdev` as a whole: the binary, with null and malloc bdevs. Nothing here asserts a speed.

#![allow(clippy::expect_used, missing_docs)]

mod run;

use run::{CONFIG, Running, perf, perf_on, usable_cores};
use serde_json::Value;
use std::time::Duration;

/// Keys of each object of the JSON form, in order.
const TOP: &[&str] = &[
    "version",
    "workload",
    "read_percent",
    "queue_depth",
    "io_bytes",
    "seconds_asked",
    "ios_asked",
    "seed",
    "setting",
    "ended_early",
    "iops",
    "mib_s",
    "latency_ns",
    "total",
    "bdevs",
];
const SETTING: &[&str] = &[
    "build",
    "processor",
    "cores",
    "every_core",
    "tick_rate_hz",
    "sleep_policy",
    "spin_us",
    "hugepage_bytes",
    "ordinary_page_bytes",
    "page_bytes",
];
const FIGURES: &[&str] = &["ios", "errors", "iops", "mib_s", "seconds", "latency_ns", "first_error"];
const LATENCY: &[&str] = &["mean", "min", "p50", "p90", "p99", "p99_9", "p99_99", "max"];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn the_json_form_has_the_documented_keys_and_no_others() {
    let json = perf("--ios 1000 -w randrw -M 70 --seed 9 --json").json(0);
    assert_eq!(keys(&json), TOP);
    assert_eq!(keys(&json["setting"]), SETTING);
    assert_eq!(keys(&json["total"]), FIGURES);
    let bdev = &json["bdevs"][0];
    assert_eq!(keys(bdev), [&["name"], FIGURES, &["cores"]].concat());
    assert_eq!(keys(&bdev["cores"][0]), [&["core"], FIGURES].concat());
    for latency in [&json["latency_ns"], &json["total"]["latency_ns"], &bdev["latency_ns"]] {
        assert_eq!(keys(latency), LATENCY);
    }
    let asked = ["workload", "read_percent", "queue_depth", "io_bytes", "seconds_asked", "ios_asked", "seed"];
    assert_eq!(
        asked.map(|key| json[key].clone()),
        ["randrw".into(), 70.into(), 128.into(), 4096.into(), Value::Null, 1000.into(), 9.into()]
    );
}

#[test]
fn every_key_of_the_json_form_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rmr-perf.md");
    let text = std::fs::read_to_string(path).expect("the documentation");
    for key in [TOP, SETTING, FIGURES, LATENCY, &["name", "cores", "core"]].concat() {
        assert!(text.contains(&format!("`{key}`")), "{key} is not in docs/rmr-perf.md");
    }
}

#[test]
fn the_total_stands_at_the_top_as_well_and_latencies_are_in_order() {
    let json = perf("--ios 5000 -b Malloc0 --json").json(0);
    for key in ["iops", "mib_s", "latency_ns"] {
        assert_eq!(json[key], json["total"][key]);
    }
    let at = |key: &str| json["latency_ns"][key].as_u64().expect("nanoseconds");
    let percentiles = ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"].map(at);
    assert!(percentiles.is_sorted() && percentiles[0] > 0, "{percentiles:?}");
    let (iops, mib_s) = (json["iops"].as_f64().expect("a rate"), json["mib_s"].as_f64().expect("a rate"));
    assert!((iops / 256.0 - mib_s).abs() < mib_s / 1000.0, "{iops} IOPS of 4 KiB are not {mib_s} MiB/s");
}

#[test]
fn each_job_does_exactly_as_many_ios_as_asked_for() {
    for (options, ios) in [("--ios 1 -q 1", 1), ("--ios 3 -q 128", 3), ("--ios 100001 -q 7", 100_001)] {
        let json = perf(&format!("{options} --json")).json(0);
        let bdevs = json["bdevs"].as_array().expect("bdevs");
        assert_eq!(bdevs.iter().map(|bdev| bdev["ios"].as_u64()).collect::<Vec<_>>(), [Some(ios); 2]);
        assert_eq!(
            (&json["total"]["ios"], &json["total"]["errors"]),
            (&(2 * ios).into(), &0.into()),
            "{options}"
        );
    }
}

#[test]
fn every_kind_of_io_runs() {
    for kind in ["read", "write", "randread", "randwrite", "rw", "randrw", "write_zeroes", "unmap", "flush"] {
        let json = perf(&format!("-w {kind} -b Malloc0 -o 128k --ios 50 --json")).json(0);
        assert_eq!((&json["total"]["ios"], &json["workload"]), (&50.into(), &kind.into()));
        assert_eq!(json["mib_s"] == 0.0, kind == "flush", "{kind}: {}", json["mib_s"]);
    }
}

#[test]
fn bdevs_are_chosen_by_name_in_the_order_asked_for() {
    let names = |options: &str| {
        let json = perf(&format!("{options} --ios 10 --json")).json(0);
        let bdevs = json["bdevs"].as_array().expect("bdevs").clone();
        bdevs.iter().map(|bdev| bdev["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["Null0", "Malloc0"]);
    assert_eq!(names("-b Malloc0 -b Null0"), ["Malloc0", "Null0"]);
    assert_eq!(names("-T Malloc0"), ["Malloc0"], "as bdevperf has it");
}

#[test]
fn two_cores_share_the_bdevs_or_run_each_of_them() {
    let cores = usable_cores();
    let [first, second, ..] = cores[..] else {
        println!("skipped: this process may use one core only, two are needed");
        return;
    };
    let on = |options: &str| {
        let json = perf_on(&format!("[{first},{second}]"), &format!("{options} --ios 500 --json")).json(0);
        let bdevs = json["bdevs"].as_array().expect("bdevs");
        let cores = bdevs.iter().map(|bdev| bdev["cores"].as_array().expect("cores").clone());
        let numbers =
            cores.map(|cores| cores.iter().map(|on| on["core"].as_u64().expect("a core")).collect());
        (numbers.collect::<Vec<Vec<u64>>>(), json["total"]["ios"].as_u64())
    };
    let (first, second) = (u64::from(first), u64::from(second));
    assert_eq!(on(""), (vec![vec![first], vec![second]], Some(1000)));
    assert_eq!(on("-C"), (vec![vec![first, second], vec![first, second]], Some(2000)));
}

#[test]
fn without_latencies_none_are_told() {
    let json = perf("--ios 100 --no-latency --json").json(0);
    for figures in [&json, &json["total"], &json["bdevs"][0], &json["bdevs"][0]["cores"][0]] {
        assert!(figures["latency_ns"].is_null() && figures["iops"].as_f64() > Some(0.0));
    }
    let done = perf("--ios 100 --no-latency");
    let table = done.stdout(0);
    assert!(table.contains("IOPS") && !table.contains("p99"), "{table}");
}

#[test]
fn the_setting_is_told() {
    let setting = perf("--ios 10 --no-huge --poll --json").json(0)["setting"].clone();
    assert_eq!((&setting["sleep_policy"], &setting["spin_us"]), (&"poll".into(), &Value::Null));
    assert_eq!((&setting["hugepage_bytes"], &setting["page_bytes"]), (&0.into(), &4096.into()));
    assert!(setting["ordinary_page_bytes"].as_u64() >= Some(32 << 20), "the malloc bdev's memory: {setting}");
    assert_eq!(setting["cores"], Value::from(vec![usable_cores()[0]]));
    let adaptive = perf("--ios 10 --spin-us 20 --json").json(0)["setting"].clone();
    assert_eq!((&adaptive["sleep_policy"], &adaptive["spin_us"]), (&"adaptive".into(), &20.into()));
}

#[test]
fn the_table_has_a_row_per_bdev_and_no_trace_of_a_terminal() {
    let done = perf("--ios 1000");
    assert!(!done.stderr.contains(['\r', '\x1b']) && !done.stdout.contains(['\r', '\x1b']), "{done:?}");
    let table = done.stdout(0);
    for word in ["Null0 ", "Malloc0 ", "total ", "p99.99", "2,000 IOs", "core ", "counter of"] {
        assert!(table.contains(word), "{word}: {table}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_own_exit_code() {
    for (options, code, says) in [
        ("-q 0", 2, &["'0'", "--queue-depth", "1..=65536"][..]),
        ("-w randreed", 2, &["'randreed'", "randread"]),
        ("-w read -M 5", 2, &["'5'", "-M", "rw or randrw"]),
        ("-o 1000", 2, &["(-o) 1000", "\"Null0\"", "512"]),
        ("-o 4M", 2, &["(-o) 4194304", "2097152"]),
        ("-b Nope", 2, &["\"Nope\"", "Null0, Malloc0"]),
        ("-b Null0 -b Null0", 2, &["\"Null0\"", "-C"]),
        ("-s 8", 5, &["bdev_malloc_create", "8388608"]),
        ("-r /nowhere/at/all.sock", 6, &["/nowhere/at/all.sock"]),
    ] {
        let done = perf(&format!("--ios 10 {options}"));
        assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{options}: {done:?}");
        assert!(says.iter().all(|word| done.stderr.contains(word)), "{options}: {}", done.stderr);
    }
    let absent = perf_on("[1023]", "--ios 10");
    assert_eq!(absent.code, Some(4), "{absent:?}");
    assert!(absent.stderr.contains("[1023]"), "{absent:?}");
}

#[test]
fn a_configuration_that_is_wrong_or_makes_no_bdev_is_refused() {
    for (config, says) in [
        ("{", "cfg.json:1"),
        (r#"{"subsystems":[]}"#, "makes no bdev"),
        (
            r#"{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_null_create","params":{"name":"A","num_blocks":0,"block_size":512}}]}]}"#,
            "bdev_null_create",
        ),
    ] {
        let done = run::perf_with(config, &run::first_core(), "--ios 10");
        assert_eq!(done.code, Some(5), "{config}: {done:?}");
        assert!(done.stderr.contains(says) && done.stdout.is_empty(), "{config}: {done:?}");
    }
}

#[test]
fn an_interrupt_ends_the_run_and_what_was_measured_is_told() {
    let mut running = Running::start(CONFIG, "-t 600 --json");
    running.wait_for_io("Null0");
    running.interrupt();
    let json = running.wait().json(0);
    assert_eq!(json["ended_early"], true);
    assert_eq!(json["seconds_asked"], 600.0);
    assert!(json["total"]["ios"].as_u64() > Some(0) && json["total"]["errors"] == 0, "{json}");
    assert!(json["total"]["seconds"].as_f64() < Some(600.0));
}

#[test]
fn an_io_that_fails_is_told_in_words_and_by_the_exit_code() {
    let mut running = Running::start(CONFIG, "-t 600 -b Malloc0 --json");
    running.wait_for_io("Malloc0");
    running.call("bdev_malloc_delete", r#"{"name":"Malloc0"}"#);
    let json = running.wait().json(1);
    assert!(json["total"]["errors"].as_u64() > Some(0));
    let first = json["bdevs"][0]["first_error"].as_str().expect("words");
    assert!(first.contains("removed"), "{first}");
    assert_eq!(json["ended_early"], false);
}

#[test]
fn a_run_by_time_ends_by_itself() {
    let json = perf("-t 0.05 --json").json(0);
    assert_eq!(json["ended_early"], false);
    let seconds = Duration::from_secs_f64(json["total"]["seconds"].as_f64().expect("seconds"));
    assert!(seconds >= Duration::from_millis(50), "it ran for {seconds:?}");
}

#[test]
fn checked_load_believes_a_disk_that_keeps_what_it_was_given_and_no_other() {
    let kept = perf("-b Malloc0 -w verify -q 16 --ios 3000 --json").json(0);
    assert_eq!((&kept["total"]["errors"], kept["total"].get("wrong")), (&0.into(), None));
    // A null bdev forgets everything.
    let forgot = perf("-b Null0 -w verify -q 16 --ios 3000");
    let page = forgot.stdout(1);
    assert!(
        page.contains("Null0 on core") && page.contains("WRONG") && page.contains("acknowledged"),
        "{page}"
    );
}

#[test]
fn a_plot_and_a_comparison_of_two_runs() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let plot = directory.path().join("run.svg");
    let results = ["1", "8"].map(|depth| {
        let result = directory.path().join(format!("{depth}.json"));
        let run = perf(&format!("-b Malloc0 -t 0.3 -q {depth} --json --plot {}", plot.display()));
        std::fs::write(&result, run.stdout(0)).expect("a file");
        result
    });
    let svg = std::fs::read_to_string(&plot).expect("the plot");
    assert!(svg.contains("<svg") && svg.contains("IOPS") && svg.contains("polyline"), "{svg}");
    let mut compare = std::process::Command::new(env!("CARGO_BIN_EXE_rmr-perf"));
    let shown = compare.arg("compare").args(results).output().expect("it runs");
    let text = String::from_utf8(shown.stdout).expect("UTF-8");
    assert!(
        shown.status.success() && text.contains("queue_depth: 1 and 8") && text.contains("p99.9"),
        "{text}"
    );
}

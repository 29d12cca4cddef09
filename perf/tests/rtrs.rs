//! The command `rmr-perf rtrs`, as a whole. Its figures are nobody's business here.

use serde_json::Value;
use std::process::{Command, Output};

fn rmr_perf(args: &[&str]) -> Option<Output> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        eprintln!("skipped: two processes that measure need two cores, there is {cores}");
        return None;
    }
    Some(Command::new(env!("CARGO_BIN_EXE_rmr-perf")).arg("rtrs").args(args).output().expect("it runs"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_load_has_a_figure_with_latencies_and_a_bare_one_beside_it() {
    let args = ["-t", "0.05", "-q", "1,16", "-o", "4k", "--paths", "2", "--json"];
    let Some(output) = rmr_perf(&args) else { return };
    assert!(output.status.success(), "{}", stderr(&output));
    let outcome: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let figures = outcome["figures"].as_array().expect("figures");
    assert_eq!((figures.len(), &outcome["paths"]), (4, &Value::from(2)));
    for figure in figures {
        assert!(figure["requests"].as_u64() > Some(0), "{figure}");
        assert!(figure["bare"]["requests_s"].as_f64() > Some(0.0), "{figure}");
        let latency = |name: &str| figure["latency_ns"][name].as_u64().expect("a latency");
        assert!(0 < latency("p50") && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
    }
}

#[test]
fn the_page_has_a_row_for_each_load() {
    let Some(output) = rmr_perf(&["-t", "0.05", "-q", "8", "--no-bare", "--no-digest"]) else { return };
    assert!(output.status.success(), "{}", stderr(&output));
    let page = String::from_utf8_lossy(&output.stdout);
    assert!(
        page.contains("| read ") && page.contains("| write ") && page.contains("without digests"),
        "{page}"
    );
}

#[test]
fn what_cannot_be_measured_is_said() {
    let Some(output) = rmr_perf(&["-t", "0.05", "-q", "1", "-o", "2M"]) else { return };
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("1048576 bytes at most"), "{}", stderr(&output));
    let Some(output) = rmr_perf(&["--connect", "127.0.0.1:1"]) else { return };
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("accepted: ip:ADDRESS:PORT"), "{}", stderr(&output));
}

//! Every combination runs, for a moment; its figures are nobody's business.

use std::process::Command;

#[test]
fn every_combination_answers_all_requests() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        eprintln!("skipped: two spinning processes need two cores, there is {cores}");
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_perf-sock"))
        .args(["--rounds", "1", "--millis", "10", "--depth", "1,40"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let rows = |word: &str| text.lines().filter(|line| line.contains(word)).count();
    assert_eq!((rows("| read "), rows("| write ")), (6, 6), "{text}");
}

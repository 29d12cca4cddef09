//! `rmr-perf compare`: two results side by side.

use crate::units;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Why two results cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    /// A file cannot be read.
    #[error("{path:?}: {error}", path = .0, error = .1)]
    Read(PathBuf, std::io::Error),
    /// Not what `rmr-perf bdev --json` writes.
    #[error("{0:?} is not a result of rmr-perf bdev --json: {1}")]
    Foreign(PathBuf, String),
}

/// What two results must have in common to be comparable: keys of the JSON form.
const COMMON: [&[&str]; 10] = [
    &["workload"],
    &["read_percent"],
    &["queue_depth"],
    &["io_bytes"],
    &["setting", "build"],
    &["setting", "processor"],
    &["setting", "cores"],
    &["setting", "every_core"],
    &["setting", "sleep_policy"],
    &["setting", "page_bytes"],
];

/// A figure: its header, where it is, and how a person reads it.
type Figure = (&'static str, &'static [&'static str], fn(f64) -> String);

const FIGURES: [Figure; 8] = [
    ("IOPS", &["iops"], units::count),
    ("MiB/s", &["mib_s"], units::mib),
    ("mean", &["latency_ns", "mean"], units::time),
    ("p50", &["latency_ns", "p50"], units::time),
    ("p99", &["latency_ns", "p99"], units::time),
    ("p99.9", &["latency_ns", "p99_9"], units::time),
    ("p99.99", &["latency_ns", "p99_99"], units::time),
    ("max", &["latency_ns", "max"], units::time),
];

/// The page that `rmr-perf compare` prints.
pub(crate) fn page(first: &Path, second: &Path) -> Result<String, CompareError> {
    Ok(compare(&read(first)?, &read(second)?))
}

fn read(path: &Path) -> Result<Value, CompareError> {
    let text = std::fs::read_to_string(path).map_err(|error| CompareError::Read(path.to_owned(), error))?;
    let foreign = |why: String| CompareError::Foreign(path.to_owned(), why);
    let value: Value = serde_json::from_str(&text).map_err(|error| foreign(error.to_string()))?;
    if at(&value, &["iops"]).as_f64().is_none() {
        return Err(foreign("it has no \"iops\"".to_owned()));
    }
    Ok(value)
}

fn compare(first: &Value, second: &Value) -> String {
    let mut lines: Vec<String> = COMMON.iter().filter_map(|path| difference(path, first, second)).collect();
    if !lines.is_empty() {
        lines.insert(0, "The figures differ in more than what is compared:".to_owned());
        lines.push(String::new());
    }
    lines.push(table(first, second));
    lines.join("\n") + "\n"
}

fn difference(path: &[&str], first: &Value, second: &Value) -> Option<String> {
    let (a, b) = (at(first, path), at(second, path));
    (a != b).then(|| format!("  {}: {a} and {b}", path.join(".")))
}

fn table(first: &Value, second: &Value) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_header(["", "first", "second", "second / first"]);
    for (name, path, show) in FIGURES {
        let (a, b) = (at(first, path).as_f64(), at(second, path).as_f64());
        let shown = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), show);
        let ratio = a
            .zip(b)
            .filter(|(a, _)| *a > 0.0)
            .map_or_else(|| "-".to_owned(), |(a, b)| format!("{:.3}", b / a));
        table.add_row([name.to_owned(), shown(a), shown(b), ratio]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn at<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(value, |value, key| &value[*key])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(iops: f64, queue_depth: u32) -> Value {
        json!({"workload": "randread", "queue_depth": queue_depth, "io_bytes": 4096, "iops": iops, "mib_s": 1.0,
            "setting": {"build": "release"}, "latency_ns": {"mean": 100.0, "p50": 90, "p99": 200, "p99_9": 300,
            "p99_99": 400, "max": 500}})
    }

    #[test]
    fn ratios_are_of_the_second_to_the_first() {
        let text = compare(&result(1000.0, 1), &result(1500.0, 1));
        assert!(text.contains("1.500") && !text.contains("differ in more"), "{text}");
    }

    #[test]
    fn what_makes_figures_incomparable_is_said_first() {
        let text = compare(&result(1000.0, 1), &result(1500.0, 32));
        assert!(text.starts_with("The figures differ") && text.contains("queue_depth: 1 and 32"), "{text}");
    }

    #[test]
    fn results_without_latencies_are_compared_by_their_rates() {
        let mut without = result(1000.0, 1);
        without["latency_ns"] = Value::Null;
        let text = compare(&without, &result(500.0, 1));
        assert!(text.contains("0.500") && text.contains('-'), "{text}");
    }

    #[test]
    fn a_file_that_is_no_result_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.json");
        assert!(read(&path).expect_err("missing").to_string().contains("a.json"));
        for text in ["{}", "nonsense"] {
            std::fs::write(&path, text).expect("written");
            let error = read(&path).expect_err(text).to_string();
            assert!(error.contains("not a result of rmr-perf"), "{error}");
        }
    }
}

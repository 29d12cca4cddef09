//! A strict reader of Prometheus's text format, for tests: it accepts less than Prometheus does.
//!
//! The whole page, or a panic that names the line: HELP, then TYPE, then samples, each family once and in one piece,
//! labels quoted and escaped, no sample twice, counters not negative, histograms cumulative up to `+Inf` with the sum
//! and the count beside them.

#![allow(unreachable_pub)]

use std::collections::BTreeMap;

pub type Labels = BTreeMap<String, String>;

#[derive(Debug)]
pub struct Family {
    pub kind: String,
    /// Name with suffix, labels, value.
    pub samples: Vec<(String, Labels, f64)>,
}

pub fn read(page: &str) -> BTreeMap<String, Family> {
    assert!(page.ends_with('\n'), "the last line must end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) =
            after(line, "# HELP ").split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
        assert!(!help.is_empty() && is_name(name), "{line}");
        let line = lines.next().unwrap_or_else(|| panic!("{name}: no TYPE"));
        let (typed, kind) =
            after(line, "# TYPE ").split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
        assert_eq!(typed, name, "{line}");
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
        let mut samples: Vec<(String, Labels, f64)> = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let sample = sample(line);
            assert!(belongs(&sample.0, name, kind), "{line} in {name}");
            assert!(kind == "gauge" || sample.2 >= 0.0, "negative: {line}");
            assert!(samples.iter().all(|(n, l, _)| (n, l) != (&sample.0, &sample.1)), "twice: {line}");
            samples.push(sample);
        }
        assert!(!samples.is_empty(), "{name} has no samples");
        let family = Family { kind: kind.to_owned(), samples };
        if kind == "histogram" {
            check_histogram(name, &family);
        }
        assert!(families.insert(name.to_owned(), family).is_none(), "{name} comes twice");
    }
    families
}

/// The value of the one sample of `name` whose labels include these.
pub fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let all = families.values().flat_map(|family| &family.samples);
    let has = |own: &Labels| labels.iter().all(|(name, value)| own.get(*name).is_some_and(|v| v == value));
    let found: Vec<f64> = all.filter(|(n, own, _)| n == name && has(own)).map(|(.., value)| *value).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    found[0]
}

fn after<'l>(line: &'l str, begin: &str) -> &'l str {
    line.strip_prefix(begin).unwrap_or_else(|| panic!("{begin:?} is wanted: {line}"))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn belongs(sample: &str, family: &str, kind: &str) -> bool {
    match sample.strip_prefix(family) {
        Some("") => kind != "histogram",
        Some(suffix) => kind == "histogram" && ["_bucket", "_sum", "_count"].contains(&suffix),
        None => false,
    }
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            assert!(is_name(label), "{line}");
            let (value, after) = quoted(after, line);
            assert!(labels.insert(label.to_owned(), value).is_none(), "a label twice: {line}");
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after.strip_prefix('}').unwrap_or_else(|| panic!("no brace: {line}"));
                    break;
                }
            }
        }
    }
    let number = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no space: {line}"));
    let value: f64 = number.parse().unwrap_or_else(|why| panic!("{why}: {line}"));
    assert!(value.is_finite(), "{line}");
    (name.to_owned(), labels, value)
}

/// A label's value up to its closing quote, and what follows.
fn quoted<'l>(text: &'l str, line: &str) -> (String, &'l str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('\\' | '"'))) => c,
                other => panic!("escape {other:?}: {line}"),
            }),
            c => value.push(c),
        }
    }
    panic!("no closing quote: {line}");
}

/// For each set of labels: borders grow, counts never shrink, `+Inf` comes last and is the count, and there is a sum.
fn check_histogram(name: &str, family: &Family) {
    let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (sample, labels, value) in &family.samples {
        let mut labels = labels.clone();
        let border = labels.remove("le");
        if sample.ends_with("_bucket") {
            let border: f64 = border.expect("a bucket has le").parse().expect("a border is a number");
            series.entry(labels).or_default().push((border, *value));
        }
    }
    let find = |suffix: &str, wanted: &Labels| {
        let wanted_name = format!("{name}{suffix}");
        let found = family.samples.iter().find(|(n, l, _)| *n == wanted_name && l == wanted);
        found.unwrap_or_else(|| panic!("{wanted_name} {wanted:?} is missing")).2
    };
    for (labels, buckets) in series {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {labels:?}: {buckets:?}");
        let last = buckets.last().expect("a bucket");
        assert!(last.0 == f64::INFINITY, "{name} {labels:?} does not end at +Inf");
        assert!(last.1 == find("_count", &labels), "{name} {labels:?}: +Inf is not the count");
        find("_sum", &labels);
    }
}

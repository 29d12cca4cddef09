//! `cargo xtask fuzz`: the targets of `test/fuzz` under libFuzzer.
//!
//! The crate there has cargo-fuzz's form, but is built by plain cargo with the flags cargo-fuzz would pass: that
//! needs the stable toolchain and a C++ compiler, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use comfy_table::Table;

use crate::error::Error;
use crate::project::Project;
use crate::step::shown;

mod build;
mod run;
mod stats;

pub(crate) use run::Harness;
use stats::Stats;

/// Fuzz the parsers: each target for a given time, then runs a second, coverage and findings
///
/// Each target starts from its checked-in corpus, test/fuzz/corpus/NAME, and keeps what it learns in
/// .build/fuzz/corpus/NAME. An input that breaks a target is saved in test/fuzz/artifacts/NAME and fails the command;
/// see it fail again with --reproduce.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The targets to run, one after another; all by default
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Run one target on one input and show what happens
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "grow"])]
    reproduce: Option<PathBuf>,
    /// Add to the checked-in corpus what reaches code that no input there reaches
    #[arg(long)]
    grow: bool,
    /// List the targets and run none
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(project: &Project, args: &Args) -> Result<(), Error> {
    let known = build::targets(project)?;
    if args.list {
        known.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let chosen = choose(&known, &args.targets)?;
    let harness = Harness::build(project, &chosen)?;
    if let Some(input) = &args.reproduce {
        let [target] = chosen.as_slice() else {
            return Err(Error::form("--reproduce", "takes exactly one target"));
        };
        return harness.reproduce(target, input);
    }
    let rows = all(&harness, &chosen, Duration::from_secs(args.seconds))?;
    if args.grow {
        chosen.iter().try_for_each(|target| harness.grow(target))?;
    }
    report(rows)
}

/// Every target the fuzz crate declares.
pub(crate) fn targets(project: &Project) -> Result<Vec<String>, Error> {
    build::targets(project)
}

/// Runs `targets` one after another, each for `time`, and fails if any of them found something.
pub(crate) fn rotate(harness: &Harness<'_>, targets: &[String], time: Duration) -> Result<(), Error> {
    report(all(harness, targets, time)?)
}

fn all(harness: &Harness<'_>, targets: &[String], time: Duration) -> Result<Vec<(String, Stats)>, Error> {
    let mut rows = Vec::new();
    for target in targets {
        println!("{target}: {} …", shown(time));
        rows.push((target.clone(), harness.fuzz(target, time)?));
    }
    Ok(rows)
}

fn choose(known: &[String], asked: &[String]) -> Result<Vec<String>, Error> {
    if let Some(stranger) = asked.iter().find(|name| !known.contains(name)) {
        let known = known.join(", ");
        return Err(Error::Unknown { kind: "fuzz target", given: stranger.clone(), known });
    }
    Ok(if asked.is_empty() { known.to_vec() } else { asked.to_vec() })
}

fn report(rows: Vec<(String, Stats)>) -> Result<(), Error> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["target", "runs", "runs/s", "edges covered", "corpus", "findings"]);
    let mut findings = Vec::new();
    for (target, stats) in rows {
        table.add_row([
            target,
            stats.runs.to_string(),
            format!("{:.0}", stats.runs_per_second()),
            stats.edges.to_string(),
            stats.corpus.to_string(),
            stats.findings.len().to_string(),
        ]);
        findings.extend(stats.findings);
    }
    println!("{table}");
    if findings.is_empty() { Ok(()) } else { Err(Error::Findings(findings)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_target_is_refused_with_the_known_ones() {
        let known = ["a".to_owned(), "b".to_owned()];
        assert_eq!(choose(&known, &[]).expect("all"), known);
        assert_eq!(choose(&known, &known[1..]).expect("one"), known[1..]);
        let error = choose(&known, &["c".to_owned()]).expect_err("no such target");
        assert_eq!(error.to_string(), "there is no fuzz target `c`; there are: a, b");
    }

    #[test]
    fn findings_fail_the_command() {
        let mut stats = Stats::default();
        assert!(report(vec![("a".to_owned(), stats.clone())]).is_ok());
        stats.findings.push("crash-1".to_owned());
        assert!(matches!(report(vec![("a".to_owned(), stats)]), Err(Error::Findings(_))));
    }
}

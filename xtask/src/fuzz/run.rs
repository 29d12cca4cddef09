//! Running built fuzz targets.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::build::{self, CRATE};
use super::stats::Stats;
use crate::error::Error;
use crate::project::{Project, read};
use crate::tool::Tool;

/// Longest time one input may take: beyond, it is a finding.
const INPUT_LIMIT: &str = "-timeout=10";
/// Most memory a target may use, sanitizer included: beyond, it is a finding.
const MEMORY_LIMIT: &str = "-rss_limit_mb=2048";
/// How much longer than asked a target may take to start and to end by itself.
const GRACE: Duration = Duration::from_secs(60);

/// The built targets and the folders they work in.
pub(crate) struct Harness<'p> {
    project: &'p Project,
    binaries: PathBuf,
}

impl<'p> Harness<'p> {
    /// Builds `targets`.
    pub(crate) fn build(project: &'p Project, targets: &[String]) -> Result<Harness<'p>, Error> {
        Ok(Harness { project, binaries: build::build(project, targets)? })
    }

    /// Runs `target` for `time`.
    pub(super) fn fuzz(&self, target: &str, time: Duration) -> Result<Stats, Error> {
        let learned = self.made(&self.work("corpus")?.join(target))?;
        let artifacts = self.artifacts(target)?;
        let log = self.made(&self.work("logs")?)?.join(format!("{target}.log"));
        let before = files(&artifacts)?;
        let start = Instant::now();
        let ended = self
            .bounded(target, time + GRACE)
            .arg(format!("-max_total_time={}", time.as_secs()))
            .args([INPUT_LIMIT, MEMORY_LIMIT, "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            // New inputs go to the first folder; the second is only read.
            .args([&learned, &self.corpus(target)?])
            .stderr_to(File::create(&log).map_err(Error::file(&log))?)
            .run_unshown();
        let mut stats = Stats::read(&fs::read(&log).map_err(Error::file(&log))?);
        stats.took = start.elapsed();
        let found = files(&artifacts)?;
        stats.findings = found.difference(&before).map(|file| self.finding(target, file)).collect();
        match ended {
            // It fails when it finds something; without a finding it failed otherwise, and the log says how.
            Err(error) if stats.findings.is_empty() => {
                Err(Error::form(log.display(), last_lines(&log, &error)?))
            }
            _ => Ok(stats),
        }
    }

    /// Runs `target` on the one `input`, its output in view.
    pub(super) fn reproduce(&self, target: &str, input: &Path) -> Result<(), Error> {
        self.bounded(target, GRACE).args([INPUT_LIMIT, MEMORY_LIMIT]).arg(input).run()
    }

    /// Adds to the checked-in corpus the learned inputs that reach more than it does.
    pub(super) fn grow(&self, target: &str) -> Result<(), Error> {
        let corpus = self.corpus(target)?;
        let before = files(&corpus)?.len();
        let log = self.made(&self.work("logs")?)?.join(format!("{target}.merge.log"));
        self.bounded(target, GRACE * 5)
            // The fewest inputs that reach everything: the corpus is in git, and replayed by every test run.
            .arg("-set_cover_merge=1")
            .args([&corpus, &self.work("corpus")?.join(target)])
            .stderr_to(File::create(&log).map_err(Error::file(&log))?)
            .run_unshown()?;
        println!("{target}: {} new in {}", files(&corpus)?.len() - before, corpus.display());
        Ok(())
    }

    fn bounded(&self, target: &str, limit: Duration) -> Tool {
        Tool::bounded(self.binaries.join(target), limit)
    }

    fn finding(&self, target: &str, file: &Path) -> String {
        let file = file.strip_prefix(&self.project.root).unwrap_or(file).display();
        format!("{file}: see it with `cargo xtask fuzz {target} --reproduce {file}`")
    }

    fn corpus(&self, target: &str) -> Result<PathBuf, Error> {
        self.made(&self.project.root.join(CRATE).join("corpus").join(target))
    }

    fn artifacts(&self, target: &str) -> Result<PathBuf, Error> {
        self.made(&self.project.root.join(CRATE).join("artifacts").join(target))
    }

    fn work(&self, name: &str) -> Result<PathBuf, Error> {
        Ok(self.project.build_dir()?.join("fuzz").join(name))
    }

    fn made(&self, folder: &Path) -> Result<PathBuf, Error> {
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
        Ok(folder.to_owned())
    }
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::file(folder))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(Error::file(folder))
}

fn last_lines(log: &Path, error: &Error) -> Result<String, Error> {
    let text = read(log)?;
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(20)..];
    Ok(format!("{error}\n{}", tail.join("\n")))
}

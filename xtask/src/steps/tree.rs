//! The step `tree`: what is in the checkout, as git sees it.
//!
//! `target/` holds sources here. A cargo that runs outside the root builds into it, a careless ignore rule hides it:
//! both are looked for.

use std::path::Path;

use super::words;
use crate::error::{Error, verdict};
use crate::step::{Context, Outcome};
use crate::tool::{Tool, on_path};

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    let root = &context.project.root;
    if on_path("git").is_none() || !Tool::new("git").args(["rev-parse", "--git-dir"]).answers() {
        return context.skip("git is missing, or this is no git checkout".to_owned());
    }
    // Without --exclude-standard git names ignored files too.
    let mut complaints: Vec<String> =
        git_list(&["ls-files", "-z", "--others", "--directory", "--", "target"])?
            .iter()
            .map(|path| {
                format!("{path}: untracked in target/, where only sources live; add it to git or remove it")
            })
            .collect();
    complaints.extend(ignored_sources()?);
    let tracked = git_list(&["ls-files", "-z"])?;
    for path in &tracked {
        complaints.extend(word_complaints(root, path)?);
    }
    println!("{} tracked files", tracked.len());
    verdict(complaints)?;
    Ok(Outcome::Passed)
}

fn git_list(args: &[&str]) -> Result<Vec<String>, Error> {
    let text = Tool::new("git").args(args).capture()?;
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

/// An ignore rule that matches `target/app`, as `target` in a `.gitignore` would.
fn ignored_sources() -> Result<Option<String>, Error> {
    // --no-index: a tracked file counts as not ignored otherwise, whatever the rules say.
    let check = Tool::new("git").args(["check-ignore", "--no-index", "--verbose", "target/app"]);
    let (status, rule, said) = check.outcome()?;
    match status.code() {
        Some(1) => Ok(None),
        Some(0) => Ok(Some(format!("target/app is ignored by {}", rule.trim()))),
        _ => Err(Error::form("git check-ignore", said.trim())),
    }
}

fn word_complaints(root: &Path, path: &str) -> Result<Vec<String>, Error> {
    let file = root.join(path);
    let Ok(meta) = std::fs::symlink_metadata(&file) else {
        return Ok(vec![format!("{path}: tracked, but gone from the checkout")]);
    };
    if !meta.is_file() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(&file).map_err(Error::file(&file))?;
    // Anything but text (a corpus of fuzz inputs, say) holds no words.
    Ok(std::str::from_utf8(&bytes).map(|text| words::complaints(path, text)).unwrap_or_default())
}

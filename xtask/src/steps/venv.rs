//! The Python environment with SPDK's own client, by which compatibility is judged.

use std::path::PathBuf;

use crate::error::Error;
use crate::project::{Project, read};
use crate::step::Context;
use crate::tool::{Tool, on_path};

/// Pinned, so that one day's CI is the next day's. The extra brings configshell-fb, which `spdk-cli` needs.
const PACKAGES: &[&str] = &["spdk[cli]==26.9", "configshell-fb==2.0.3"];
/// Written last: an environment without it is half made.
const STAMP: &str = "installed.txt";

fn folder(project: &Project) -> Result<PathBuf, Error> {
    Ok(project.build_dir()?.join("venv"))
}

/// The environment's folder, if it is complete and up to date.
pub(crate) fn ready(project: &Project) -> Result<Option<PathBuf>, Error> {
    let folder = folder(project)?;
    let stamp = folder.join(STAMP);
    let complete = stamp.is_file() && read(&stamp)? == PACKAGES.join("\n");
    // A moved checkout leaves an interpreter that starts nothing.
    let works = complete && Tool::new(folder.join("bin/spdk-rpc")).arg("--help").answers();
    Ok(works.then_some(folder))
}

/// What [`make`] will do, in one line; `None` if there is nothing to do.
pub(super) fn plan(project: &Project) -> Result<Option<String>, Error> {
    if ready(project)?.is_some() {
        return Ok(None);
    }
    let folder = folder(project)?;
    Ok(Some(format!(
        "from PyPI into {}: {} (SPDK's client, for the tests of the RPC)",
        folder.display(),
        PACKAGES.join(", ")
    )))
}

/// Whether this machine's Python can make environments.
pub(super) fn python_ready() -> bool {
    Tool::new("python3").args(["-c", "import venv, ensurepip"]).answers()
}

/// Makes the environment anew.
pub(super) fn make(context: &Context<'_>) -> Result<(), Error> {
    if on_path("python3").is_none() || !python_ready() {
        let line = "the tests with SPDK's client: no python3 with venv and ensurepip (Debian: python3-venv)";
        context.leave_out(line.to_owned());
        return Ok(());
    }
    let folder = folder(context.project)?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(Error::file(&folder))?;
    }
    Tool::new("python3").args(["-m", "venv"]).arg(&folder).run()?;
    Tool::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"])
        .args(PACKAGES)
        .run()?;
    let stamp = folder.join(STAMP);
    std::fs::write(&stamp, PACKAGES.join("\n")).map_err(Error::file(&stamp))
}

//! The checkout: its root, and what `cargo metadata` says of its members.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;
use crate::tool::Tool;

/// The checkout this command runs in. The current directory is its root.
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    metadata: OnceCell<Metadata>,
}

/// What is read of `cargo metadata --no-deps`.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
}

/// One workspace member.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// One entry of a member's dependency tables; `name` is the package's name, whatever the member calls it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) path: Option<PathBuf>,
}

/// One library, binary, test, bench or example.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

impl Dependency {
    /// Whether only tests, benches and examples see it.
    pub(crate) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

impl Project {
    /// Finds the checkout from the current directory and makes its root the current directory.
    ///
    /// cargo finds `.cargo/config.toml` from the current directory only; from elsewhere it would build into
    /// `target/`, where the sources of the storage target live.
    pub(crate) fn find() -> Result<Project, Error> {
        let here = Path::new(".");
        let from = std::env::current_dir().map_err(Error::file(here))?;
        let root = from
            .ancestors()
            .find(|dir| dir.join("layers.toml").is_file())
            .ok_or_else(|| Error::NoProject { from: from.clone() })?
            .to_owned();
        std::env::set_current_dir(&root).map_err(Error::file(&root))?;
        Ok(Project { root, metadata: OnceCell::new() })
    }

    /// What cargo says of the workspace's members; asked once.
    pub(crate) fn metadata(&self) -> Result<&Metadata, Error> {
        if let Some(known) = self.metadata.get() {
            return Ok(known);
        }
        let text = Tool::cargo().args(["metadata", "--no-deps", "--format-version=1"]).capture()?;
        let parsed = serde_json::from_str(&text).map_err(|reason| Error::form("cargo metadata", reason))?;
        Ok(self.metadata.get_or_init(|| parsed))
    }

    /// Whether a member has a binary of this name.
    pub(crate) fn has_bin(&self, name: &str) -> Result<bool, Error> {
        let mut targets = self.metadata()?.packages.iter().flat_map(|package| &package.targets);
        Ok(targets.any(|target| target.name == name && target.kind.iter().any(|kind| kind == "bin")))
    }

    /// A file of the checkout, read whole.
    pub(crate) fn read(&self, relative: &str) -> Result<String, Error> {
        read(&self.root.join(relative))
    }

    /// A TOML file of the checkout.
    pub(crate) fn toml(&self, relative: &str) -> Result<toml::Table, Error> {
        self.read(relative)?.parse().map_err(|reason| Error::form(relative, reason))
    }

    /// The folder cargo builds into (`.build`, unless the environment says otherwise).
    pub(crate) fn build_dir(&self) -> Result<&Path, Error> {
        Ok(&self.metadata()?.target_directory)
    }

    /// Where the release build of the binary `name` stands, built or not.
    pub(crate) fn release_bin(&self, name: &str) -> Result<PathBuf, Error> {
        Ok(self.build_dir()?.join("release").join(name))
    }
}

/// A file, read whole.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(Error::file(path))
}

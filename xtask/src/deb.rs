//! `cargo xtask deb`: the Debian package, by cargo-deb from `[package.metadata.deb]` of `target/app/Cargo.toml`.

use crate::error::Error;
use crate::project::Project;
use crate::steps::build;
use crate::tool::Tool;

/// Make the Debian package: target, client, load generator, setup.sh, systemd unit, examples
///
/// Builds the release binaries first. The package is written to .build/debian/ and its files are listed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// What goes into the package.
const BINARIES: &[&str] = &["rmr_tgt", "rmr-rpc", "rmr-perf"];

pub(crate) fn run(project: &Project, _: &Args) -> Result<(), Error> {
    if !Tool::cargo().args(["deb", "--version"]).answers() {
        return Err(Error::Missing {
            what: "cargo-deb",
            why: "to make the package",
            remedy: "install it with `cargo install cargo-deb --locked`".to_owned(),
        });
    }
    build::release(BINARIES)?;
    let folder = project.build_dir()?.join("debian");
    std::fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
    let package = folder.join("rmr-tgt.deb");
    Tool::cargo().args(["deb", "--package", "rmr_tgt", "--no-build", "--output"]).arg(&package).run()?;
    Tool::new("dpkg-deb").arg("--info").arg(&package).run()?;
    Tool::new("dpkg-deb").arg("--contents").arg(&package).run()
}

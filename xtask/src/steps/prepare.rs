//! The step `prepare`: what the other steps need of the machine. It lists first, then installs.

use std::path::Path;

use super::{cargo, guest, hugepages, venv};
use crate::error::Error;
use crate::step::{Context, Outcome};
use crate::tool::{Tool, is_root, on_path};

/// A program of the system, and how to get it where it is missing.
struct Need {
    what: &'static str,
    why: &'static str,
    present: fn() -> bool,
    /// Debian's and Ubuntu's packages.
    packages: &'static [&'static str],
    /// rustup's components.
    components: &'static [&'static str],
}

const NEEDS: &[Need] = &[
    Need {
        what: "rustfmt",
        why: "step fmt",
        present: || cargo::installed("fmt"),
        packages: &[],
        components: &["rustfmt"],
    },
    Need {
        what: "clippy",
        why: "step clippy",
        present: || cargo::installed("clippy"),
        packages: &[],
        components: &["clippy"],
    },
    Need {
        what: "git",
        why: "step tree",
        present: || on_path("git").is_some(),
        packages: &["git"],
        components: &[],
    },
    Need {
        what: "nft",
        why: "tests that cut a network",
        present: || on_path("nft").is_some(),
        packages: &["nftables"],
        components: &[],
    },
    Need {
        what: "dmsetup",
        why: "tests of failing disks, in a guest",
        present: || on_path("dmsetup").is_some(),
        packages: &["dmsetup"],
        components: &[],
    },
    Need {
        what: "shellcheck",
        why: "the check of scripts/",
        present: || on_path("shellcheck").is_some(),
        packages: &["shellcheck"],
        components: &[],
    },
    Need {
        what: "python3 with venv",
        why: "tests with SPDK's client",
        present: venv::python_ready,
        packages: &["python3", "python3-venv"],
        components: &[],
    },
];

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    let client = venv::plan(context.project)?;
    announce(&missing, client.as_deref());
    if context.no_install {
        leave_out_all(context, &missing, client.is_some());
    } else {
        rust_components(context, &missing)?;
        system_packages(context, &missing)?;
        if client.is_some() {
            venv::make(context)?;
        }
    }
    bed(context)?;
    hugepages::raise(context)?;
    Ok(Outcome::Passed)
}

/// What guests boot from: packages of Debian's, unpacked in the build folder and not installed.
fn bed(context: &Context<'_>) -> Result<(), Error> {
    if guest::missing()?.is_none() {
        return Ok(());
    }
    if context.no_install {
        context.leave_out("what guests boot from is not fetched (--no-install): tests in guests".to_owned());
        return Ok(());
    }
    println!(
        "fetching what guests boot from: kernel, busybox, QEMU where it is not installed (up to 125 MB)"
    );
    if let Some(why) = guest::fetch()? {
        context.leave_out(format!("tests in guests: {why}"));
    }
    Ok(())
}

fn announce(missing: &[&Need], client: Option<&str>) {
    if missing.is_empty() && client.is_none() {
        println!("nothing is missing");
        return;
    }
    println!("missing on this machine:");
    for need in missing {
        let source = if need.packages.is_empty() { "rustup" } else { "apt-get" };
        let names = [need.packages, need.components].concat().join(" ");
        println!("  {} ({}), from {source}: {names}", need.what, need.why);
    }
    if let Some(line) = client {
        println!("  {line}");
    }
}

fn leave_out_all(context: &Context<'_>, missing: &[&Need], client: bool) {
    for need in missing {
        context.leave_out(format!("{} is not installed (--no-install): {}", need.what, need.why));
    }
    if client {
        context.leave_out("SPDK's client is not installed (--no-install): tests with it".to_owned());
    }
}

fn rust_components(context: &Context<'_>, missing: &[&Need]) -> Result<(), Error> {
    let names: Vec<&str> = missing.iter().flat_map(|need| need.components).copied().collect();
    if names.is_empty() {
        return Ok(());
    }
    if on_path("rustup").is_none() {
        context.leave_out(format!("{}: no rustup on PATH to add it with", names.join(", ")));
        return Ok(());
    }
    Tool::new("rustup").args(["component", "add"]).args(names).run()
}

fn system_packages(context: &Context<'_>, missing: &[&Need]) -> Result<(), Error> {
    let names: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if names.is_empty() {
        return Ok(());
    }
    let debian = Path::new("/etc/debian_version").is_file() && on_path("apt-get").is_some();
    if !debian || !is_root()? {
        let line = format!("{}: installed only as root on Debian or Ubuntu", names.join(", "));
        context.leave_out(line);
        return Ok(());
    }
    // A fresh image has no package lists; an old one may name files that are gone; a machine may have no network.
    if apt_install(&names).is_err() {
        let again = Tool::new("apt-get").arg("update").run().and_then(|()| apt_install(&names));
        if let Err(why) = again {
            context.leave_out(format!("{}: {why}", names.join(", ")));
        }
    }
    Ok(())
}

fn apt_install(names: &[&str]) -> Result<(), Error> {
    Tool::new("apt-get")
        .args(["install", "-y", "--no-remove", "--no-install-recommends"])
        .args(names)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()
}

//! `rmr-guest`: makes the bed, and runs a command in a guest by hand.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use test_vm::{Bed, Disk, Error, Guest};

/// Run a command under a kernel of its own (QEMU without KVM; no root needed)
#[derive(Debug, Parser)]
#[command(name = "rmr-guest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Download kernel, busybox and, unless it is installed, QEMU, as Debian's packages; install nothing
    Fetch,
    /// Say whether guests can be booted here, and why not
    Check,
    /// Boot a guest whose root is this machine's, read only, and run a shell command in it
    Run(Run),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// What /bin/sh runs in the guest
    command: String,
    /// Memory in MiB
    #[arg(short, long, default_value_t = 512)]
    memory: u32,
    /// Empty virtio disks of so many MiB each
    #[arg(long, value_name = "MIB")]
    virtio: Vec<u64>,
    /// NVMe controllers with an empty namespace of so many MiB each
    #[arg(long, value_name = "MIB")]
    nvme: Vec<u64>,
    /// Modules to load first
    #[arg(long, value_name = "NAME")]
    module: Vec<String>,
    /// A network card; the host's 127.0.0.1 is 10.0.2.2
    #[arg(long)]
    network: bool,
    /// An IOMMU
    #[arg(long)]
    iommu: bool,
    /// The host's systemd as process 1
    #[arg(long)]
    systemd: bool,
    /// Seconds after which the guest is ended
    #[arg(long, default_value_t = 120)]
    limit: u64,
    /// Show the kernel's messages as well
    #[arg(long)]
    console: bool,
}

fn run(run: &Run) -> Result<i32, Error> {
    let mut guest = Guest::new()?.memory(run.memory).limit(Duration::from_secs(run.limit));
    guest = run.virtio.iter().fold(guest, |guest, mib| guest.disk(Disk::virtio(mib << 20)));
    guest = run.nvme.iter().fold(guest, |guest, mib| guest.disk(Disk::nvme(mib << 20)));
    guest = run.module.iter().fold(guest, |guest, name| guest.module(name));
    guest = if run.network { guest.network() } else { guest };
    guest = if run.iommu { guest.iommu() } else { guest };
    guest = if run.systemd { guest.systemd() } else { guest };
    let outcome = guest.run(&run.command)?;
    print!("{}", outcome.stdout);
    eprint!("{}", outcome.stderr);
    if run.console {
        eprint!("{}", outcome.console);
    }
    Ok(outcome.status)
}

fn fetch() -> Result<i32, Error> {
    test_vm::fetch()?;
    check()
}

fn check() -> Result<i32, Error> {
    let bed = Bed::find()?;
    println!("guests boot Linux {} from {}", bed.release(), Bed::folder().display());
    Ok(0)
}

/// Exit status where this machine cannot have guests, or not yet.
const MISSING: u8 = 3;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Fetch => fetch(),
        Command::Check => check(),
        Command::Run(args) => run(&args),
    };
    match outcome {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("rmr-guest: {error}");
            if error.is_missing() { ExitCode::from(MISSING) } else { ExitCode::FAILURE }
        }
    }
}

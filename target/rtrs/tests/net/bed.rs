//! Two hosts with a path over each of two cards, and a session under checked load between them.

use crate::common::process::{self, Process};
use crate::common::{ClientRig, Load, Recorder, ServerRig, any_key, executed, figure, wait_until};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use test_net::{Error, Net, Node, tell_skipped};
use tgt_rtrs::client::Link;
use tgt_rtrs::server::ServerConfig;

pub(crate) const CLIENT: &str = "client";
pub(crate) const SERVER: &str = "server";
pub(crate) const MEMORY: u64 = 64 << 20;
const DEPTH: u64 = 32;

/// Set in the process of one test.
const ALONE: &str = "RTRS_NET_ALONE";

/// Runs the test that calls this in a process of its own, this program started again, unless this is one. Tests count the files
/// that a process has open, and most of their time they wait: so they can run at the same time. `true`: go on here; `false`: it
/// was done.
fn in_own_process() -> bool {
    let thread = std::thread::current();
    // Where libtest runs one test at a time it has no thread for it.
    let name = thread.name().filter(|name| *name != "main");
    let (Some(name), None) = (name, std::env::var_os(ALONE)) else { return true };
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", name, "--nocapture"]).env(ALONE, name);
    // Panics and figures go where ours do.
    let outcome =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("this program can be run");
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success() && said.contains("1 passed"), "{name}: {}\n{said}", outcome.status);
    false
}

/// Which addresses the paths have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The hosts, and where what is executed is written down.
pub(crate) struct Hosts {
    pub(crate) net: Net,
    family: Family,
    folder: TempDir,
}

impl Hosts {
    /// `None`: the test cannot run here, or has run in a process of its own.
    pub(crate) fn or_skip(family: Family) -> Option<Self> {
        if !in_own_process() {
            return None;
        }
        let net = Net::with_cards_or_skip(&[CLIENT, SERVER], 2)?;
        if family == Family::V6 && net.node(SERVER).address6_on(0).is_none() {
            let (what, remedy) = ("no IPv6 in this kernel", "boot without ipv6.disable=1");
            tell_skipped(&Error::Missing { what, remedy });
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self { net, family, folder })
    }

    /// Where the server listens: at all of its addresses.
    pub(crate) fn anywhere(&self) -> SocketAddr {
        match self.family {
            Family::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
            Family::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.folder.path().join("executed")
    }

    /// The addresses of the paths to a server at this port.
    pub(crate) fn paths(&self, port: u16) -> [SocketAddr; 2] {
        let server = self.net.node(SERVER);
        [0, 1].map(|card| {
            let ip: IpAddr = match self.family {
                Family::V4 => server.address_on(card).into(),
                Family::V6 => server.address6_on(card).expect("checked").into(),
            };
            (ip, port).into()
        })
    }

    pub(crate) fn start_server(&self) -> ServerRig {
        self.start_server_with(MEMORY)
    }

    /// With so much data memory.
    pub(crate) fn start_server_with(&self, memory_max: u64) -> ServerRig {
        self.start_server_as(ServerConfig::default(), memory_max)
    }

    pub(crate) fn start_server_as(&self, config: ServerConfig, memory_max: u64) -> ServerRig {
        let record = Some(Recorder::new(&self.record()));
        let start = || ServerRig::configured(any_key(), self.anywhere(), config, memory_max, record);
        on(self.net.node(SERVER), start)
    }

    /// A server in its own process, and where it listens.
    pub(crate) fn spawn_server(&self, at: SocketAddr) -> (Process, SocketAddr) {
        let command = process::server(at, Some(&self.record()));
        let mut process = on(self.net.node(SERVER), || Process::start(command));
        let address = process.address();
        (process, address)
    }

    pub(crate) fn spawn_client(&self, port: u16) -> Process {
        let command = process::client(&self.paths(port), 1);
        on(self.net.node(CLIENT), || Process::start(command))
    }

    pub(crate) fn start_client(&self, port: u16) -> ClientRig {
        let client = on(self.net.node(CLIENT), || ClientRig::start(any_key(), &self.paths(port)));
        client.wait_for("both paths are up", |log| log.up.len() == 2);
        client
    }
}

fn on<T: Send>(node: &Node, body: impl FnOnce() -> T + Send) -> T {
    node.run(body).expect("the node")
}

/// Files that this process has open.
pub(crate) fn own_files() -> usize {
    process::open_files(std::process::id())
}

/// Both sides in this process.
pub(crate) struct Bed {
    pub(crate) client: ClientRig,
    server: ServerRig,
    /// Open files when both paths were up and nothing had been asked yet.
    files: usize,
    record: PathBuf,
}

impl Bed {
    /// Under load.
    pub(crate) fn start(hosts: &Hosts) -> Self {
        let server = hosts.start_server();
        let client = hosts.start_client(server.address.port());
        let files = own_files();
        assert_eq!(server.figures(), (1, 2, 0), "lanes, connections, bytes");
        start_load(&client);
        Self { client, server, files, record: hosts.record() }
    }

    /// Nothing is broken any more: all is as it was at the start. `what` happened.
    pub(crate) fn end(self, what: &str) {
        let Self { client, server, files, record } = self;
        go_on(&client);
        client.wait_for("both paths are up", |log| log.up.len() == 2);
        client.finish();
        wait_until("lanes, connections and memory are as at the start", || server.figures() == (1, 2, 0));
        wait_until("as many files are open as at the start", || own_files() == files);
        no_request_was_lost(&client, &record);
        tell(what, &client);
        drop(client);
        wait_until("nothing is left at the server", || server.figures() == (0, 0, 0));
    }
}

pub(crate) fn start_load(client: &ClientRig) {
    client.load(Load { requests: u64::MAX, depth: DEPTH, bytes_max: 9000 });
    go_on(client);
    client.measure();
}

/// Waits for so many more requests that each slot has served several.
pub(crate) fn go_on(client: &ClientRig) {
    let done = client.log.lock().expect("a log").done;
    client.wait_for("load goes on", |log| log.done >= done + 1000);
}

/// The session lived all the time, and each request was executed and answered once.
pub(crate) fn no_request_was_lost(client: &ClientRig, record: &Path) {
    let log = client.log.lock().expect("a log");
    assert_eq!(log.failed, 0, "{:?}", log.links);
    assert!(!log.links.iter().any(|link| matches!(link, Link::Dead { .. })), "{:?}", log.links);
    assert_eq!(executed::check(record, &log), 0);
}

/// Prints what a fault cost.
pub(crate) fn tell(what: &str, client: &ClientRig) {
    let log = client.log.lock().expect("a log");
    figure(&format!(
        "{what}: longest time without an answer {} ms, slowest request {} ms; {} requests, {} failed; {} faults of paths",
        log.longest.as_millis(),
        log.slowest.as_millis(),
        log.submitted,
        log.failed,
        log.faults.len(),
    ));
}

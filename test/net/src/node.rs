//! One node: running code and programs in its namespace.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::process::{Child, Command};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;
use crate::leftovers::FOLDER;
use crate::tools::run;

/// One namespace with its cards.
#[derive(Debug)]
pub struct Node {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) number: usize,
}

/// Each card has a subnet of its own, and each node its place in it.
pub(crate) fn address(card: usize, node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, card as u8, node as u8 + 1)
}

/// As [`address`].
pub(crate) fn address6(card: usize, node: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, card as u16, 0, 0, 0, node as u16 + 1)
}

/// A process on a node, killed when this is dropped.
#[derive(Debug)]
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill, and the wait collects it.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Node {
    /// Its name in this net.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on its first card; other nodes of the net reach it there, and nobody else does.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address_on(0)
    }

    /// Its address on the card with this number.
    #[must_use]
    pub fn address_on(&self, card: usize) -> Ipv4Addr {
        address(card, self.number)
    }

    /// The same for IPv6; none if this kernel has no IPv6.
    #[must_use]
    pub fn address6_on(&self, card: usize) -> Option<Ipv6Addr> {
        has_ipv6().then(|| address6(card, self.number))
    }

    /// Runs `body` on a thread in the node's namespace and waits for it; a panic goes on here. Sockets made there stay
    /// the node's, wherever they are used later; threads and processes started there are on the node.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let path = format!("{FOLDER}/{}", self.namespace);
        let file = File::open(&path).map_err(Error::system(&path))?;
        let inside = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(body())
        };
        let done = std::thread::scope(|scope| scope.spawn(inside).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map_err(Error::system::<rustix::io::Errno>(path))
    }

    /// Starts a process on the node.
    pub fn spawn(&self, command: &mut Command) -> Result<Process, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = self.run(|| command.spawn())?.map_err(|source| Error::Start { program, source })?;
        Ok(Process(child))
    }

    /// `ip` in the node's namespace, one command a line.
    pub(crate) fn ip(&self, lines: &str) -> Result<(), Error> {
        run("ip", &["-n", &self.namespace, "-batch", "-"], lines).map(drop)
    }

    /// Another tool in the node's namespace.
    pub(crate) fn tool(&self, tool: &str, args: &[&str], input: &str) -> Result<String, Error> {
        let inside = ["netns", "exec", &self.namespace, tool];
        run("ip", &[&inside, args].concat(), input)
    }
}

/// Whether this kernel speaks IPv6.
pub(crate) fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

//! `rmr_tgt demo`: the main job as one command.
//!
//! **What it is.** Three storage nodes and a compute node as four processes of this binary, each with a configuration made from
//! `config/demo/`, and a fifth, the *keeper*, which the user started: it starts the others, says what to try, starts a dead one
//! again when it is asked to, and takes all down. It does nothing that a user could not do by hand with the same files.
//!
//! **Words.** *keeper*: the process of `rmr_tgt demo`. *node*: one of the four. *asker*: `rmr_tgt demo --status` and the like,
//! another process, which talks to the keeper on `<RPC socket>.demo` and to the nodes on their own sockets.
//!
//! **Who may call it.** [`run`]: the main thread of a process that is nothing else. Nodes are started by that thread alone, as
//! they end with the thread that started them.
//!
//! **Invariants.** No node outlives the keeper, however it ends. What is in a folder of the user's is never begun anew after a
//! device was made of it. A folder belongs to one keeper at a time. Every wait has a bound; the long ones end when
//! Ctrl-C is pressed.
//!
//! **Map.** `args.rs` · `folder.rs` what lies on disk · `ports.rs` free ports · `process.rs` one node · `fleet.rs` the four ·
//! `keeper.rs` from start to Ctrl-C · `control.rs` what askers may ask · `ask.rs` the askers · `view.rs` what nodes say of the
//! device · `words.rs` what is printed · `error.rs`.
//!
//! **Tests.** Beside the code, and `test/e2e/tests/demo.rs`: the command as a whole.

mod args;
mod ask;
mod control;
mod error;
mod fleet;
mod folder;
mod keeper;
mod ports;
mod process;
mod view;
mod words;

pub use args::DemoArgs;

use crate::exit;
use crate::options::RPC_SOCKET;
use error::DemoError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Storage nodes, and members of the pool.
const NODES: usize = 3;
/// The device.
const DEVICE: &str = "Brmr0";

/// One of the four processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A storage node, by the number of its member.
    Node(u8),
    /// The compute node.
    Compute,
}

impl Name {
    const ALL: [Name; NODES + 1] = [Name::Node(0), Name::Node(1), Name::Node(2), Name::Compute];

    /// Its place in lists.
    fn index(self) -> usize {
        match self {
            Name::Node(member) => usize::from(member),
            Name::Compute => NODES,
        }
    }

    /// As `--restart` takes it.
    fn word(self) -> String {
        match self {
            Name::Node(member) => member.to_string(),
            Name::Compute => "compute".to_owned(),
        }
    }

    /// What its files are called.
    fn file(self) -> String {
        match self {
            Name::Node(member) => format!("node{member}"),
            Name::Compute => "compute".to_owned(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Node(member) => write!(f, "node {member}"),
            Name::Compute => f.write_str("compute"),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Name::ALL.into_iter().find(|name| name.word() == text);
        found.ok_or_else(|| "accepted: 0, 1, 2 or compute".to_owned())
    }
}

/// Does what the arguments say. Returns the exit code.
#[must_use]
pub fn run(args: &DemoArgs) -> u8 {
    let socket = args.rpc_socket.clone().unwrap_or_else(|| PathBuf::from(RPC_SOCKET));
    let done = match (args.status, args.load, args.restart) {
        (true, ..) => ask::status(&socket),
        (_, Some(requests), _) => ask::load(&socket, requests),
        (.., Some(name)) => ask::restart(&socket, name),
        _ => keeper::run(args, &socket),
    };
    match done {
        Ok(()) | Err(DemoError::Interrupted) => exit::OK,
        Err(error) => {
            eprintln!("error: {error}");
            exit::ERROR
        }
    }
}

/// Where the keeper listens whose compute node has its RPC socket at `socket`.
fn control_socket(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".demo");
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_found_by_what_restart_takes_and_lie_in_lists_in_order() {
        for (index, name) in Name::ALL.into_iter().enumerate() {
            assert_eq!((name.word().parse(), name.index()), (Ok(name), index), "{name}");
        }
        for text in ["3", "node 0", "", "Compute", "-1"] {
            let why = text.parse::<Name>().expect_err(text);
            assert!(why.contains("compute"), "{why}");
        }
    }
}

//! Why a demo did not start, or could not do what it was asked.

use super::{DEVICE, Name};
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why not. What was started is ended, and what was made in a temporary folder removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// Ctrl-C, or SIGTERM.
    #[error("stopped")]
    Interrupted,
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody's folder.
    #[error("{} is not empty and was not made by a demo: name another folder, or one that is not there yet", .0.display())]
    Foreign(PathBuf),
    /// Two at once.
    #[error("another demo runs in {}: end it with Ctrl-C, or name another folder", .0.display())]
    Taken(PathBuf),
    /// It cannot be understood.
    #[error("{}: {why}; name another folder, or remove this one to begin anew", path.display())]
    Plan {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another size.
    #[error("--size {asked}: the device in {} has {kept} MiB; leave --size out, or name another folder", folder.display())]
    Size {
        /// Asked for, MiB.
        asked: u64,
        /// What it has.
        kept: u64,
        /// Where.
        folder: PathBuf,
    },
    /// A disk is gone.
    #[error("{} is missing: put it back, or name another folder to begin anew", .0.display())]
    NoDisk(PathBuf),
    /// The RPC socket is somebody's.
    #[error(
        "a target answers on {path}: end it, or say where the demo's is to be: -r PATH",
        path = .0.display()
    )]
    SocketTaken(PathBuf),
    /// The keeper's own socket.
    #[error("{0}")]
    Control(#[from] rpc_server::ServerError),
    /// Nothing is free.
    #[error(
        "no three free TCP ports on 127.0.0.1 from {first} to {last}: end some programs that listen there"
    )]
    NoPorts {
        /// Looked at from here.
        first: u16,
        /// To here.
        last: u16,
    },
    /// Signals, cores, threads.
    #[error("cannot {what}: {source}")]
    System {
        /// Do what.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No core.
    #[error("{0}")]
    Cores(#[from] tgt_env::cores::CoresError),
    /// A node ended.
    #[error("{name} ended before all was ready ({status}); the end of its log {}:\n{tail}", log.display())]
    Died {
        /// Which.
        name: Name,
        /// How.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// It takes too long.
    #[error("{what} took more than {} s; look into the logs in {}", limit.as_secs(), folder.display())]
    Slow {
        /// What.
        what: String,
        /// The bound.
        limit: Duration,
        /// Where logs are.
        folder: PathBuf,
    },
    /// A node refused or did not answer.
    #[error("{name}: {source}")]
    Call {
        /// Which.
        name: Name,
        /// Why.
        source: rmr_rpc::Error,
    },
    /// It answered something else.
    #[error("{name}: the answer to {method} has no {member}: is it this version of the program?")]
    Answer {
        /// Which.
        name: Name,
        /// To what.
        method: &'static str,
        /// What is missing.
        member: &'static str,
    },
    /// No keeper.
    #[error(
        "no demo runs with the RPC socket {path} ({why}): start one with `rmr_tgt demo`, or say the -r that it was started with",
        path = .socket.display()
    )]
    NoDemo {
        /// Looked for there.
        socket: PathBuf,
        /// Why not.
        why: Box<rmr_rpc::Error>,
    },
    /// The keeper refuses.
    #[error("{0}")]
    Refused(rmr_rpc::Error),
    /// A node lives.
    #[error(
        "{name} runs, with process id {pid}: there is nothing to start again; end it first: kill -9 {pid}"
    )]
    Runs {
        /// Which.
        name: Name,
        /// Its process.
        pid: u32,
    },
    /// A node is dead.
    #[error("{name} is dead: start it again with `rmr_tgt demo --restart {}`", name.word())]
    Dead {
        /// Which.
        name: Name,
    },
    /// The device still lacks something.
    #[error(
        "{name} runs again, but {DEVICE} is not whole after {} s: {left}; watch it with `rmr_tgt demo --status`",
        limit.as_secs()
    )]
    NotWhole {
        /// Who came back.
        name: Name,
        /// The bound.
        limit: Duration,
        /// What is missing.
        left: String,
    },
}

impl DemoError {
    /// For `map_err`.
    pub(super) fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> DemoError + '_ {
        move |source| DemoError::File { path: path.to_owned(), source }
    }
}

//! A target's process.

use crate::{PATIENCE, places};
use rmr_rpc::{Client, Error};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Between two looks at a condition that cannot be waited for otherwise: a process's end, a socket's appearance.
const LOOK: Duration = Duration::from_millis(1);

/// A target that runs; it is killed when this is dropped.
pub struct Target {
    child: Child,
    dir: TempDir,
    started: Instant,
}

impl Target {
    /// Starts the target with a socket of its own and `args`. None, with a line that says so, without a binary.
    pub fn start(args: &[&str]) -> Option<Self> {
        let program = places::target()?;
        Some(Self::run(Command::new(program), args))
    }

    /// Starts the target by `command`, which may change user or limits first; socket and `args` are added.
    pub fn run(command: Command, args: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("rmr-e2e-").tempdir().expect("a directory");
        Self::run_in(command, dir, args)
    }

    /// As [`Target::run`], with the socket in `dir`.
    pub fn run_in(mut command: Command, dir: TempDir, args: &[&str]) -> Self {
        let log = File::create(dir.path().join("log")).expect("a log file");
        // Tests run at once, and share cores.
        command.args(["--disable-cpumask-locks", "-m", &format!("[{}]", first_core()), "-r"]);
        command.arg(dir.path().join("rpc.sock")).arg("-S").arg(dir.path()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = Instant::now();
        let child = command.spawn().unwrap_or_else(|why| panic!("{command:?}: {why}"));
        Self { child, dir, started }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("rpc.sock")
    }

    /// A directory that lives as long as it does.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("the log")
    }

    /// A connection, as soon as it answers.
    pub fn client(&mut self) -> Client {
        loop {
            match Client::connect(&self.socket(), PATIENCE) {
                Ok(client) => return client,
                Err(Error::Unreachable { .. }) => self.still_comes("answers"),
                Err(other) => panic!("{other}\n{}", self.log()),
            }
        }
    }

    /// Waits until it is up and its configuration is loaded.
    pub fn wait_ready(&mut self) -> &mut Self {
        if let Err(why) = self.client().call("framework_wait_init", None) {
            panic!("{why}\n{}", self.log());
        }
        self
    }

    /// Makes a call that must succeed.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let params = Some(params).filter(|params| *params != json!({}));
        self.client().call(method, params.as_ref()).unwrap_or_else(|why| panic!("{why}\n{}", self.log()))
    }

    /// Waits for its end.
    pub fn wait_end(&mut self) -> ExitStatus {
        loop {
            match self.child.try_wait().expect("our child") {
                Some(status) => return status,
                None => self.look_again("ends"),
            }
        }
    }

    /// Ends it in order: SIGTERM, then its exit status.
    pub fn stop(mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("our child");
        self.wait_end()
    }

    /// Panics if it has ended or is too slow; else pauses.
    fn still_comes(&mut self, what: &str) {
        if let Some(status) = self.child.try_wait().expect("our child") {
            panic!("the target ended ({status}) before it {what}:\n{}", self.log());
        }
        self.look_again(what);
    }

    fn look_again(&self, what: &str) {
        assert!(self.started.elapsed() < 4 * PATIENCE, "too slow until it {what}:\n{}", self.log());
        sleep(LOOK);
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill, and the wait collects it.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A core that this process may use.
fn first_core() -> usize {
    let cores = rustix::thread::sched_getaffinity(None).expect("our own cores");
    (0..rustix::thread::CpuSet::MAX_CPU).find(|core| cores.is_set(*core)).expect("one core at least")
}

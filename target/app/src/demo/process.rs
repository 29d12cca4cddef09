//! One of the four processes, as the keeper sees it.

use super::Name;
use super::error::DemoError;
use super::folder::Folder;
use rmr_rpc::{Client, Error};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Until its configuration is loaded. A device that is assembled again waits for its nodes in it.
const START_BOUND: Duration = Duration::from_secs(60);
/// A target needs 20 s at most to stop.
const STOP_BOUND: Duration = Duration::from_secs(25);
/// A call of a node that should answer at once.
pub(super) const CALL_BOUND: Duration = Duration::from_secs(10);
/// One look whether it is ready; between two, whether Ctrl-C was pressed.
const LOOK: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(10);
/// Lines of a log in an error.
const TAIL: usize = 5;

/// What a process is started with.
pub(super) struct Start<'f> {
    pub(super) name: Name,
    pub(super) folder: &'f Folder,
    pub(super) config: &'f Path,
    pub(super) socket: PathBuf,
    pub(super) core: u32,
    /// More processes than cores: none may hold its core while it has nothing to do.
    pub(super) shares_core: bool,
}

/// One process. It is killed when this is dropped.
pub(super) struct Process {
    name: Name,
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it. By the main thread: it ends with the thread that starts it.
    pub(super) fn start(start: &Start<'_>) -> Result<Process, DemoError> {
        let Start { name, folder, config, socket, core, shares_core } = start;
        let log = folder.file(*name, "log");
        let log_file = File::options().create(true).append(true).open(&log).map_err(DemoError::file(&log))?;
        let program = std::env::current_exe()
            .map_err(|source| DemoError::System { what: "find this program", source })?;
        // To its peers it is the same host at each start.
        let host = uuid::Uuid::new_v5(&folder.pool(), name.word().as_bytes());
        let mut command = Command::new(&program);
        command.args(["--ends-with", &std::process::id().to_string()]);
        command.args([
            "-m",
            &format!("[{core}]"),
            "--disable-cpumask-locks",
            "--no-huge",
            "--limit-coredump",
        ]);
        command.args(["--host-id", &host.to_string()]).arg("-c").arg(config).arg("-r").arg(socket);
        if *shares_core {
            command.arg("--interrupt-mode");
        }
        if *name == Name::Compute {
            command.arg("--allow-load");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
        // Ctrl-C is for the keeper, which stops the others in order.
        command.process_group(0);
        let child = command.spawn().map_err(DemoError::file(&program))?;
        Ok(Process { name: *name, child, socket: socket.clone(), log, ended: None })
    }

    pub(super) fn name(&self) -> Name {
        self.name
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            // It is our child until it is waited for: this cannot fail.
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits until its configuration is loaded.
    pub(super) fn wait_ready(&mut self, stop: &AtomicBool) -> Result<(), DemoError> {
        let until = Instant::now() + START_BOUND;
        loop {
            match Client::connect(&self.socket, LOOK).and_then(|mut to| to.call("framework_wait_init", None))
            {
                Ok(_) => return Ok(()),
                Err(source @ Error::Usage(_)) => return Err(DemoError::Call { name: self.name, source }),
                // Not there yet, not done yet, or it is ending: the next look tells.
                Err(_) => {}
            }
            if let Some(status) = self.ended() {
                return Err(self.died(status));
            }
            if stop.load(Relaxed) {
                return Err(DemoError::Interrupted);
            }
            if Instant::now() >= until {
                let folder = self.log.parent().unwrap_or(Path::new(".")).to_owned();
                return Err(DemoError::Slow {
                    what: format!("the start of {}", self.name),
                    limit: START_BOUND,
                    folder,
                });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// An error that tells how it ended.
    pub(super) fn died(&self, status: ExitStatus) -> DemoError {
        // A log that cannot be read has nothing to add.
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        DemoError::Died { name: self.name, status, log: self.log.clone(), tail }
    }

    /// Asks it to stop.
    pub(super) fn ask_to_stop(&mut self) {
        if self.ended().is_none() {
            // It may just have ended.
            let _gone = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
    }

    /// Waits until it has stopped; kills it when it does not. False: it had to be killed.
    pub(super) fn wait_end(&mut self) -> bool {
        let until = Instant::now() + STOP_BOUND;
        while self.ended().is_none() {
            if Instant::now() >= until {
                self.kill();
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }

    fn kill(&mut self) {
        // It may have ended already: then there is nothing to kill, and the wait collects it.
        let _gone = self.child.kill();
        self.ended = self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
    }
}

//! QEMU's process: started, waited for, and ended whatever happens.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tools::on_path;
use crate::{Error, Guest, initramfs};

/// Between two looks at QEMU, or at a file of the share: neither can be waited for with a bound.
const LOOK: Duration = Duration::from_millis(5);
/// Lines of the console in a report.
const CONSOLE_LINES: usize = 30;

/// A guest that runs. Dropping it cuts its power.
#[derive(Debug)]
pub struct Running {
    qemu: Child,
    dir: TempDir,
    started: Instant,
    limit: Duration,
    /// Keeps other guests out.
    _alone: File,
}

/// How the command ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status, as the shell says it: 128 and the signal's number for one that was killed.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// The kernel's messages and what the guest said before the command ran.
    pub console: String,
    dir: TempDir,
}

impl Outcome {
    /// Panics with all that is known unless the command succeeded.
    #[track_caller]
    pub fn expect_success(self) -> Outcome {
        let Outcome { status, stdout, stderr, console, .. } = &self;
        assert!(*status == 0, "status {status}\n{}", report(stdout, stderr, console));
        self
    }

    /// The share as the guest left it.
    #[must_use]
    pub fn share(&self) -> PathBuf {
        share(&self.dir)
    }
}

impl Running {
    pub(crate) fn start(guest: &Guest, command: &str) -> Result<Running, Error> {
        let alone = guest.bed().lock()?;
        let dir = tempfile::Builder::new()
            .prefix("rmr-guest-")
            .tempdir()
            .map_err(Error::file(&std::env::temp_dir()))?;
        let share = share(&dir);
        fs::create_dir(&share).map_err(Error::file(&share))?;
        for (name, text) in [("settings", guest.settings().as_str()), ("command", command)] {
            let path = share.join(name);
            fs::write(&path, text).map_err(Error::file(&path))?;
        }
        initramfs::write(guest.bed(), &dir.path().join("root"), &dir.path().join("initramfs"))?;
        let args = guest.args(dir.path(), &share, &console(&dir))?;
        let (program, firmware, environment) = guest.bed().qemu();
        let errors = dir.path().join("qemu-stderr");
        let errors = File::create(&errors).map_err(Error::file(&errors))?;
        let mut command = mortal(&program);
        command.args(firmware).args(args).envs(environment);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let shown = program.display().to_string();
        let qemu = command.spawn().map_err(|source| Error::Start { program: shown, source })?;
        Ok(Running { qemu, dir, started: Instant::now(), limit: guest.time_limit(), _alone: alone })
    }

    /// The share, on the host.
    #[must_use]
    pub fn share(&self) -> PathBuf {
        share(&self.dir)
    }

    /// QEMU's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.qemu.id()
    }

    /// Waits until the guest has made the file `name` in the share. An error if it ends before, or takes too long.
    pub fn wait_for(&mut self, name: &str) -> Result<(), Error> {
        let path = self.share().join(name);
        loop {
            if path.exists() {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                return Err(Error::Died { status: status.to_string(), report: self.report() });
            }
        }
    }

    /// Waits for the end of the command and the guest.
    pub fn wait(mut self) -> Result<Outcome, Error> {
        let status = loop {
            if let Some(status) = self.ended()? {
                break status;
            }
        };
        let Ok(code) = fs::read_to_string(self.share().join("status")) else {
            return Err(Error::Died { status: status.to_string(), report: self.report() });
        };
        let status = code.trim().parse().map_err(|_| Error::Died { status: code, report: self.report() })?;
        let [stdout, stderr, console] = self.texts();
        let dir =
            std::mem::replace(&mut self.dir, TempDir::new().map_err(Error::file(&std::env::temp_dir()))?);
        Ok(Outcome { status, stdout, stderr, console, dir })
    }

    /// Cuts the power, as a pulled plug does: what the guest had not written to a disk of its own is lost.
    pub fn cut_power(mut self) {
        self.end();
    }

    /// QEMU's exit status if it has ended; else pauses, and ends it when its time is over.
    fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        if let Some(status) = self.qemu.try_wait().map_err(Error::file(Path::new("qemu")))? {
            return Ok(Some(status));
        }
        if self.started.elapsed() > self.limit {
            self.end();
            return Err(Error::TimedOut { limit: self.limit, report: self.report() });
        }
        std::thread::sleep(LOOK);
        Ok(None)
    }

    fn end(&mut self) {
        // It may have ended already: then there is nothing to kill, and the wait collects it.
        let _ended = self.qemu.kill();
        let _status = self.qemu.wait();
    }

    fn texts(&self) -> [String; 3] {
        let share = self.share();
        [share.join("stdout"), share.join("stderr"), console(&self.dir)].map(|path| text(&path))
    }

    fn report(&self) -> String {
        let [stdout, stderr, console] = self.texts();
        let qemu = text(&self.dir.path().join("qemu-stderr"));
        format!("{}\n{qemu}", report(&stdout, &stderr, &console))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// `program`, to be killed by the kernel when the thread that starts it ends in whatever way (util-linux' setpriv,
/// which Debian always has), at low priority.
fn mortal(program: &Path) -> Command {
    let mut command = Command::new("nice");
    if on_path("setpriv").is_some() {
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
    }
    command.arg(program);
    command
}

fn share(dir: &TempDir) -> PathBuf {
    dir.path().join("share")
}

fn console(dir: &TempDir) -> PathBuf {
    dir.path().join("console")
}

/// What a file holds, as far as it is there: a guest that died early has not made it.
fn text(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn report(stdout: &str, stderr: &str, console: &str) -> String {
    format!("--- stdout\n{stdout}\n--- stderr\n{stderr}\n--- end of the console\n{}", end_of(console))
}

/// The last lines; of a panic the line that says why as well, however long its trace is.
fn end_of(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    let (before, last) = lines.split_at(lines.len().saturating_sub(CONSOLE_LINES));
    let panic = before.iter().find(|line| line.contains("Kernel panic"));
    panic.into_iter().chain(last).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{CONSOLE_LINES, end_of};

    #[test]
    fn the_end_of_the_console_says_why_it_panicked() {
        let trace = "? some_function+0x1/0x2\n".repeat(CONSOLE_LINES);
        let console = format!("booting\nKernel panic - not syncing: why\n{trace}");
        assert_eq!(end_of(&console), format!("Kernel panic - not syncing: why\n{}", trace.trim_end()));
        assert_eq!(end_of("a\nb\n"), "a\nb");
    }
}

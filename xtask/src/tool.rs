//! Running other programs: shown as typed, with no standard input, never through a shell.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::Error;

/// One run of one program.
pub(crate) struct Tool {
    command: Command,
    shown: String,
}

impl Tool {
    /// A run of `program`, found on `PATH` unless it is a path.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Tool {
        let mut command = Command::new(&program);
        command.stdin(Stdio::null());
        Tool { command, shown: quoted(program.as_ref()) }
    }

    /// The cargo that runs this program, so that every step uses one toolchain.
    pub(crate) fn cargo() -> Tool {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut tool = Tool::new(program);
        tool.shown = "cargo".to_owned();
        tool
    }

    /// The same run, killed after `limit` (coreutils' `timeout`, which Debian and Ubuntu always have).
    pub(crate) fn bounded(program: impl AsRef<OsStr>, limit: Duration) -> Tool {
        Tool::new("timeout")
            .args(["--foreground", "--kill-after=10"])
            .arg(format!("{}s", limit.as_secs()))
            .arg(program)
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Tool {
        self.shown = format!("{} {}", self.shown, quoted(arg.as_ref()));
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Tool {
        args.into_iter().fold(self, Tool::arg)
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Tool {
        self.shown = format!("{key}={} {}", quoted(value.as_ref()), self.shown);
        self.command.env(key, value);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Tool {
        self.command.current_dir(dir);
        self
    }

    /// Sends what the program prints on standard error to `file`.
    pub(crate) fn stderr_to(mut self, file: std::fs::File) -> Tool {
        self.command.stderr(file);
        self
    }

    /// Shows the command line, runs it with its output in view, and wants success.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        println!("$ {}", self.shown);
        let status = self.command.status();
        self.expect_success(status)
    }

    /// As [`Tool::run`], but does not show the command line.
    pub(crate) fn run_unshown(mut self) -> Result<(), Error> {
        let status = self.command.status();
        self.expect_success(status)
    }

    fn expect_success(self, status: std::io::Result<std::process::ExitStatus>) -> Result<(), Error> {
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::Status { command: self.shown, status, said: String::new() }),
            Err(source) => Err(Error::Start { command: self.shown, source }),
        }
    }

    /// Runs unseen and returns standard output; wants success.
    pub(crate) fn capture(self) -> Result<String, Error> {
        let shown = self.shown.clone();
        let (status, out, said) = self.outcome()?;
        if status.success() { Ok(out) } else { Err(Error::Status { command: shown, status, said }) }
    }

    /// Shows the command line, runs it with standard error in view and returns standard output; wants success.
    pub(crate) fn run_captured(mut self) -> Result<String, Error> {
        println!("$ {}", self.shown);
        let output = self.command.stderr(Stdio::inherit()).output();
        let source = |source| Error::Start { command: self.shown.clone(), source };
        let output = output.map_err(source)?;
        let said = String::new();
        match output.status {
            status if status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            status => Err(Error::Status { command: self.shown, status, said }),
        }
    }

    /// Runs unseen and returns how it ended, standard output and standard error.
    pub(crate) fn outcome(mut self) -> Result<(std::process::ExitStatus, String, String), Error> {
        let output = self.command.output().map_err(|source| Error::Start { command: self.shown, source })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status, text(&output.stdout), text(&output.stderr)))
    }

    /// Whether the program starts and succeeds; its output is not shown.
    pub(crate) fn answers(mut self) -> bool {
        let quiet = self.command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains([' ', '"', '\'', '$', '*']) {
        format!("'{word}'")
    } else {
        word.into_owned()
    }
}

/// Where `program` stands on `PATH`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Whether this process has root's rights (effective user id 0), read from `/proc/self/status`.
pub(crate) fn is_root() -> Result<bool, Error> {
    let path = Path::new("/proc/self/status");
    let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
    // "Uid:  real  effective  saved  filesystem"
    let effective = text
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1))
        .ok_or_else(|| Error::form(path.display(), "has no line `Uid:` with four numbers"))?;
    Ok(effective == "0")
}

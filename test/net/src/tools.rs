//! Running `ip`, `nft` and `tc`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Error;

/// Folders beyond `PATH` where system tools are, also for a shell that is no login shell.
const SYSTEM: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/bin"];

/// Whether a tool is on this machine.
pub(crate) fn is_there(tool: &str) -> bool {
    SYSTEM.iter().any(|dir| Path::new(dir).join(tool).is_file())
}

/// Runs a tool with `input` on its standard input; returns its standard output, wants success.
pub(crate) fn run(tool: &str, args: &[&str], input: &str) -> Result<String, Error> {
    let start = |source| Error::Start { program: tool.to_owned(), source };
    let mut command = Command::new(tool);
    command.args(args).env("PATH", format!("{}:/bin", SYSTEM.join(":"))).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that does not read to the end has failed, and says why below.
        let _said_below = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Tool {
        command: format!("{tool} {}", args.join(" ")),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        input: input.to_owned(),
    })
}

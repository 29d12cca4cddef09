//! Running other programs, each with a bound on its time.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// Where `program` stands on `PATH`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Runs `program` in `dir`, killed after `seconds` (coreutils' `timeout`); returns its standard output, wants success.
pub(crate) fn run<A: AsRef<OsStr>>(
    seconds: u32,
    dir: &Path,
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Result<String, Error> {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(seconds.to_string()).arg(program).args(args);
    command.current_dir(dir).stdin(Stdio::null()).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    output(&mut command)
}

/// Runs `command` as it is; returns its standard output, wants success.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|source| Error::Start { program, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::Tool { command: shown(command), said: format!("{}: {}", output.status, stderr.trim()) })
}

/// A command line of bounded length: a list of a thousand modules says nothing.
fn shown(command: &Command) -> String {
    const MOST: usize = 12;
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    if words.len() > MOST {
        words.truncate(MOST);
        words.push("…".to_owned());
    }
    words.join(" ")
}

/// `text` as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_comes_through_a_shell_unchanged() {
        for text in ["", "plain", "two words", "it's", "'", "$HOME `id` \"x\" \\ * ; \n end"] {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("printf %s {}", quoted(text)));
            assert_eq!(output(&mut shell).expect("a shell"), text);
        }
    }

    #[test]
    fn a_program_that_fails_is_told_with_its_words_and_one_that_hangs_is_ended() {
        let error = run(10, Path::new("/"), "sh", ["-c", "echo no luck >&2; exit 3"]).expect_err("it fails");
        let text = error.to_string();
        assert!(text.contains("no luck") && text.contains("exit status: 3"), "{text}");
        let error = run(1, Path::new("/"), "sleep", ["600"]).expect_err("it is ended");
        assert!(error.to_string().contains("exit status: 124"), "{error}");
    }
}

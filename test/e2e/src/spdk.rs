//! SPDK's own client, unchanged: its Python class through `py/bridge.py`, and its commands.

use crate::places::{root, venv};
use rmr_rpc::Refusal;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

/// SPDK's client class, connected to one target. Its own timeout bounds every call.
pub struct SpdkClient {
    child: Child,
    calls: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl SpdkClient {
    /// Connects; None, with a line that says so, without a Python environment.
    pub fn connect(socket: &Path) -> Option<Self> {
        let mut child = Command::new(venv()?.join("bin/python"))
            .arg(fixture("bridge.py"))
            .arg(socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let calls = child.stdin.take().expect("a pipe");
        let replies = BufReader::new(child.stdout.take().expect("a pipe"));
        Some(Self { child, calls, replies })
    }

    /// Calls `method`: the result, or the error object.
    pub fn call(&mut self, method: &str, params: Option<&Value>) -> Result<Value, Refusal> {
        self.call_text(method, &json!(params).to_string())
    }

    /// As [`SpdkClient::call`], with the parameters' text, which may hold numbers that no `Value` can.
    pub fn call_text(&mut self, method: &str, params: &str) -> Result<Value, Refusal> {
        let call = format!(r#"{{"method":"{method}","params":{params}}}"#);
        writeln!(self.calls, "{call}").expect("the bridge reads");
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("the bridge answers");
        let reply: Value =
            serde_json::from_str(&line).unwrap_or_else(|why| panic!("{call}: {line:?}: {why}"));
        match reply.get("error") {
            Some(error) => Err(serde_json::from_value(error.clone()).expect("an error object")),
            None => Ok(reply["result"].clone()),
        }
    }
}

impl Drop for SpdkClient {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A Python fixture of this crate.
pub fn fixture(name: &str) -> PathBuf {
    root().join("test/e2e/py").join(name)
}

/// `spdk-rpc -s SOCKET ARGS…`, with our plugin on Python's path.
pub fn spdk_rpc<A: AsRef<OsStr>>(socket: &Path, args: &[A]) -> Option<Output> {
    command("spdk-rpc", socket, args)
}

/// `spdk-cli -s SOCKET ARGS…`.
pub fn spdk_cli<A: AsRef<OsStr>>(socket: &Path, args: &[A]) -> Option<Output> {
    command("spdk-cli", socket, args)
}

fn command<A: AsRef<OsStr>>(name: &str, socket: &Path, args: &[A]) -> Option<Output> {
    let mut command = Command::new(venv()?.join("bin").join(name));
    command.arg("-s").arg(socket).args(args).stdin(Stdio::null());
    Some(
        command
            .env("PYTHONPATH", root().join("rpc/plugin"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .expect(name),
    )
}

/// What a command printed; it must have succeeded.
pub fn printed(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    out
}

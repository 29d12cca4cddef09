//! The binary as a process with a folder of its own, and a client of its socket. Every wait has a bound.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing in these tests takes longer unless it is broken.
pub const BOUND: Duration = Duration::from_secs(30);

pub const BINARY: &str = env!("CARGO_BIN_EXE_rmr_tgt");

/// A file of the folder `config` of the checkout.
pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(name)
}

/// A core this process may use.
pub fn core() -> u32 {
    tgt_env::cores::usable_cores().expect("cores").iter().last().expect("a core")
}

/// A running binary. Killed when dropped.
pub struct Process {
    pub dir: TempDir,
    pub socket: PathBuf,
    child: Child,
    log: Receiver<String>,
    seen: String,
}

impl Process {
    /// Starts it with `args` and a socket of its own, and waits until that answers.
    pub fn start(args: &[&str]) -> Process {
        let mut process = Process::launch(args);
        process.wait_for_socket();
        process
    }

    /// Starts it, and does not wait.
    pub fn launch(args: &[&str]) -> Process {
        let dir = TempDir::new().expect("a folder");
        let socket = dir.path().join("rpc.sock");
        let mut command = Command::new(BINARY);
        command.arg("-r").arg(&socket).args(args);
        Process::spawn(dir, socket, command)
    }

    pub fn spawn(dir: TempDir, socket: PathBuf, mut command: Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Nobody reads on when the test has failed.
                let _ = sender.send(line);
            }
        });
        Process { dir, socket, child, log, seen: String::new() }
    }

    pub fn wait_for_socket(&mut self) {
        let end = Instant::now() + BOUND;
        while UnixStream::connect(&self.socket).is_err() {
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!("it ended with {status}: {}", self.rest_of_log());
            }
            assert!(Instant::now() < end, "the socket does not answer");
            std::thread::yield_now();
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket)
    }

    /// Waits for a line of its log that holds `words`.
    pub fn wait_for_log(&mut self, words: &str) -> String {
        let end = Instant::now() + BOUND;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left);
            let line = line.unwrap_or_else(|why| panic!("no {words:?} in the log ({why}): {}", self.seen));
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Its whole log, once it has ended.
    pub fn rest_of_log(&mut self) -> String {
        while let Ok(line) = self.log.recv_timeout(BOUND) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        self.seen.clone()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("it is there");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + BOUND;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::yield_now();
        }
    }

    /// Stops it in order.
    pub fn stop(self) -> String {
        self.signal(Signal::TERM);
        self.stop_after_signal()
    }

    /// Waits for the end that a signal has begun, which must be in order.
    pub fn stop_after_signal(mut self) -> String {
        let status = self.wait();
        let log = self.rest_of_log();
        assert!(status.success(), "{status}: {log}");
        assert!(!self.socket.exists(), "the socket is left behind");
        log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A call as it is sent.
pub fn request(method: &str, params: Option<&Value>) -> String {
    let mut request = json!({"jsonrpc": "2.0", "id": 1, "method": method});
    if let Some(params) = params {
        request["params"] = params.clone();
    }
    request.to_string()
}

pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("connect");
        stream.set_read_timeout(Some(BOUND)).expect("timeout");
        Client { reader: BufReader::new(stream) }
    }

    pub fn send(&self, method: &str, params: Option<&Value>) {
        self.send_text(&request(method, params));
    }

    pub fn send_text(&self, text: &str) {
        self.reader.get_ref().write_all(text.as_bytes()).expect("send");
    }

    /// The next answer as a whole.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"))
    }

    /// The whole answer to a call.
    pub fn ask(&mut self, method: &str, params: Option<&Value>) -> Value {
        self.send(method, params);
        self.answer()
    }

    /// The result of a call that must succeed.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.result(method, Some(&params))
    }

    /// The result of a call without parameters that must succeed.
    pub fn get(&mut self, method: &str) -> Value {
        self.result(method, None)
    }

    fn result(&mut self, method: &str, params: Option<&Value>) -> Value {
        let mut answer = self.ask(method, params);
        assert!(answer.get("error").is_none(), "{method} {params:?}: {answer}");
        answer["result"].take()
    }

    /// The error of a call that must fail.
    pub fn refused(&mut self, method: &str, params: Option<&Value>) -> (i64, String) {
        let answer = self.ask(method, params);
        let error = &answer["error"];
        let code = error["code"].as_i64().unwrap_or_else(|| panic!("{method} {params:?}: {answer}"));
        (code, error["message"].as_str().expect("a message").to_owned())
    }

    /// What SPDK's client writes for `save_config`.
    pub fn save(&mut self) -> Value {
        let subsystems = self.get("framework_get_subsystems");
        let names = subsystems.as_array().expect("a list").iter().map(|one| one["subsystem"].clone());
        let names: Vec<Value> = names.collect();
        let config = |name: &Value| json!({"subsystem": name, "config": self.call("framework_get_config", json!({"name": name}))});
        json!({"subsystems": names.iter().map(config).collect::<Vec<_>>()})
    }

    /// Reads to the end, which the server makes.
    pub fn rest(mut self) -> String {
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).expect("the rest");
        rest
    }
}

/// The calls of one subsystem in a saved configuration.
pub fn calls_of<'a>(saved: &'a Value, name: &str) -> &'a [Value] {
    let subsystems = saved["subsystems"].as_array().expect("a list");
    let found =
        subsystems.iter().find(|one| one["subsystem"] == name).unwrap_or_else(|| panic!("{name}: {saved}"));
    found["config"].as_array().expect("calls")
}

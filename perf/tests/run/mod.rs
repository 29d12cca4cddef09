//! Runs the binary, and talks to it while it runs.

#![allow(dead_code, reason = "each test file uses some of it")]

use serde_json::{Deserializer, Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest time that anything here may take.
const BOUND: Duration = Duration::from_secs(60);

/// A null and a malloc bdev of 32 MiB, with a comment and a subsystem that is not ours, as bdevperf would be given.
pub(crate) const CONFIG: &str = r#"// Two bdevs
{ "subsystems": [
  { "subsystem": "scheduler", "config": null },
  { "subsystem": "bdev", "config": [
    { "method": "bdev_null_create", "params": { "name": "Null0", "num_blocks": 65536, "block_size": 512 } },
    { "method": "bdev_malloc_create", "params": { "name": "Malloc0", "num_blocks": 8192, "block_size": 4096 } }
  ] },
  { "subsystem": "not_of_this_target", "config": [ { "method": "not_of_this_target_create" } ] }
] }"#;

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Standard output, which must be one JSON object on one line.
    pub(crate) fn json(&self, code: i32) -> Value {
        let text = self.stdout(code);
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(text).expect("JSON")
    }

    /// Standard output of a process that ended with this code.
    pub(crate) fn stdout(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        &self.stdout
    }
}

/// Cores that this process may use, at least one.
pub(crate) fn usable_cores() -> Vec<u32> {
    tgt_env::cores::usable_cores().expect("an affinity").iter().collect()
}

pub(crate) fn first_core() -> String {
    format!("[{}]", usable_cores()[0])
}

/// Runs with the usual configuration on the first usable core.
pub(crate) fn perf(options: &str) -> Ended {
    perf_on(&first_core(), options)
}

/// Runs with the usual configuration on these cores.
pub(crate) fn perf_on(cores: &str, options: &str) -> Ended {
    perf_with(CONFIG, cores, options)
}

/// Runs to the end.
pub(crate) fn perf_with(config: &str, cores: &str, options: &str) -> Ended {
    Running::start_on(config, cores, options).wait()
}

/// A process that runs. It is killed if the test ends first.
pub(crate) struct Running {
    child: Child,
    output: Receiver<Output>,
    socket: PathBuf,
    _directory: TempDir,
}

impl Running {
    /// Starts it on the first usable core, with an RPC socket.
    pub(crate) fn start(config: &str, options: &str) -> Running {
        let directory = TempDir::new().expect("a directory");
        let socket = directory.path().join("rpc.sock");
        let options = format!("{options} -r {}", socket.display());
        Running::spawn(directory, socket, config, &first_core(), &options)
    }

    fn start_on(config: &str, cores: &str, options: &str) -> Running {
        let directory = TempDir::new().expect("a directory");
        Running::spawn(directory, PathBuf::new(), config, cores, options)
    }

    fn spawn(directory: TempDir, socket: PathBuf, config: &str, cores: &str, options: &str) -> Running {
        let path = directory.path().join("cfg.json");
        std::fs::write(&path, config).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_rmr-perf"));
        command.arg("bdev").arg("-c").arg(&path).args(["-m", cores, "--disable-cpumask-locks"]);
        command.args(options.split_whitespace()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
        let output = collect(&mut child);
        Running { child, output, socket, _directory: directory }
    }

    /// As Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    }

    /// Waits until it ends.
    pub(crate) fn wait(mut self) -> Ended {
        let output = self.output.recv_timeout(BOUND).expect("it should have ended by now");
        let code = self.child.wait().expect("a status").code();
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ended { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// As `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// Waits until this bdev has completed a read or write.
    pub(crate) fn wait_for_io(&mut self, bdev: &str) {
        self.wait_for_ios(bdev, 1);
    }

    /// Waits until this bdev has completed so many reads and writes.
    pub(crate) fn wait_for_ios(&mut self, bdev: &str, ios: u64) {
        let deadline = Instant::now() + BOUND;
        let done = |answer: Value| {
            let of = |kind: &str| answer["result"]["bdevs"][0][kind].as_u64();
            Some(of("num_read_ops")? + of("num_write_ops")?)
        };
        let name = format!(r#"{{"name":"{bdev}"}}"#);
        while self.try_call("bdev_get_iostat", &name).and_then(done).is_none_or(|done| done < ios) {
            if self.child.try_wait().expect("our child").is_some() {
                panic!("it ended before {ios} IOs on {bdev}: {:?}", self.output.recv_timeout(BOUND));
            }
            assert!(Instant::now() < deadline, "not {ios} IOs on {bdev} within {BOUND:?}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Calls a method; its result.
    pub(crate) fn call(&self, method: &str, params: &str) -> Value {
        let answer = self.try_call(method, params).expect("an answer");
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    /// None if nobody listens yet.
    fn try_call(&self, method: &str, params: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(BOUND)).expect("a timeout");
        let params: Value = serde_json::from_str(params).expect("JSON");
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        stream.write_all(request.to_string().as_bytes()).ok()?;
        Deserializer::from_reader(&stream).into_iter().next()?.ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if it has ended, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads both streams to their ends, so that the process never waits for us.
fn collect(child: &mut Child) -> Receiver<Output> {
    let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let (done, output) = channel();
    std::thread::spawn(move || {
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut stdout = Vec::new();
        out.read_to_end(&mut stdout).expect("a pipe that can be read");
        let stderr = stderr.join().expect("no panic").expect("a pipe that can be read");
        // Nobody listens if the test failed first.
        let _ = done.send(Output { status: std::process::ExitStatus::default(), stdout, stderr });
    });
    output
}

//! Checked load on the replicated device of a pool of [`Nodes`](crate::pool::Nodes), in a process of its own.
//!
//! `rmr-perf bdev -w verify --state FILE`: what each block may hold is noted in a file that outlives the process, and
//! each start reads everything back before it goes on.

use crate::{PATIENCE, places};
use rmr_rpc::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Runs of the load generator, one at a time; the last is killed when this is dropped.
pub struct Loads {
    program: PathBuf,
    folder: PathBuf,
    running: Option<Child>,
    number: u32,
    /// Of the runs that were killed.
    writes: u64,
}

impl Loads {
    /// None, with a line that says so, without a binary. `device`: parameters of `bdev_brmr_create`.
    pub fn new(folder: &Path, device: &Value) -> Option<Self> {
        let program = places::rmr_perf()?;
        let create = json!({"method": "bdev_brmr_create", "params": device});
        let config = json!({"subsystems": [{"subsystem": "bdev", "config": [create]}]});
        fs::write(folder.join("load.json"), config.to_string()).expect("a file");
        Some(Self { program, folder: folder.to_owned(), running: None, number: 0, writes: 0 })
    }

    /// Starts one: `reads` per cent of it, for so many seconds after everything was read back.
    pub fn start(&mut self, reads: u32, seconds: u64) {
        self.number += 1;
        let mut command = Command::new(&self.program);
        command.args(["bdev", "--disable-cpumask-locks", "-w", "verify", "-q", "16", "-o", "4096", "--json"]);
        command.args(["-M", &reads.to_string(), "-t", &seconds.to_string()]);
        command.arg("-c").arg(self.folder.join("load.json"));
        command.arg("--state").arg(self.folder.join("state"));
        command.arg("-r").arg(self.socket()).stdin(Stdio::null());
        let file = |what| File::create(self.output(what)).expect("a file");
        command.stdout(file("json")).stderr(file("log"));
        self.running = Some(command.spawn().expect("the load generator"));
    }

    /// Does one run, as far as is known?
    pub fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.writes += self.writes_now();
        if let Some(mut child) = self.running.take() {
            child.kill().expect("our child");
            child.wait().expect("our child");
        }
    }

    /// SIGINT: it ends early, and reads everything back first.
    pub fn interrupt(&self) {
        let child = self.running.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), Signal::INT).expect("our child");
    }

    /// IOs of the one that has ended since the last look. Panics with what it said if that was not well.
    pub fn ended(&mut self) -> Option<u64> {
        let status = self.running.as_mut()?.try_wait().expect("our child")?;
        self.running = None;
        Some(self.ios(status))
    }

    /// As [`Loads::ended`] for one that may fail: what it said then.
    ///
    /// # Errors
    /// What it logged, if it did not end well.
    pub fn try_ended(&mut self) -> Result<bool, String> {
        let Some(child) = &mut self.running else { return Ok(false) };
        let Some(status) = child.try_wait().expect("our child") else { return Ok(false) };
        self.running = None;
        if status.success() {
            Ok(true)
        } else {
            Err(fs::read_to_string(self.output("log")).expect("its log"))
        }
    }

    fn ios(&self, status: ExitStatus) -> u64 {
        let read = |what| fs::read_to_string(self.output(what)).expect("its output");
        let (said, log) = (read("json"), read("log"));
        assert!(status.success(), "load {} ended with {status}\n{said}\n{log}", self.number);
        let said: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(said["total"]["errors"], json!(0), "{said:#}");
        said["total"]["ios"].as_u64().expect("a number")
    }

    /// Its own view of the device, as soon as it has one.
    pub fn device(&self) -> Option<Value> {
        let mut client = Client::connect(&self.socket(), PATIENCE).ok()?;
        let list = client.call("bdev_brmr_get_devices", None).ok()?;
        list.get(0).cloned()
    }

    /// Writes that the run has had acknowledged; 0 if it does not answer.
    pub fn writes_now(&self) -> u64 {
        let asked = || {
            let mut client = Client::connect(&self.socket(), PATIENCE).ok()?;
            client.call("bdev_get_iostat", None).ok()?["bdevs"][0]["num_write_ops"].as_u64()
        };
        self.running.as_ref().and_then(|_| asked()).unwrap_or(0)
    }

    /// Writes that runs had had acknowledged when they were killed.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    fn socket(&self) -> PathBuf {
        self.output("sock")
    }

    fn output(&self, what: &str) -> PathBuf {
        self.folder.join(format!("load{}.{what}", self.number))
    }
}

impl Drop for Loads {
    fn drop(&mut self) {
        self.kill();
    }
}

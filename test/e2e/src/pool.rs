//! Storage nodes with sparse files for disks, which are killed, paused and started again, and compute nodes that make a
//! device of them.

use crate::PATIENCE;
use crate::calls::loopback_of;
use crate::target::Target;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The pool.
pub const POOL: &str = "4e0c3f0a-9f0e-4c73-8f5b-9a5a7c1f0b11";
/// The device.
pub const DEVICE: &str = "Brmr0";
/// Bytes of a disk, most of them never written.
const DISK_BYTES: u64 = 128 << 20;
const LOOK: Duration = Duration::from_millis(5);

/// The storage nodes of a pool, each on a loopback address of its own. Node N has member N.
pub struct Nodes {
    folder: TempDir,
    ways: Vec<Ipv4Addr>,
    nodes: Vec<Option<Target>>,
    disks: Disks,
}

/// What stores stand on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disks {
    /// Files.
    Files,
    /// Files with an error bdev (`EE_File`) and a delay bdev on them.
    Faulty,
}

impl Nodes {
    /// So many, with new stores for a device of `mapped` bytes. None without a binary.
    pub fn start(count: usize, mapped: u64) -> Option<Nodes> {
        Self::start_on(count, mapped, Disks::Files)
    }

    /// As [`Nodes::start`], with stores on these.
    pub fn start_on(count: usize, mapped: u64, disks: Disks) -> Option<Nodes> {
        let folder = TempDir::new().expect("a folder");
        let [_, b, c, d] = loopback_of(folder.path()).octets();
        let way = |member: usize| Ipv4Addr::new(127, b, c, ((usize::from(d) + member) % 254 + 1) as u8);
        let ways = (0..count).map(way).collect();
        let mut nodes = Nodes { folder, ways, nodes: (0..count).map(|_| None).collect(), disks };
        for member in 0..count {
            let disk = nodes.disk(member);
            File::create(disk).and_then(|file| file.set_len(DISK_BYTES)).expect("room for a sparse file");
            let node = nodes.launch(member)?;
            let params = json!({"pool": POOL, "bdev": "Disk", "member_id": member, "mapped_size": mapped});
            node.call("brmr_create_store", params);
        }
        Some(nodes)
    }

    fn launch(&mut self, member: usize) -> Option<&mut Target> {
        // A host keeps its name.
        let host = format!("00000000-0000-4000-8000-00000000003{member}");
        let mut node = Target::start(&["--host-id", &host])?;
        node.wait_ready();
        let file = |name: &str| json!({"filename": self.disk(member), "name": name, "block_size": 4096});
        match self.disks {
            Disks::Files => drop(node.call("bdev_uring_create", file("Disk"))),
            Disks::Faulty => {
                node.call("bdev_uring_create", file("File"));
                node.call("bdev_error_create", json!({"base_name": "File"}));
                let at_once = json!({
                    "name": "Disk", "base_bdev_name": "EE_File", "avg_read_latency": 0, "p99_read_latency": 0,
                    "avg_write_latency": 0, "p99_write_latency": 0,
                });
                node.call("bdev_delay_create", at_once);
            }
        }
        let listener = json!({"trtype": "TCP", "traddr": self.ways[member].to_string(), "trsvcid": "4431"});
        node.call("rtrs_add_listener", listener);
        Some(self.nodes[member].insert(node))
    }

    /// Starts a node again that was killed.
    pub fn start_again(&mut self, member: usize) {
        let node = self.launch(member).expect("there was a binary before");
        node.call("brmr_add_store", json!({"pool": POOL, "bdev": "Disk"}));
    }

    /// How many, dead ones included.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// kill -9, if it runs.
    pub fn kill(&mut self, member: usize) {
        self.nodes[member] = None;
    }

    /// kill -9 of all that run.
    pub fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(|node| *node = None);
    }

    /// SIGSTOP, if it runs.
    pub fn pause(&mut self, member: usize) {
        self.signal(member, Signal::STOP);
    }

    /// Those that are paused go on, and those that are dead start again.
    pub fn mend(&mut self) {
        for member in 0..self.nodes.len() {
            self.signal(member, Signal::CONT);
            if self.nodes[member].is_none() {
                self.start_again(member);
            }
        }
    }

    fn signal(&self, member: usize, signal: Signal) {
        if let Some(node) = &self.nodes[member] {
            let pid = Pid::from_raw(node.pid() as i32).expect("a process has a number");
            kill_process(pid, signal).expect("our child");
        }
    }

    /// From now on so many IOs of this kind go wrong on a node's disk: `failure`, `pending`. Not after a restart.
    pub fn inject(&mut self, member: usize, io: &str, wrong: &str, count: u32) {
        let params = json!({"name": "EE_File", "io_type": io, "error_type": wrong, "num": count});
        self.node(member).call("bdev_error_inject_error", params);
    }

    /// From now on writes take so long on a node's disk. Not after a restart.
    pub fn slow(&mut self, member: usize, micros: u64) {
        for kind in ["p99_write", "avg_write"] {
            let params = json!({"delay_bdev_name": "Disk", "latency_type": kind, "latency_us": micros});
            self.node(member).call("bdev_delay_update_latency", params);
        }
    }

    /// What the nodes that run have logged.
    pub fn logs(&self) -> String {
        let log = |(member, node): (usize, &Option<Target>)| {
            let text = node.as_ref().map_or_else(|| "not running\n".to_owned(), Target::log);
            format!("--- node {member}\n{text}")
        };
        self.nodes.iter().enumerate().map(log).collect()
    }

    /// A node that runs.
    pub fn node(&mut self, member: usize) -> &mut Target {
        self.nodes[member].as_mut().expect("it runs")
    }

    /// The file that is its disk.
    pub fn disk(&self, member: usize) -> PathBuf {
        self.folder.path().join(format!("disk{member}"))
    }

    /// A folder that lives as long as the nodes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// As methods take a member.
    pub fn member(&self, member: usize) -> Value {
        json!({"member_id": member, "paths": [format!("ip:{}:4431", self.ways[member])]})
    }

    /// What makes the device of the first `count` members.
    pub fn device_of(&self, count: usize) -> Value {
        let members: Vec<Value> = (0..count).map(|member| self.member(member)).collect();
        json!({"name": DEVICE, "pool": POOL, "members": members})
    }

    /// What the store of a node that runs says of itself.
    pub fn store(&mut self, member: usize) -> Value {
        self.node(member).call("rmr_get_server_pools", json!({}))[0].clone()
    }

    /// Waits until the stores that run satisfy the condition.
    pub fn wait_stores(&mut self, what: &str, condition: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        for member in 0..self.nodes.len() {
            while self.nodes[member].is_some() {
                let store = self.store(member);
                if condition(&store) {
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}: {store:#}");
                sleep(LOOK);
            }
        }
    }

    /// Waits until nothing is left to be copied.
    pub fn wait_clean(&mut self) {
        self.wait_stores("nothing is left to be copied", |store| store["dirty_chunks"] == json!(0));
    }

    /// Waits until no store may have writes that are not known to be durable everywhere.
    pub fn wait_settled(&mut self) {
        self.wait_stores("all is durable", |store| {
            store["dirty_chunks"] == json!(0) && store["entries"] == json!(0)
        });
    }

    /// Ends all that run, in order.
    pub fn stop(mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            assert!(node.stop().success());
        }
    }
}

/// A compute node without a device. None without a binary.
pub fn compute() -> Option<Target> {
    let mut compute = Target::start(&["--allow-load"])?;
    compute.wait_ready();
    Some(compute)
}

/// How a compute node's device stands.
pub fn device(compute: &mut Target) -> Value {
    compute.call("bdev_brmr_get_devices", json!({"name": DEVICE}))[0].clone()
}

/// Waits until the device satisfies the condition.
pub fn wait_device(compute: &mut Target, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let device = device(compute);
        if condition(&device) {
            return device;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}: {device:#}\n{}", compute.log());
        sleep(LOOK);
    }
}

/// Waits until these are up to date.
pub fn wait_up_to_date(compute: &mut Target, members: &[usize]) -> Value {
    let what = format!("members {members:?} are up to date");
    wait_device(compute, &what, |device| {
        device["up_to_date"] == json!(members) && device["state"] == "active"
    })
}

/// Checked load on the device; `state` is a file that remembers it.
pub fn load(compute: &mut Target, requests: u64, state: &Path) -> Value {
    compute.call(
        "rmr_run_load",
        json!({"name": DEVICE, "overwrite": true, "requests": requests, "state": state}),
    )
}

/// kill -9 of somebody whose handle is still needed.
pub fn kill_9(target: &Target) {
    let killed = Command::new("kill").args(["-9", &target.pid().to_string()]).status();
    assert!(killed.expect("there is a kill").success());
}

/// A call that is to be refused: its code and what it says.
pub fn refused(target: &mut Target, method: &str, params: Value) -> (i64, String) {
    match target.client().call(method, Some(&params)) {
        Err(rmr_rpc::Error::Refused { refusal, .. }) => (refusal.code, refusal.message.clone()),
        other => panic!("{method} {params}: {other:?}"),
    }
}

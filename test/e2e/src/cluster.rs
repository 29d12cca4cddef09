//! The storage nodes of a pool: processes that each have a file for a disk, and are killed, paused and started again.

use crate::calls::loopback_of;
use crate::target::Target;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const POOL: &str = "4e0c3f0a-9f0e-4c73-8f5b-9a5a7c1f0b11";
const PORT: &str = "4431";

/// A pool with one store on each of its nodes.
pub struct Cluster {
    folder: TempDir,
    nodes: Vec<Node>,
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

struct Node {
    process: Option<Target>,
    address: Ipv4Addr,
    disk: PathBuf,
    paused: bool,
}

impl Cluster {
    /// Makes the disks and the stores, of `bytes` usable bytes each. None, with a line that says so, without a binary.
    pub fn start(nodes: usize, bytes: u64, disks: Disks) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("rmr-pool-").tempdir().expect("a directory");
        let [_, b, c, d] = loopback_of(folder.path()).octets();
        let node = |no: usize| {
            let disk = folder.path().join(format!("disk{no}"));
            // Room for what a store keeps beside the data.
            let file = File::create(&disk).and_then(|file| file.set_len(bytes + (64 << 20)));
            file.expect("room for a sparse file");
            // Its neighbours among loopback addresses.
            let address = Ipv4Addr::new(127, b, c, d ^ no as u8);
            Node { process: None, address, disk, paused: false }
        };
        let nodes = (0..nodes).map(node).collect();
        let mut cluster = Self { folder, nodes, disks };
        for no in 0..cluster.nodes.len() {
            let node = cluster.boot(no)?;
            let params = json!({"pool": POOL, "bdev": "Disk", "member_id": no, "mapped_size": bytes});
            node.call("brmr_create_store", params);
        }
        Some(cluster)
    }

    /// How many nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A folder for whatever belongs to the pool.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What `bdev_brmr_create` takes.
    pub fn device(&self, name: &str) -> Value {
        let member = |(no, node): (usize, &Node)| json!({"member_id": no, "paths": [format!("ip:{}:{PORT}", node.address)]});
        let members: Vec<Value> = self.nodes.iter().enumerate().map(member).collect();
        json!({"name": name, "pool": POOL, "members": members})
    }

    /// Does the node's process run (it may be paused)?
    pub fn runs(&self, no: usize) -> bool {
        self.nodes[no].process.is_some()
    }

    /// Ends a node's process by SIGKILL.
    pub fn kill(&mut self, no: usize) {
        self.nodes[no].process = None;
        self.nodes[no].paused = false;
    }

    /// Starts a killed node again, on its disk.
    pub fn restart(&mut self, no: usize) {
        let node = self.boot(no).expect("there was a binary before");
        node.call("brmr_add_store", json!({"pool": POOL, "bdev": "Disk"}));
    }

    /// SIGSTOP. Does nothing to one that does not run.
    pub fn pause(&mut self, no: usize) {
        self.nodes[no].paused = self.signal(no, Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&mut self, no: usize) {
        self.signal(no, Signal::CONT);
        self.nodes[no].paused = false;
    }

    /// The file of a node's disk.
    pub fn disk(&self, no: usize) -> &Path {
        &self.nodes[no].disk
    }

    /// Whatever is not killed goes on, and whatever is starts.
    pub fn mend(&mut self) {
        for no in 0..self.nodes.len() {
            if self.nodes[no].paused {
                self.resume(no);
            }
            if self.nodes[no].process.is_none() {
                self.restart(no);
            }
        }
    }

    /// From now on so many IOs of this kind go wrong on a node's disk: `failure`, `pending`, ... Not after a restart.
    pub fn inject(&mut self, no: usize, io: &str, wrong: &str, count: u32) {
        let params = json!({"name": "EE_File", "io_type": io, "error_type": wrong, "num": count});
        self.call(no, "bdev_error_inject_error", params);
    }

    /// From now on writes take so long on a node's disk. Not after a restart.
    pub fn slow(&mut self, no: usize, micros: u64) {
        for kind in ["p99_write", "avg_write"] {
            let params = json!({"delay_bdev_name": "Disk", "latency_type": kind, "latency_us": micros});
            self.call(no, "bdev_delay_update_latency", params);
        }
    }

    /// A call to a node that must succeed.
    pub fn call(&mut self, no: usize, method: &str, params: Value) -> Value {
        self.nodes[no].process.as_mut().expect("it runs").call(method, params)
    }

    /// What the nodes that run have logged.
    pub fn logs(&self) -> String {
        let log = |(no, node): (usize, &Node)| {
            let text = node.process.as_ref().map_or_else(|| "not running\n".to_owned(), Target::log);
            format!("--- node {no}\n{text}")
        };
        self.nodes.iter().enumerate().map(log).collect()
    }

    fn signal(&self, no: usize, signal: Signal) -> bool {
        let Some(process) = &self.nodes[no].process else { return false };
        let pid = Pid::from_raw(process.pid() as i32).expect("a process has a number");
        kill_process(pid, signal).expect("our child");
        true
    }

    fn boot(&mut self, no: usize) -> Option<&mut Target> {
        // As if it were started where it was before.
        let host = format!("00000000-0000-4000-8000-0000000000{no:02}");
        let mut target = Target::start(&["--host-id", &host])?;
        target.wait_ready();
        let node = &mut self.nodes[no];
        let file = |name: &str| json!({"filename": node.disk, "name": name, "block_size": 4096});
        match self.disks {
            Disks::Files => {
                target.call("bdev_uring_create", file("Disk"));
            }
            Disks::Faulty => {
                target.call("bdev_uring_create", file("File"));
                target.call("bdev_error_create", json!({"base_name": "File"}));
                let zero = json!({
                    "name": "Disk", "base_bdev_name": "EE_File", "avg_read_latency": 0, "p99_read_latency": 0,
                    "avg_write_latency": 0, "p99_write_latency": 0,
                });
                target.call("bdev_delay_create", zero);
            }
        }
        let listen = json!({"trtype": "TCP", "traddr": node.address.to_string(), "trsvcid": PORT});
        target.call("rtrs_add_listener", listen);
        Some(node.process.insert(target))
    }
}

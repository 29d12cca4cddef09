//! The four processes: started together, started again one by one, stopped together.

use super::error::DemoError;
use super::folder::Folder;
use super::process::{Process, Start};
use super::view::{self, Look};
use super::{DEVICE, NODES, Name, ports};
use rmr_rpc::Client;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tgt_env::cores::usable_cores;

/// Somebody else may take a port between the look and the use; that it happens so often is no accident.
const PORT_TRIES: u32 = 3;
/// Demos that start at once begin to look for ports this far from each other.
const PORT_STEP: u32 = 7;
/// A leg that is to be replaced has to be seen by the engine first.
const COMMAND_BOUND: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(20);

/// The processes that run, and what is needed to start one again.
pub(super) struct Fleet {
    /// In the order of [`Name::ALL`]. First, so that they end before the folder is removed in which they make files.
    processes: Vec<Process>,
    folder: Folder,
    socket: PathBuf,
    ports: [u16; NODES],
    cores: Vec<u32>,
}

impl Fleet {
    /// Starts all four, and returns when the device is there.
    pub(super) fn start(folder: Folder, socket: &Path, stop: &AtomicBool) -> Result<Fleet, DemoError> {
        let cores = usable_cores()?.iter().collect();
        let (socket, ports) = (socket.to_owned(), [0; NODES]);
        let mut fleet = Fleet { folder, socket, ports, cores, processes: Vec::new() };
        fleet.start_nodes(stop)?;
        let compute = fleet.spawn(Name::Compute)?;
        fleet.processes.push(compute);
        fleet.processes[NODES].wait_ready(stop)?;
        fleet.folder.set_made()?;
        // What they would be started with from now on.
        for name in Name::ALL {
            fleet.folder.configure(name, &fleet.ports)?;
        }
        Ok(fleet)
    }

    fn start_nodes(&mut self, stop: &AtomicBool) -> Result<(), DemoError> {
        for attempt in 1.. {
            self.folder.prepare_disks()?;
            self.ports = ports::choose(std::process::id().wrapping_mul(PORT_STEP) + attempt * PORT_STEP)?;
            let ready = self.try_nodes(stop);
            if ready.is_err() {
                self.processes.clear();
                let lost_a_port = self.ports.iter().any(|port| !ports::is_free(*port));
                if attempt < PORT_TRIES && lost_a_port {
                    continue;
                }
            }
            return ready;
        }
        unreachable!("the last attempt returns")
    }

    fn try_nodes(&mut self, stop: &AtomicBool) -> Result<(), DemoError> {
        for member in 0..NODES as u8 {
            let process = self.spawn(Name::Node(member))?;
            self.processes.push(process);
        }
        self.processes.iter_mut().try_for_each(|process| process.wait_ready(stop))
    }

    fn spawn(&self, name: Name) -> Result<Process, DemoError> {
        let config = self.folder.configure(name, &self.ports)?;
        let socket = match name {
            Name::Compute => self.socket.clone(),
            Name::Node(_) => self.folder.file(name, "sock"),
        };
        Process::start(&Start {
            name,
            folder: &self.folder,
            config: &config,
            socket,
            core: self.cores[name.index() % self.cores.len()],
            shares_core: self.cores.len() <= NODES,
        })
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(super) fn processes(&mut self) -> &mut [Process] {
        &mut self.processes
    }

    /// Starts a dead one again. Returns its process id.
    pub(super) fn restart(&mut self, name: Name, stop: &AtomicBool) -> Result<u32, DemoError> {
        let process = &mut self.processes[name.index()];
        if process.ended().is_none() {
            return Err(DemoError::Runs { name, pid: process.pid() });
        }
        let process = self.spawn(name)?;
        let pid = process.pid();
        self.processes[name.index()] = process;
        self.processes[name.index()].wait_ready(stop)?;
        if let (Name::Node(member), false) = (name, self.folder.has_disks()) {
            self.replace(member)?;
        }
        Ok(pid)
    }

    /// A disk in memory is another one after each start: the pool has to be told.
    fn replace(&mut self, member: u8) -> Result<(), DemoError> {
        let compute = &mut self.processes[NODES];
        if compute.ended().is_some() {
            return Err(DemoError::Dead { name: Name::Compute });
        }
        let params = json!({"name": DEVICE, "member_id": member});
        Client::connect(compute.socket(), COMMAND_BOUND)
            .and_then(|mut to| to.call("rmr_replace_leg", Some(&params)))
            .map_err(|source| DemoError::Call { name: Name::Compute, source })
            .map(drop)
    }

    /// Waits until all members are up to date and have all. One that dies meanwhile is an error.
    pub(super) fn wait_whole(&mut self, bound: Duration, stop: &AtomicBool) -> Result<Look, DemoError> {
        let until = Instant::now() + bound;
        loop {
            let sockets =
                self.processes.iter_mut().map(|p| p.ended().is_none().then(|| p.socket().to_owned()));
            let look = view::look(&sockets.collect::<Vec<_>>())?;
            if look.is_whole() {
                return Ok(look);
            }
            if stop.load(Relaxed) {
                return Err(DemoError::Interrupted);
            }
            if Instant::now() >= until {
                let folder = self.folder.path().to_owned();
                return Err(DemoError::Slow { what: "the first copy".to_owned(), limit: bound, folder });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Stops the compute node first, then the storage nodes. Returns what is left on disk, and who had to be killed.
    pub(super) fn stop(mut self) -> (Vec<Name>, Folder) {
        let mut killed = Vec::new();
        for part in [NODES..self.processes.len(), 0..NODES.min(self.processes.len())] {
            self.processes[part.clone()].iter_mut().for_each(Process::ask_to_stop);
            for process in &mut self.processes[part] {
                if !process.wait_end() {
                    killed.push(process.name());
                }
            }
        }
        (killed, self.folder)
    }
}

//! A server that answers everything at once, and looks whether what came is what was sent, and whether it comes once.

use super::{PATIENCE, Recorder, bytes_of, pattern, reactors, wait_until};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use tgt_reactor::{Cx, Handle, Poller, Reactors, Stop, Work};
use tgt_rtrs::client::Answer as Counts;
use tgt_rtrs::server::{GateConfig, ServerConfig};
use tgt_rtrs::tcp::{Answer, ServerEvent, ServerPort, ServerPortConfig};
use tgt_rtrs::{Direction, Id, Key};
use tgt_sock::ListenOn;

/// A server that answers everything at once, and looks whether what came is what was sent.
pub(crate) struct ServerRig {
    reactors: Option<Reactors>,
    handle: Handle,
    pub(crate) address: SocketAddr,
    pub(crate) executed: Arc<AtomicU64>,
    /// While it is set, the next request that is handed out keeps the reactor: as if the process were stopped there.
    pub(crate) stuck: Arc<AtomicBool>,
    /// Lanes, connections, bytes of data memory.
    pub(crate) figures: Arc<Mutex<(usize, usize, u64)>>,
}

struct ServerPoller {
    port: ServerPort,
    /// Tags are those of one client, or of several that draw theirs: no two requests have the same.
    tags: HashSet<u64>,
    recorder: Option<Recorder>,
    executed: Arc<AtomicU64>,
    stuck: Arc<AtomicBool>,
    figures: Arc<Mutex<(usize, usize, u64)>>,
}

impl Poller for ServerPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.port.begin(cx);
        while let Some(event) = self.port.next() {
            let ServerEvent::Request(mut incoming) = event else { continue };
            let tag = u64::from_le_bytes(incoming.header[..].try_into().expect("a tag"));
            assert!(self.tags.insert(tag), "{tag} is executed twice");
            if let Some(recorder) = &mut self.recorder {
                recorder.executed(tag);
            }
            self.executed.fetch_add(1, SeqCst);
            wait_until("it is not stuck any more", || !self.stuck.load(SeqCst));
            let execute = incoming.execute;
            let bytes = match execute.direction {
                Direction::Write => {
                    let came = bytes_of(&incoming.bufs, execute.bytes);
                    assert!(came == pattern(tag, false, execute.bytes), "the data of {tag}");
                    0
                }
                Direction::Read => {
                    incoming.bufs.copy_from_slice(0, &pattern(tag, true, execute.bytes));
                    execute.bytes
                }
            };
            let counts = Counts { result: Ok(tag as u16), bytes, user_len: 8 };
            self.port.answer(cx, Answer { incoming, counts, header: &tag.to_le_bytes() });
        }
        *self.figures.lock().expect("figures") = self.port.figures();
        self.port.end(cx)
    }

    fn name(&self) -> &str {
        "server"
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        if self.port.close(cx) { Stop::Done } else { Stop::Draining }
    }
}

impl ServerRig {
    pub(crate) fn start(key: Key, at: SocketAddr, memory_max: u64) -> Self {
        Self::recording(key, at, memory_max, None)
    }

    /// One that writes down what it executes, before it answers.
    pub(crate) fn recording(key: Key, at: SocketAddr, memory_max: u64, recorder: Option<Recorder>) -> Self {
        Self::configured(key, at, ServerConfig::default(), memory_max, recorder)
    }

    pub(crate) fn configured(
        key: Key,
        at: SocketAddr,
        mut server: ServerConfig,
        memory_max: u64,
        recorder: Option<Recorder>,
    ) -> Self {
        let reactors = reactors();
        let handle = reactors.handles()[0].clone();
        let (executed, figures) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new((0, 0, 0))));
        let stuck = Arc::new(AtomicBool::new(false));
        let (counted, shown, sticks) = (executed.clone(), figures.clone(), stuck.clone());
        let (tell, told) = channel();
        handle
            .spawn(move |reactor: &mut tgt_reactor::Reactor| {
                let gate = GateConfig::new(Id([9; 16]), Arc::new(key));
                server.limits.data_max = server.limits.data_max.min(memory_max as u32);
                let config = ServerPortConfig { gate, server, listen: ListenOn::new(at), memory_max };
                let port = ServerPort::new(reactor.cx(), config).expect("it listens");
                tell.send(port.address()).expect("it waits");
                ServerPoller {
                    port,
                    tags: HashSet::new(),
                    recorder,
                    executed: counted,
                    stuck: sticks,
                    figures: shown,
                }
            })
            .expect("an answer");
        let address = told.recv_timeout(PATIENCE).expect("an address");
        Self { reactors: Some(reactors), handle, address, executed, stuck, figures }
    }

    pub(crate) fn figures(&self) -> (usize, usize, u64) {
        *self.figures.lock().expect("figures")
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.handle.stats().snapshot().asleep
    }
}

impl Drop for ServerRig {
    fn drop(&mut self) {
        if let Some(reactors) = self.reactors.take()
            && !std::thread::panicking()
        {
            assert_eq!(reactors.stop(), []);
        }
    }
}

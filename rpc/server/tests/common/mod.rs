//! A server on a socket of its own, and a client that says what it sends and waits with a bound.

#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use rpc_registry::{Asker, Method, Phase, Registry, RpcError, codes};
use rpc_server::{Server, ServerConfig};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// Nothing in these tests takes longer unless it is broken.
pub const BOUND: Duration = Duration::from_secs(20);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Echo {
    value: Value,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Big {
    bytes: usize,
}

/// Lets a handler wait until the test opens the gate.
#[derive(Default)]
pub struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    /// Counts whoever comes.
    pub fn come(&self) {
        self.state.lock().expect("lock").0 += 1;
        self.changed.notify_all();
    }

    pub fn pass(&self) {
        self.come();
        let state = self.state.lock().expect("lock");
        let (_state, timeout) =
            self.changed.wait_timeout_while(state, BOUND, |state| !state.1).expect("lock");
        assert!(!timeout.timed_out(), "the gate was never opened");
    }

    /// How many have come.
    pub fn came(&self) -> usize {
        self.state.lock().expect("lock").0
    }

    pub fn wait_inside(&self, count: usize) {
        let state = self.state.lock().expect("lock");
        let (_state, timeout) =
            self.changed.wait_timeout_while(state, BOUND, |state| state.0 < count).expect("lock");
        assert!(!timeout.timed_out(), "nobody came to the gate");
    }

    pub fn open(&self) {
        self.state.lock().expect("lock").1 = true;
        self.changed.notify_all();
    }
}

pub struct Rig {
    pub dir: TempDir,
    pub path: PathBuf,
    pub gate: Arc<Gate>,
    /// Counts the handlers whose askers have gone.
    pub left: Arc<Gate>,
    pub server: Server,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = TempDir::new().expect("a folder");
        let path = dir.path().join("rpc.sock");
        let (gate, left) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let mut config = ServerConfig::new(&path);
        change(&mut config);
        let server = Server::start(config, registry(Arc::clone(&gate), Arc::clone(&left))).expect("a server");
        Self { dir, path, gate, left, server }
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.path)
    }
}

/// Until the asker goes.
fn wait_for(asker: &Asker) {
    let (leave, gone) = channel();
    let _woken = asker.when_gone(move || {
        // One that leaves just before the wait is not waited for.
        let _ = leave.send(());
    });
    if !asker.has_gone() {
        gone.recv_timeout(BOUND).expect("the asker goes");
    }
}

pub fn registry(gate: Arc<Gate>, left: Arc<Gate>) -> Arc<Registry> {
    let mut registry = Registry::new();
    let any = |name| Method::new(name, "For tests").phase(Phase::Any);
    registry.add(any("echo").decode_error(codes::INTERNAL), |echo: Echo| Ok(echo.value));
    registry.add(any("big"), |big: Big| Ok("x".repeat(big.bytes)));
    registry.add_no_params(any("ping"), || Ok(true));
    registry.add_no_params(any("fail"), || Err::<(), _>(RpcError::errno(19, "no such thing: é")));
    registry.add_no_params(any("panic"), || -> Result<(), RpcError> { panic!("on purpose") });
    let come = Arc::clone(&gate);
    registry.add_no_params_for(any("wait_for_asker"), move |asker| {
        come.come();
        wait_for(asker);
        left.come();
        Ok(true)
    });
    registry.add_no_params_for(any("wait"), move |asker| {
        gate.pass();
        Ok(!asker.has_gone())
    });
    registry.add_no_params(Method::new("late", "For tests"), || Ok(true));
    Arc::new(registry)
}

pub struct Client {
    pub reader: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(path: &std::path::Path) -> Self {
        let stream = UnixStream::connect(path).expect("connect");
        stream.set_read_timeout(Some(BOUND)).expect("timeout");
        stream.set_write_timeout(Some(BOUND)).expect("timeout");
        Self { reader: BufReader::new(stream) }
    }

    pub fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.stream().write_all(bytes.as_ref()).expect("send");
    }

    /// The next line, empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        line
    }

    pub fn reply(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"))
    }

    pub fn call(&mut self, request: &str) -> Value {
        self.send(request);
        self.reply()
    }

    /// Sends what the server still takes: it may have closed the connection because of what came before.
    pub fn try_send(&self, bytes: impl AsRef<[u8]>) {
        match self.stream().write_all(bytes.as_ref()) {
            Err(why) if !matches!(why.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                panic!("{why}")
            }
            _ => {}
        }
    }

    /// Says that nothing more comes, and reads everything up to the end.
    pub fn finish(self) -> String {
        match self.stream().shutdown(Shutdown::Write) {
            Err(why) if why.kind() != ErrorKind::NotConnected => panic!("{why}"),
            _ => self.rest(),
        }
    }

    /// Reads to the end, which the server must make. When the server left something unread, the end is a reset.
    pub fn rest(mut self) -> String {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Err(why) if why.kind() != ErrorKind::ConnectionReset => panic!("{why}"),
            _ => String::from_utf8(rest).expect("ASCII"),
        }
    }
}

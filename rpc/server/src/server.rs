//! Start and stop of the server, and the thread that accepts connections.

use crate::answer::unasked;
use crate::connections::{CONNECTIONS_MAX, Connections, LEFT_BEHIND_MAX, Refused, Seat};
use crate::endpoint::Endpoint;
use crate::error::ServerError;
use crate::serve::serve;
use crate::watch::Watch;
use rpc_registry::{Registry, RpcError, Scope};
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// A connection's thread runs decoders and handlers; both are bounded in depth.
const STACK_BYTES: usize = 512 << 10;
/// A stop gives answers on their way this long to leave, and as long again to threads that were cut off.
const STOP_BOUND: Duration = Duration::from_secs(1);
/// After the system refused a connection for lack of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const EAGAIN: i32 = 11;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The socket; at most 107 bytes. `<path>.lock` lies beside it.
    pub path: PathBuf,
    /// The socket's mode. Who may write to it controls the target.
    pub mode: u32,
    /// The only methods that exist for clients (`--rpcs-allowed`); `None`: all.
    pub allowed: Option<Vec<String>>,
    /// A client that takes nothing of its answer for so long is dropped.
    pub write_timeout: Duration,
}

impl ServerConfig {
    /// All methods, on a socket for this user alone.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), mode: 0o600, allowed: None, write_timeout: Duration::from_secs(30) }
    }
}

/// A running server. Dropping it stops it.
pub struct Server {
    endpoint: Endpoint,
    path: PathBuf,
    connections: Arc<Connections>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Claims the socket and serves it from threads of its own, which inherit the caller's CPU affinity.
    pub fn start(config: ServerConfig, registry: Arc<Registry>) -> Result<Self, ServerError> {
        let scope = scope(&config, &registry);
        let endpoint = Endpoint::claim(&config.path, config.mode)?;
        let connections = Arc::new(Connections::default());
        let acceptor = endpoint.listener.try_clone().and_then(|listener| {
            listener.set_nonblocking(true)?;
            let acceptor = Acceptor {
                watch: Watch::new(&listener)?,
                listener,
                connections: Arc::clone(&connections),
                registry,
                scope: Arc::new(scope),
                write_timeout: config.write_timeout,
            };
            Builder::new().name("rpc-accept".to_owned()).stack_size(STACK_BYTES).spawn(move || acceptor.run())
        });
        match acceptor {
            Ok(acceptor) => Ok(Self { endpoint, path: config.path, connections, acceptor: Some(acceptor) }),
            Err(source) => {
                endpoint.remove();
                Err(ServerError::Thread { path: config.path, source })
            }
        }
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops within about two seconds and removes the socket. Answers on their way still leave; a thread inside a
    /// handler is left to end by itself. Returns how many those are.
    pub fn stop(mut self) -> usize {
        self.shut_down()
    }

    fn shut_down(&mut self) -> usize {
        let Some(acceptor) = self.acceptor.take() else { return 0 };
        self.connections.stop_reading();
        // Wakes the thread that waits for connections.
        if let Err(why) = rustix::net::shutdown(&self.endpoint.listener, rustix::net::Shutdown::Both) {
            tracing::warn!("shutdown of the RPC socket: {why}");
        }
        if acceptor.join().is_err() {
            tracing::error!("the thread that accepts RPC connections panicked");
        }
        self.connections.wait_nobody(STOP_BOUND);
        self.connections.cut();
        let left = self.connections.wait_handlers_only(STOP_BOUND);
        self.endpoint.remove();
        left
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn scope(config: &ServerConfig, registry: &Registry) -> Scope {
    let Some(allowed) = &config.allowed else { return Scope::all() };
    let scope = Scope::only(allowed);
    for name in scope.names().filter(|name| registry.method(name).is_none()) {
        tracing::warn!("--rpcs-allowed names \"{name}\", which is no method of this target");
    }
    scope
}

/// What the accepting thread owns.
struct Acceptor {
    listener: UnixListener,
    watch: Watch,
    connections: Arc<Connections>,
    registry: Arc<Registry>,
    scope: Arc<Scope>,
    write_timeout: Duration,
}

impl Acceptor {
    fn run(self) {
        loop {
            let connects = self.watch.wait(|id| self.connections.hung_up(id));
            if self.connections.stopping() {
                return;
            }
            // One at a time: whoever connects after others hung up finds their seats free.
            let accepted = match connects {
                Ok(false) => continue,
                Ok(true) => self.listener.accept(),
                Err(why) => Err(why),
            };
            match accepted {
                Ok((stream, _)) => self.take(stream),
                Err(why) if matches!(why.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(why) => {
                    tracing::warn!("cannot accept an RPC connection: {why}");
                    self.connections.pause(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn take(&self, stream: UnixStream) {
        let seat = match self.connections.admit(stream) {
            Ok(seat) => seat,
            Err((Refused::Stopping, _)) => return,
            Err((Refused::Full, stream)) => {
                let text =
                    format!("{CONNECTIONS_MAX} connections are open, which is the limit: close one of them");
                return turn_away(&stream, &text);
            }
            Err((Refused::Busy, stream)) => {
                let text = format!(
                    "calls of {LEFT_BEHIND_MAX} clients that hung up are still under way, which is the limit: \
                     connect again when one of them has ended"
                );
                return turn_away(&stream, &text);
            }
        };
        let stream = Arc::clone(&seat.stream);
        if let Err(why) = self.watch.add(&stream, seat.id()) {
            return turn_away(&stream, &format!("cannot watch this connection: {why}"));
        }
        if let Err(why) = self.spawn(seat) {
            turn_away(&stream, &format!("cannot start a thread for this connection: {why}"));
        }
    }

    fn spawn(&self, seat: Seat) -> io::Result<()> {
        let (registry, scope) = (Arc::clone(&self.registry), Arc::clone(&self.scope));
        let write_timeout = self.write_timeout;
        let work = move || serve(&seat, &registry, &scope, write_timeout);
        Builder::new().name("rpc".to_owned()).stack_size(STACK_BYTES).spawn(work).map(drop)
    }
}

/// Says why and closes. A few bytes into an empty socket: this does not block.
fn turn_away(mut stream: &UnixStream, text: &str) {
    let reply = unasked(&RpcError::errno(EAGAIN, text));
    if let Err(why) = stream.write_all(reply.as_bytes()) {
        tracing::debug!("a client that was turned away is gone: {why}");
    }
}

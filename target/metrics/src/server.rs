//! The threads: one accepts, one serves each connection for a bounded time.
//!
//! One request a connection, as a scrape needs no more. Whoever sends slowly, or takes nothing of the answer, is
//! dropped after [`TIME`].

use crate::page::{Sources, page};
use crate::request::{Reply, Status, answer, judge};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Connections at once; the next one is answered 503.
pub const CONNECTIONS_MAX: usize = 8;
/// Bytes of a request at most; a longer one is answered 431.
pub const REQUEST_BYTES_MAX: usize = 8 << 10;
/// Time of a connection, for the request and again for the answer.
const TIME: Duration = Duration::from_secs(5);
/// Bytes of a body, or of another request, that are read and thrown away so that the answer is not lost.
const LEFTOVER_BYTES_MAX: usize = 64 << 10;
/// Connections get this long to end when the server stops.
const STOP_BOUND: Duration = Duration::from_secs(2);
/// After the system refused a connection for lack of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const STACK_BYTES: usize = 256 << 10;

/// Why figures cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address cannot be had.
    #[error(
        "metrics cannot be served on {address}: {source}; name another address with --metrics ADDRESS:PORT"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start the thread that serves metrics: {0}")]
    Thread(io::Error),
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    sources: Sources,
    time: Duration,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Arc<TcpStream>>,
    next: u64,
    stopping: bool,
}

impl Server {
    /// Serves the page of `sources` on `address` until it is dropped. Its threads inherit the caller's CPU affinity.
    pub fn start(address: SocketAddr, sources: Sources) -> Result<Server, MetricsError> {
        Server::start_with(address, sources, TIME)
    }

    fn start_with(address: SocketAddr, sources: Sources, time: Duration) -> Result<Server, MetricsError> {
        let bind = |source| MetricsError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let (table, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { sources, time, table, changed });
        let (acceptor, of) = (listener.try_clone().map_err(bind)?, shared.clone());
        let acceptor = Builder::new()
            .name("metrics-accept".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || accept(&acceptor, &of))
            .map_err(MetricsError::Thread)?;
        Ok(Server { address, listener, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens; the port that was found if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    /// Ends within about two seconds; connections are cut.
    fn drop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.lock().stopping = true;
        // Wakes the thread that waits in accept.
        if let Err(why) = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both) {
            tracing::warn!("shutdown of the metrics socket: {why}");
        }
        self.shared.changed.notify_all();
        if acceptor.join().is_err() {
            tracing::error!("the thread that accepts metrics connections panicked");
        }
        let table = self.shared.lock();
        table.open.values().for_each(|stream| end(stream, Shutdown::Both));
        let (table, _) = self
            .shared
            .changed
            .wait_timeout_while(table, STOP_BOUND, |table| !table.open.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        if !table.open.is_empty() {
            tracing::warn!("{} scrapes of metrics did not end in time", table.open.len());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code that holds it can panic half-way; a poisoned table is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, but not for longer than the server runs.
    fn pause(&self, bound: Duration) {
        let _woken = self.changed.wait_timeout_while(self.lock(), bound, |table| !table.stopping);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.lock().stopping {
            return;
        }
        match accepted {
            Ok((stream, _)) => admit(stream, shared),
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => {
                tracing::warn!("cannot accept a metrics connection: {why}");
                shared.pause(ACCEPT_PAUSE);
            }
        }
    }
}

/// Gives a connection a thread, or turns it away.
fn admit(stream: TcpStream, shared: &Arc<Shared>) {
    let stream = Arc::new(stream);
    let id = {
        let mut table = shared.lock();
        if table.open.len() >= CONNECTIONS_MAX {
            None
        } else {
            let id = table.next;
            table.next += 1;
            table.open.insert(id, stream.clone());
            Some(id)
        }
    };
    let Some(id) = id else { return turn_away(&stream) };
    let seat = Seat { id, shared: shared.clone() };
    let of = stream.clone();
    let work = move || {
        if let Err(why) = serve(&of, &seat.shared) {
            tracing::debug!("a scrape of metrics: {why}");
        }
    };
    if let Err(why) = Builder::new().name("metrics".to_owned()).stack_size(STACK_BYTES).spawn(work) {
        tracing::warn!("cannot start a thread for a metrics connection: {why}");
        turn_away(&stream);
    }
}

/// A place in the table, given back when the thread ends, however it does.
struct Seat {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.id);
        self.shared.changed.notify_all();
    }
}

/// A few bytes into an empty socket: this does not block.
fn turn_away(mut stream: &TcpStream) {
    let words = answer(Reply::Words(Status::Unavailable), String::new);
    if let Err(why) = stream.write_all(&words) {
        tracing::debug!("a metrics client that was turned away is gone: {why}");
    }
    end(stream, Shutdown::Write);
}

fn end(stream: &TcpStream, how: Shutdown) {
    // A peer that has gone already is what was wanted.
    if let Err(why) = stream.shutdown(how) {
        tracing::debug!("shutdown of a metrics connection: {why}");
    }
}

/// One request, one answer.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let reply = request(stream, Instant::now() + shared.time)?;
    let Some(reply) = reply else { return Ok(()) };
    let bytes = answer(reply, || page(&shared.sources));
    let end = Instant::now() + shared.time;
    send(stream, &bytes, end)?;
    stream.shutdown(Shutdown::Write)?;
    // Closing on unread bytes would reset the connection, and the answer could be lost with it.
    let mut rest = [0; 4096];
    let mut thrown = 0;
    while thrown < LEFTOVER_BYTES_MAX {
        match receive(stream, &mut rest, end)? {
            0 => break,
            got => thrown += got,
        }
    }
    Ok(())
}

/// Reads until it is clear what to answer; none for a client that went away before.
fn request(stream: &TcpStream, end: Instant) -> io::Result<Option<Reply>> {
    let mut bytes = [0; REQUEST_BYTES_MAX];
    let mut have = 0;
    loop {
        match receive(stream, &mut bytes[have..], end) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Ok(Some(Reply::Words(Status::BadRequest))),
            Ok(got) => have += got,
            Err(why) if why.kind() == ErrorKind::TimedOut => {
                return Ok(Some(Reply::Words(Status::RequestTimeout)));
            }
            Err(why) => return Err(why),
        }
        if let Some(reply) = judge(&bytes[..have]) {
            return Ok(Some(reply));
        }
        if have == bytes.len() {
            return Ok(Some(Reply::Words(Status::HeaderTooLarge)));
        }
    }
}

/// Time that is left; an error when none is.
fn left(end: Instant) -> io::Result<Option<Duration>> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
}

/// A timeout of the socket under the name it has here.
fn timed(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

fn receive(mut stream: &TcpStream, bytes: &mut [u8], end: Instant) -> io::Result<usize> {
    loop {
        stream.set_read_timeout(left(end)?)?;
        match stream.read(bytes) {
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            other => return other.map_err(timed),
        }
    }
}

fn send(mut stream: &TcpStream, mut bytes: &[u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(left(end)?)?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(sent) => bytes = &bytes[sent..],
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(timed(why)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tgt_bdev::Bdevs;
    use tgt_rtrs::sessions::{Sessions, SessionsOptions};

    const BOUND: Duration = Duration::from_secs(30);

    fn server(time: Duration) -> Server {
        let sessions = Sessions::start(SessionsOptions {
            reactors: Arc::default(),
            keyring: tgt_keyring::Keyring::new(),
            host: tgt_rtrs::Id::default(),
            insecure: false,
            tell: Box::new(|_| ()),
        });
        let sources = Sources {
            bdevs: Bdevs::new(),
            sessions: sessions.expect("a thread"),
            reactors: Arc::default(),
            replication: None,
            version: "1.2.3",
            spdk_version: "v0".to_owned(),
            started: Instant::now(),
        };
        Server::start_with("127.0.0.1:0".parse().expect("an address"), sources, time).expect("a server")
    }

    fn connect(server: &Server) -> TcpStream {
        let stream = TcpStream::connect(server.address()).expect("it listens");
        stream.set_read_timeout(Some(BOUND)).expect("a bound");
        stream
    }

    fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }

    fn ask(server: &Server, request: &str) -> String {
        let mut stream = connect(server);
        stream.write_all(request.as_bytes()).expect("it reads");
        rest(stream)
    }

    #[test]
    fn the_page_comes_and_the_connection_closes_also_behind_a_body() {
        let server = server(BOUND);
        let page = ask(&server, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("version=\"1.2.3\""), "{page}");
        let body = "x".repeat(LEFTOVER_BYTES_MAX / 2);
        let posted = ask(&server, &format!("POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n{body}"));
        assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    }

    #[test]
    fn what_is_too_long_too_slow_or_cut_short_is_told_so() {
        let server = server(Duration::from_millis(100));
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(REQUEST_BYTES_MAX));
        assert!(ask(&server, &long).starts_with("HTTP/1.1 431 "));
        assert!(ask(&server, "GET /metrics").starts_with("HTTP/1.1 408 "));
        let mut cut = connect(&server);
        cut.write_all(b"GET /metrics").expect("it reads");
        cut.shutdown(Shutdown::Write).expect("it is open");
        assert!(rest(cut).starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn one_too_many_is_turned_away_and_a_freed_place_is_given_again() {
        let server = server(BOUND);
        let open: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| connect(&server)).collect();
        assert!(rest(connect(&server)).starts_with("HTTP/1.1 503 "));
        drop(open);
        let end = Instant::now() + BOUND;
        while !ask_if_admitted(&server) {
            assert!(Instant::now() < end, "no place becomes free");
            std::thread::yield_now();
        }
    }

    /// False where it is turned away, which may reset the connection under the request.
    fn ask_if_admitted(server: &Server) -> bool {
        let mut stream = connect(server);
        let sent = stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n");
        let mut text = String::new();
        sent.is_ok() && stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1.1 200 ")
    }

    #[test]
    fn a_stop_cuts_who_is_connected_and_frees_the_address() {
        let server = server(BOUND);
        let (address, mut idle) = (server.address(), connect(&server));
        // So that the connection has its thread.
        idle.write_all(b"G").expect("it reads");
        drop(server);
        let mut byte = [0];
        assert!(matches!(idle.read(&mut byte), Ok(0) | Err(_)));
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let server = server(BOUND);
        let taken = Server::start(server.address(), server.shared.sources.clone()).expect_err("it is taken");
        let text = taken.to_string();
        assert!(text.contains(&server.address().to_string()) && text.contains("--metrics"), "{text}");
    }
}

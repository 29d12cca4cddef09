//! Who is connected: the table that bounds their number and lets the server end them.
//!
//! ```text
//! seated ── hangs up ──► left behind ── its thread returns ──► gone
//!    └───────────────── its thread returns ────────────────────►
//! ```

use rpc_registry::Asker;
use std::collections::HashMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections at once, as in SPDK.
pub const CONNECTIONS_MAX: usize = 64;
/// Threads whose clients have hung up while a call was under way; no seat is theirs. With as many, nobody else is
/// admitted. So there are fewer than `CONNECTIONS_MAX + LEFT_BEHIND_MAX` threads at any time.
pub const LEFT_BEHIND_MAX: usize = 128;

/// The open connections.
#[derive(Default)]
pub(crate) struct Connections {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Open>,
    next: u64,
    stopping: bool,
}

struct Open {
    stream: Arc<UnixStream>,
    asker: Arc<Asker>,
    in_handler: bool,
    /// The client hung up: its seat is free, only its thread is still here.
    left_behind: bool,
}

/// Why a connection was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    /// Too many threads are left behind.
    Busy,
    Stopping,
}

/// One connection's place in the table; leaving gives it back.
pub(crate) struct Seat {
    connections: Arc<Connections>,
    id: u64,
    pub(crate) stream: Arc<UnixStream>,
    pub(crate) asker: Arc<Asker>,
}

impl Connections {
    /// A place for a new connection.
    pub(crate) fn admit(self: &Arc<Self>, stream: UnixStream) -> Result<Seat, (Refused, UnixStream)> {
        let mut table = self.lock();
        if table.stopping {
            return Err((Refused::Stopping, stream));
        }
        let left_behind = table.open.values().filter(|open| open.left_behind).count();
        if left_behind >= LEFT_BEHIND_MAX {
            return Err((Refused::Busy, stream));
        }
        if table.open.len() - left_behind >= CONNECTIONS_MAX {
            return Err((Refused::Full, stream));
        }
        let (id, stream, asker) = (table.next, Arc::new(stream), Arc::new(Asker::new()));
        table.next += 1;
        let open = Open {
            stream: Arc::clone(&stream),
            asker: Arc::clone(&asker),
            in_handler: false,
            left_behind: false,
        };
        table.open.insert(id, open);
        Ok(Seat { connections: Arc::clone(self), id, stream, asker })
    }

    /// Connection `id` hung up: its seat is free, and a handler that waits for its sake is told.
    pub(crate) fn hung_up(&self, id: u64) {
        let asker = {
            let mut table = self.lock();
            // Its thread may have noticed by itself.
            let Some(open) = table.open.get_mut(&id) else { return };
            open.left_behind = true;
            Arc::clone(&open.asker)
        };
        self.changed.notify_all();
        // Without the lock: this runs what the handler left to be run.
        asker.leave();
    }

    /// Nobody is admitted any more, and the threads read no further; answers on their way still leave.
    pub(crate) fn stop_reading(&self) {
        let mut table = self.lock();
        table.stopping = true;
        shut(&table, Shutdown::Read);
    }

    /// Ends all connections, whatever they do.
    pub(crate) fn cut(&self) {
        let askers: Vec<_> = {
            let table = self.lock();
            shut(&table, Shutdown::Both);
            table.open.values().map(|open| Arc::clone(&open.asker)).collect()
        };
        askers.iter().for_each(|asker| asker.leave());
    }

    pub(crate) fn stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits until nobody is connected, at most `bound`. True when nobody is: who is left behind is not.
    pub(crate) fn wait_nobody(&self, bound: Duration) -> bool {
        self.wait(bound, |table| table.open.values().all(|open| open.left_behind))
    }

    /// Waits until only threads inside a handler are left, at most `bound`; returns how many threads are left.
    pub(crate) fn wait_handlers_only(&self, bound: Duration) -> usize {
        self.wait(bound, |table| table.open.values().all(|open| open.in_handler));
        self.lock().open.len()
    }

    /// Waits on the table's changes, or on the stop, at most `bound`.
    pub(crate) fn pause(&self, bound: Duration) {
        self.wait(bound, |table| table.stopping);
    }

    fn wait(&self, bound: Duration, done: impl Fn(&Table) -> bool) -> bool {
        let end = Instant::now() + bound;
        let mut table = self.lock();
        while !done(&table) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            table = self.changed.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code that holds it can panic half-way; a poisoned table is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shut(table: &Table, how: Shutdown) {
    for open in table.open.values() {
        // A peer that has gone already is what was wanted.
        if let Err(why) = open.stream.shutdown(how) {
            tracing::debug!("shutdown of a connection: {why}");
        }
    }
}

impl Seat {
    /// By which the table knows it.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Runs `work` marked as inside a handler, so that a stop does not wait for it.
    pub(crate) fn in_handler<T>(&self, work: impl FnOnce() -> T) -> T {
        self.mark(true);
        let result = work();
        self.mark(false);
        result
    }

    pub(crate) fn stopping(&self) -> bool {
        self.connections.stopping()
    }

    fn mark(&self, in_handler: bool) {
        if let Some(open) = self.connections.lock().open.get_mut(&self.id) {
            open.in_handler = in_handler;
        }
        if in_handler {
            self.connections.changed.notify_all();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.id);
        self.connections.changed.notify_all();
    }
}

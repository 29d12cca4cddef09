//! Threads: starting the reactors, pinning them, stopping them.

use crate::handle::{Handle, Message};
use crate::stats::ReactorStats;
use crate::{Reactor, ReactorId};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tgt_env::clock::Ticks;
use tgt_env::cores;
use tgt_env::uring::{Interest, SourceId, Uring, UringError};
use tgt_ring::{Doorbell, Inbox};

/// Entries of a reactor's io_uring submission queue.
const URING_ENTRIES: u32 = 256;

/// How long `stop` waits for a reactor's thread, beyond the reactor's own patience with its pollers.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);

thread_local! {
    static ON_REACTOR: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic on a reactor's thread ends the process, after it was reported: IO in flight there would never
/// end, and everything above is built to survive a crash. For binaries; tests keep their process.
pub fn abort_when_a_reactor_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if on_reactor_thread() {
            std::process::abort();
        }
    }));
}

/// True on a reactor's own thread.
pub(crate) fn on_reactor_thread() -> bool {
    ON_REACTOR.get()
}

/// When an idle reactor sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepPolicy {
    /// After this much idle time. Zero: at once.
    After(Duration),
    /// Never: it polls for ever, as SPDK does.
    Never,
}

impl SleepPolicy {
    /// The default: shorter sleeps at ordinary gaps between IOs, longer wastes a core (measured: docs/figures.md).
    pub const ADAPTIVE: SleepPolicy = SleepPolicy::After(Duration::from_micros(50));

    fn spin(self) -> Ticks {
        match self {
            SleepPolicy::After(idle) => Ticks::from_duration(idle),
            SleepPolicy::Never => Ticks::NEVER,
        }
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Cores, one reactor each, in this order.
    pub cores: Vec<u32>,
    /// When they sleep.
    pub sleep: SleepPolicy,
    /// Whether to pin each thread to its core. Tests with more reactors than cores do not.
    pub pin: bool,
}

/// Why the reactors did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel refused an io_uring.
    #[error("{id}: {source}")]
    Uring {
        /// Which reactor.
        id: ReactorId,
        /// What the kernel said, and the remedy.
        source: UringError,
    },
    /// The thread could not be pinned.
    #[error("{id}: {source}")]
    Pin {
        /// Which reactor.
        id: ReactorId,
        /// What is wrong with the core.
        source: cores::CoresError,
    },
    /// A thread, an eventfd or the watch on it could not be made.
    #[error("{id}: {what}: {source}")]
    Resource {
        /// Which reactor.
        id: ReactorId,
        /// What could not be made.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// The running reactors. Owned by whoever has to stop them.
#[derive(Debug)]
pub struct Reactors {
    handles: Arc<Vec<Handle>>,
    threads: Vec<JoinHandle<()>>,
}

/// A thread that is up and waits for the others.
struct Started {
    thread: JoinHandle<()>,
    go: SyncSender<Arc<Vec<Handle>>>,
}

impl Reactors {
    /// Starts one reactor per core. Returns when all of them turn, or none does.
    pub fn start(options: &StartOptions) -> Result<Reactors, StartError> {
        let mut handles = Vec::new();
        let mut started = Vec::new();
        for (index, core) in options.cores.iter().enumerate() {
            let id = ReactorId(index as u32);
            let (handle, inbox) = make_handle(id, *core, options.sleep)?;
            handles.push(handle.clone());
            // On an error the threads started so far see their `go` channels close, and end.
            started.push(start_one(handle, inbox, options.pin)?);
        }
        let handles = Arc::new(handles);
        let launch = |Started { thread, go }| {
            // Cannot fail: the thread answered that it is up, and waits for nothing else.
            let _ = go.send(handles.clone());
            thread
        };
        let threads = started.into_iter().map(launch).collect();
        Ok(Reactors { handles, threads })
    }

    /// The reactors, in the order of their ids.
    #[must_use]
    pub fn handles(&self) -> &Arc<Vec<Handle>> {
        &self.handles
    }

    /// Stops them all and waits for their threads. Returns the reactors that did not stop in time.
    pub fn stop(self) -> Vec<ReactorId> {
        for handle in self.handles.iter() {
            // One whose inbox is full or that has stopped already is judged by its thread below.
            let _ = handle.send(Reactor::stop);
        }
        let deadline = Instant::now() + JOIN_TIMEOUT;
        let mut stuck = Vec::new();
        for (handle, thread) in self.handles.iter().zip(self.threads) {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            let panicked = thread.is_finished() && thread.join().is_err();
            if panicked || !handle.stats.is_stopped() {
                stuck.push(handle.id);
            }
        }
        stuck
    }
}

fn make_handle(id: ReactorId, core: u32, sleep: SleepPolicy) -> Result<(Handle, Inbox<Message>), StartError> {
    let eventfd = |source| StartError::Resource { id, what: "no eventfd for its bell", source };
    let bell = Arc::new(Doorbell::new().map_err(eventfd)?);
    let inbox = Inbox::new(Handle::INBOX_CAPACITY, bell);
    let stats = Arc::new(ReactorStats::with_spin(sleep.spin()));
    Ok((Handle { id, core, outbox: inbox.outbox(), stats }, inbox))
}

fn start_one(handle: Handle, inbox: Inbox<Message>, pin: bool) -> Result<Started, StartError> {
    let id = handle.id;
    let (up, is_up) = sync_channel(1);
    let (go, wait_for_go) = sync_channel(1);
    let body = move || thread_main(&handle, inbox, pin, &up, &wait_for_go);
    let spawned = std::thread::Builder::new().name(id.to_string()).spawn(body);
    let thread = spawned.map_err(|source| StartError::Resource { id, what: "no thread", source })?;
    match is_up.recv() {
        Ok(Ok(())) => Ok(Started { thread, go }),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let source = std::io::Error::other("its thread ended at once");
            Err(StartError::Resource { id, what: "no thread", source })
        }
    }
}

fn thread_main(
    handle: &Handle,
    inbox: Inbox<Message>,
    pin: bool,
    up: &SyncSender<Result<(), StartError>>,
    wait_for_go: &Receiver<Arc<Vec<Handle>>>,
) {
    ON_REACTOR.set(true);
    let made = prepare(handle, pin);
    let (uring, bell_source) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = up.send(Err(error));
            return;
        }
    };
    let _ = up.send(Ok(()));
    // Closed: another reactor failed to start, and with it the process.
    let Ok(peers) = wait_for_go.recv() else { return };
    let _farewell = Farewell { handle: handle.clone(), inbox: inbox.clone() };
    Reactor::new(uring, handle, inbox, bell_source, peers).run();
}

/// Dropped last on a reactor's thread, also when it panics: nobody waits for an answer that will not come.
struct Farewell {
    handle: Handle,
    inbox: Inbox<Message>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.handle.stats.set_stopped();
        while self.inbox.pop().is_some() {}
    }
}

/// Arms the bell's eventfd, so that ringing ends a sleep. It stays armed until a completion says that it is over.
pub(crate) fn watch_bell(
    uring: &mut Uring,
    source: SourceId,
    bell: &Arc<Doorbell>,
) -> Result<(), UringError> {
    uring.poll_fd(source, bell.clone(), Interest::Readable, true, 0).map(drop)
}

/// Pins the thread and makes its io_uring with the bell armed in it.
fn prepare(handle: &Handle, pin: bool) -> Result<(Uring, SourceId), StartError> {
    let (id, core) = (handle.id, handle.core);
    if pin {
        cores::pin_current_thread(core).map_err(|source| StartError::Pin { id, source })?;
    }
    handle.stats.set_thread_id(rustix::thread::gettid().as_raw_nonzero().get() as u32);
    let refused = |source| StartError::Uring { id, source };
    let mut uring = Uring::new(URING_ENTRIES).map_err(refused)?;
    let bell_source = uring.add_source().map_err(refused)?;
    watch_bell(&mut uring, bell_source, handle.bell()).map_err(refused)?;
    Ok((uring, bell_source))
}

//! Watches whether our cores are shared with other targets, once a second: a reactor that shares its core sleeps at
//! once when idle, because spinning would delay the other, and itself.

use crate::claims::Claims;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tgt_reactor::Handle;

const INTERVAL: Duration = Duration::from_secs(1);
const STACK_BYTES: usize = 128 << 10;

/// The thread that watches. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Looks once, then goes on in a thread of its own. `spin`: idle time before a reactor sleeps on a core of its own.
    pub(crate) fn start(
        reactors: Arc<Vec<Handle>>,
        claims: Arc<Claims>,
        spin: Duration,
    ) -> std::io::Result<Watch> {
        let (stop, stopped) = channel::<()>();
        let mut watcher = Watcher { shared: vec![false; reactors.len()], reactors, claims, spin };
        // Silently: whoever claimed the cores has just said it.
        watcher.look(|_, _| ());
        let body = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                watcher.look(tell);
            }
        };
        let thread = Builder::new().name("core-watch".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
        Ok(Watch { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches the cores panicked");
        }
    }
}

struct Watcher {
    reactors: Arc<Vec<Handle>>,
    claims: Arc<Claims>,
    spin: Duration,
    /// What was seen last, per reactor.
    shared: Vec<bool>,
}

impl Watcher {
    /// Looks at every core, and tells what changed since the last look.
    fn look(&mut self, tell: impl Fn(&Handle, bool)) {
        for (reactor, was) in self.reactors.iter().zip(&mut self.shared) {
            let is = self.claims.is_shared(reactor.core());
            if is == *was {
                continue;
            }
            *was = is;
            reactor.set_spin(Some(if is { Duration::ZERO } else { self.spin }));
            tell(reactor, is);
        }
    }
}

fn tell(reactor: &Handle, shared: bool) {
    let (id, core) = (reactor.id(), reactor.core());
    if shared {
        tracing::warn!("core {core} is shared with another target: {id} sleeps at once when idle");
    } else {
        tracing::info!("core {core} is ours alone again: {id} spins before it sleeps");
    }
}

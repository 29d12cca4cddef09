//! Whoever a call is made for, and whether it still waits for the answer.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Wake = Box<dyn FnOnce() + Send>;

/// Whoever a call is made for. The way in (a socket) tells that it has gone; a handler that waits for something ends
/// its wait then. Calls go on: whether the asker has gone matters to nobody who does not ask.
///
/// Shared between the thread in the handler and the one that notices; one handler at a time.
#[derive(Default)]
pub struct Asker {
    state: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    gone: bool,
    wake: Option<Wake>,
}

impl Asker {
    /// One that still waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does nobody wait for the answer any more? It stays so.
    pub fn has_gone(&self) -> bool {
        self.lock().gone
    }

    /// It has gone. Wakes the handler that waits, on the caller's thread.
    pub fn leave(&self) {
        let wake = {
            let mut state = self.lock();
            state.gone = true;
            state.wake.take()
        };
        // Without the lock: the handler, once awake, asks whether it has gone.
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Has `wake` run once when the asker leaves, as long as the answer lives. It runs on another thread and must not
    /// wait for long. One that has gone before never runs it: ask [`Asker::has_gone`] between this and the wait.
    pub fn when_gone(&self, wake: impl FnOnce() + Send + 'static) -> WhenGone<'_> {
        self.lock().wake = Some(Box::new(wake));
        WhenGone { asker: self }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        // No code that holds it can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("gone", &self.has_gone()).finish_non_exhaustive()
    }
}

/// What [`Asker::when_gone`] was given is forgotten when this is dropped.
#[must_use = "dropping it forgets what was to run"]
#[derive(Debug)]
pub struct WhenGone<'a> {
    asker: &'a Asker,
}

impl Drop for WhenGone<'_> {
    fn drop(&mut self) {
        self.asker.lock().wake = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn leaving_wakes_once_and_only_whoever_waits() {
        let (asker, woken) = (Asker::new(), Arc::new(AtomicUsize::new(0)));
        let wake = || {
            let woken = Arc::clone(&woken);
            move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }
        };
        drop(asker.when_gone(wake()));
        let _waits = asker.when_gone(wake());
        assert!(!asker.has_gone());
        asker.leave();
        asker.leave();
        assert!(asker.has_gone());
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }
}

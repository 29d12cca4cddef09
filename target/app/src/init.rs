//! From startup to run time: who brings the target there, and who waits for it.
//!
//! ```text
//! Loading ──────────────── loaded ─────────────► Ready
//! Waiting ── framework_start_init ── loaded ───► Ready
//!    any ── end ──► Ended
//! ```

use rpc_registry::Asker;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// How far the target has come, beyond the registry's two states.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// The configuration is being loaded.
    Loading,
    /// `framework_start_init` has to be called.
    Waiting,
    /// Everything is up.
    Ready,
    /// It stops, or could not be brought up: why.
    Ended(String),
}

/// The stage, and those who wait for it to change. Control threads.
#[derive(Debug)]
pub(crate) struct Init {
    stage: Mutex<Stage>,
    changed: Condvar,
}

impl Init {
    pub(crate) fn new(wait_for_rpc: bool) -> Init {
        let stage = if wait_for_rpc { Stage::Waiting } else { Stage::Loading };
        Init { stage: Mutex::new(stage), changed: Condvar::new() }
    }

    /// Whether it is up to `framework_start_init` to go on.
    pub(crate) fn waits_for_rpc(&self) -> bool {
        *self.lock() == Stage::Waiting
    }

    /// Everything is up.
    pub(crate) fn ready(&self) {
        self.go_to(Stage::Ready);
    }

    /// It stops, or could not be brought up.
    pub(crate) fn end(&self, why: &str) {
        self.go_to(Stage::Ended(why.to_owned()));
    }

    /// Waits until everything is up, as long as `asker` does. An error if that will not happen: why.
    pub(crate) fn wait(self: &Arc<Self>, asker: &Asker) -> Result<(), String> {
        let init = Arc::clone(self);
        let _woken = asker.when_gone(move || init.look_again());
        let mut stage = self.lock();
        loop {
            match &*stage {
                Stage::Ready => return Ok(()),
                Stage::Ended(why) => return Err(why.clone()),
                Stage::Loading | Stage::Waiting if asker.has_gone() => {
                    return Err("whoever asked has gone".to_owned());
                }
                Stage::Loading | Stage::Waiting => {
                    stage = self.changed.wait(stage).expect("no thread panics while it holds this lock");
                }
            }
        }
    }

    /// Wakes those who wait. With the lock: nobody is between looking and waiting.
    fn look_again(&self) {
        let _stage = self.lock();
        self.changed.notify_all();
    }

    fn go_to(&self, next: Stage) {
        let mut stage = self.lock();
        // An end stays: whoever comes late must not make it look alive.
        if !matches!(*stage, Stage::Ended(_)) {
            *stage = next;
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().expect("no thread panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_are_told_of_success_and_of_an_end() {
        let (up, down) = (Arc::new(Init::new(true)), Arc::new(Init::new(false)));
        assert!(up.waits_for_rpc() && !down.waits_for_rpc());
        std::thread::scope(|scope| {
            let waiting = [&up, &down].map(|init| scope.spawn(|| init.wait(&Asker::new())));
            up.ready();
            down.end("told to");
            let told = waiting.map(|thread| thread.join().expect("no panic"));
            assert_eq!(told, [Ok(()), Err("told to".to_owned())]);
        });
        down.ready();
        assert_eq!(down.wait(&Asker::new()), Err("told to".to_owned()), "an end stays");
    }

    #[test]
    fn a_wait_ends_when_its_asker_goes_and_the_others_wait_on() {
        let (init, goes, stays) = (Arc::new(Init::new(true)), Asker::new(), Asker::new());
        std::thread::scope(|scope| {
            let [first, second] = [&goes, &stays].map(|asker| scope.spawn(|| init.wait(asker)));
            goes.leave();
            let told = first.join().expect("no panic");
            assert_eq!(told, Err("whoever asked has gone".to_owned()));
            init.ready();
            assert_eq!(second.join().expect("no panic"), Ok(()));
        });
        assert_eq!(init.wait(&goes), Ok(()), "what is up needs no wait");
    }
}

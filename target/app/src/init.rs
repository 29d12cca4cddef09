//! From startup to run time: who brings the target there, and who waits for it.
//!
//! ```text
//! Loading ──────────────── loaded ─────────────► Ready
//! Waiting ── framework_start_init ── loaded ───► Ready
//!    any ── end ──► Ended
//! ```

use std::sync::{Condvar, Mutex, MutexGuard};

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

    /// Waits until everything is up. An error if that will not happen: why.
    pub(crate) fn wait(&self) -> Result<(), String> {
        let mut stage = self.lock();
        loop {
            match &*stage {
                Stage::Ready => return Ok(()),
                Stage::Ended(why) => return Err(why.clone()),
                Stage::Loading | Stage::Waiting => {
                    stage = self.changed.wait(stage).expect("no thread panics while it holds this lock");
                }
            }
        }
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
        let (up, down) = (Init::new(true), Init::new(false));
        assert!(up.waits_for_rpc() && !down.waits_for_rpc());
        std::thread::scope(|scope| {
            let waiting = [&up, &down].map(|init| scope.spawn(|| init.wait()));
            up.ready();
            down.end("told to");
            let told = waiting.map(|thread| thread.join().expect("no panic"));
            assert_eq!(told, [Ok(()), Err("told to".to_owned())]);
        });
        down.ready();
        assert_eq!(down.wait(), Err("told to".to_owned()), "an end stays");
    }
}

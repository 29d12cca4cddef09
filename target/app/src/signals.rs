//! SIGINT and SIGTERM: the first stops the target in order, the second ends the process at once.

use crate::exit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Waits for the signal to stop. Made before the target, so that no signal is lost while it starts.
#[derive(Debug)]
pub struct StopSignal {
    signals: Signals,
}

impl StopSignal {
    /// Takes the process's SIGINT and SIGTERM. From now on a second one ends the process.
    pub fn install() -> io::Result<StopSignal> {
        let told = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let status = i32::from(exit::SIGNAL) + signal;
            // In this order: the first signal finds the flag unset, and sets it.
            signal_hook::flag::register_conditional_shutdown(signal, status, told.clone())?;
            signal_hook::flag::register(signal, told.clone())?;
        }
        Ok(StopSignal { signals: Signals::new([SIGINT, SIGTERM])? })
    }

    /// Waits for the first of them. Returns its name.
    pub fn wait(&mut self) -> &'static str {
        match self.signals.forever().next() {
            Some(SIGINT) => "SIGINT",
            _ => "SIGTERM",
        }
    }
}

//! What systemd, or whoever else set `NOTIFY_SOCKET`, is told: that the target serves, that it stops, and at intervals
//! that it is alive. Without that variable nothing is said.
//!
//! "Alive" means that every reactor has taken its turn: a thread of its own asks each of them by a message, four times
//! in the time that systemd allows (`WatchdogSec=`, here `WATCHDOG_USEC`), and says so only when all have answered. A
//! reactor that hangs in a poller answers no more; then systemd ends the process and starts it again.

use std::env::{var, var_os};
use std::ffi::OsStr;
use std::io::{Error, ErrorKind, Result};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tgt_reactor::Handle;

/// Questions in the time that systemd allows: a late one or two are no reason to die.
const QUESTIONS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(1);
const STACK_BYTES: usize = 128 << 10;

/// Says that the target serves; `status` is shown by `systemctl status`.
pub fn say_ready(status: &str) {
    // A line's end would begin another message.
    tell(&format!("READY=1\nSTATUS={}\n", status.replace('\n', " ")));
}

/// Says that the target stops, before it does.
pub fn say_stopping() {
    tell("STOPPING=1\nSTATUS=stopping\n");
}

/// The target runs as well when nobody hears that it does: a failure is a log.
fn tell(message: &str) {
    let Some(name) = var_os("NOTIFY_SOCKET") else { return };
    if let Err(why) = send(&name, message) {
        tracing::warn!("the supervisor behind NOTIFY_SOCKET={name:?} is not told {message:?}: {why}");
    }
}

/// Sends `message` to the socket `name`: a path, or after an `@` a name without a file.
fn send(name: &OsStr, message: &str) -> Result<()> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(Error::new(ErrorKind::InvalidInput, "neither an absolute path nor an @name")),
    };
    let socket = UnixDatagram::unbound()?;
    // One that is busy is waited for; one that hears nothing must not hold us up.
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}

/// The time that systemd allows between two signs of life; none if it wants none of this process.
fn allowed() -> Option<Duration> {
    let number = |name| var(name).ok()?.parse::<u64>().ok();
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|micros| for_us && *micros > 0).map(Duration::from_micros)
}

/// The thread that says that the target is alive. Dropping it ends the thread.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Begins to say that the target is alive while all `reactors` are. None if nobody asked for that.
    pub fn start(reactors: Arc<Vec<Handle>>) -> Result<Option<Watchdog>> {
        let Some(allowed) = allowed() else { return Ok(None) };
        let (stop, stopped) = channel::<()>();
        let (mut round, interval) = (Round::new(reactors), allowed / QUESTIONS);
        let body = move || {
            loop {
                if round.all_answered() {
                    tell("WATCHDOG=1\n");
                }
                if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = Builder::new().name("watchdog".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
        Ok(Some(Watchdog { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that tells the supervisor that we are alive panicked");
        }
    }
}

/// One question at a time to every reactor.
struct Round {
    reactors: Arc<Vec<Handle>>,
    /// Number of the question asked last, from 1.
    asked: u64,
    /// By reactor, number of the question it answered last.
    answered: Vec<Arc<AtomicU64>>,
    /// By reactor, whether it was told that it hangs.
    told: Vec<bool>,
}

impl Round {
    fn new(reactors: Arc<Vec<Handle>>) -> Round {
        let answered = reactors.iter().map(|_| Arc::default()).collect();
        let told = vec![false; reactors.len()];
        Round { reactors, asked: 0, answered, told }
    }

    /// Whether all reactors have answered the last question. If so, asks the next one.
    fn all_answered(&mut self) -> bool {
        for ((reactor, answered), told) in self.reactors.iter().zip(&self.answered).zip(&mut self.told) {
            let hangs = answered.load(Relaxed) < self.asked;
            if hangs && !*told {
                tracing::error!("{reactor:?} has not answered: it hangs, or its core is starved");
            } else if *told && !hangs {
                tracing::warn!("{reactor:?} answers again");
            }
            *told = hangs;
        }
        if self.told.contains(&true) {
            return false;
        }
        self.asked += 1;
        let question = self.asked;
        for (reactor, answered) in self.reactors.iter().zip(&self.answered) {
            let answered = Arc::clone(answered);
            // A full inbox is no answer: the next look finds none, and says so.
            let _ = reactor.send(move |_| answered.store(question, Relaxed));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tgt_reactor::{Reactors, SleepPolicy, StartOptions};

    const BOUND: Duration = Duration::from_secs(30);

    #[test]
    fn one_reactor_that_hangs_is_enough_and_once_it_goes_on_all_is_well() {
        let options = StartOptions { cores: vec![0, 0], sleep: SleepPolicy::ADAPTIVE, pin: false };
        let reactors = Reactors::start(&options).expect("reactors");
        let mut round = Round::new(reactors.handles().clone());
        assert!(round.all_answered(), "nothing was asked yet");
        until(|| round.all_answered());
        let (release, released) = channel::<()>();
        let (hanging, hangs) = channel();
        let hang = move |_: &mut tgt_reactor::Reactor| {
            hanging.send(()).expect("the test waits");
            let _ = released.recv_timeout(BOUND);
        };
        reactors.handles()[1].send(hang).expect("room");
        hangs.recv_timeout(BOUND).expect("it hangs");
        // What it answered before it hung counts once; the next question it cannot answer.
        while round.asked == question_answered(&round, 1) {
            round.all_answered();
        }
        until(|| question_answered(&round, 0) == round.asked);
        assert!(!round.all_answered() && !round.all_answered());
        assert_eq!(round.told, [false, true]);
        drop(release);
        until(|| round.all_answered());
        assert_eq!(reactors.stop(), []);
    }

    fn question_answered(round: &Round, reactor: usize) -> u64 {
        round.answered[reactor].load(Relaxed)
    }

    fn until(mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + BOUND;
        while !condition() {
            assert!(Instant::now() < end, "not within {BOUND:?}");
            std::thread::yield_now();
        }
    }
}

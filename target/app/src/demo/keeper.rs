//! The keeper: from start to Ctrl-C.

use super::control::{self, Asked, What};
use super::error::DemoError;
use super::fleet::Fleet;
use super::folder::Folder;
use super::process::Process;
use super::view::Look;
use super::words;
use super::{DemoArgs, NODES, Name, ask, control_socket};
use crate::signals::StopSignal;
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often it is looked whether a node has died or Ctrl-C was pressed.
const LOOK: Duration = Duration::from_millis(50);
/// Until all members of a device have all of it. 64 GiB take a while.
const COPY_BOUND: Duration = Duration::from_secs(600);
/// Of the load that is run at once.
const FIRST_LOAD: u64 = 1000;

/// Runs a demo until Ctrl-C.
pub(super) fn run(args: &DemoArgs, socket: &Path) -> Result<(), DemoError> {
    let stop = stop_flag()?;
    // A socket that a dead target left is taken over; one that is answered is not.
    if UnixStream::connect(socket).is_ok() {
        return Err(DemoError::SocketTaken(socket.to_owned()));
    }
    let (server, asked) = control::serve(&control_socket(socket))?;
    let folder = Folder::open(args)?;
    words::say(&words::beginning(&folder));
    let mut fleet = Fleet::start(folder, socket, &stop)?;
    let told = show(&mut fleet, socket, &stop);
    if told.is_ok() {
        keep(&mut fleet, socket, &asked, &stop);
    }
    let _cut = server.stop();
    let ended = take_down(fleet);
    told.and(ended)
}

/// Set by the first SIGINT or SIGTERM; a second one ends this process at once, and the nodes with it.
fn stop_flag() -> Result<Arc<AtomicBool>, DemoError> {
    let system = |what| move |source| DemoError::System { what, source };
    let mut signal = StopSignal::install().map_err(system("take SIGINT and SIGTERM"))?;
    let flag = Arc::new(AtomicBool::new(false));
    let told = flag.clone();
    let waits = move || {
        signal.wait();
        told.store(true, Relaxed);
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(waits)
        .map_err(system("start the thread that waits for signals"))?;
    Ok(flag)
}

/// Waits until the device is whole, runs a load, and says what there is and what to try.
fn show(fleet: &mut Fleet, socket: &Path, stop: &AtomicBool) -> Result<(), DemoError> {
    let begun = Instant::now();
    let whole = fleet.wait_whole(COPY_BOUND, stop)?;
    words::say(&words::first_copy(&whole, begun.elapsed()));
    words::say(&words::processes(&processes(fleet)));
    let loaded = first_load(socket, fleet.folder().load_state(), stop)?;
    words::say(&words::load(&loaded));
    let pid = fleet.processes()[1].pid();
    words::say(&words::what_to_try(socket, Name::Node(1), pid, fleet.folder()));
    Ok(())
}

/// On a thread of its own: a load may wait for nodes, Ctrl-C not for the load. It ends with the compute node.
fn first_load(socket: &Path, state: PathBuf, stop: &AtomicBool) -> Result<Value, DemoError> {
    let socket = socket.to_owned();
    let load = std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || ask::run_load(&socket, FIRST_LOAD, &state))
        .map_err(|source| DemoError::System { what: "start the thread that asks for load", source })?;
    while !load.is_finished() {
        if stop.load(Relaxed) {
            return Err(DemoError::Interrupted);
        }
        std::thread::sleep(LOOK);
    }
    load.join().unwrap_or(Err(DemoError::Interrupted))
}

/// Until Ctrl-C: answers, and tells of who died.
fn keep(fleet: &mut Fleet, socket: &Path, asked: &Receiver<Asked>, stop: &AtomicBool) {
    let mut known_dead = [false; NODES + 1];
    while !stop.load(Relaxed) {
        match asked.recv_timeout(LOOK) {
            Ok(question) => answer(fleet, question, stop),
            Err(RecvTimeoutError::Timeout) => {}
            // The server has ended: only a stop does that.
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for (process, known) in fleet.processes().iter_mut().zip(&mut known_dead) {
            let ended = process.ended();
            if let (Some(status), false) = (ended, *known) {
                words::say(&words::death(process.name(), process.pid(), status, socket));
            }
            *known = ended.is_some();
        }
    }
}

fn answer(fleet: &mut Fleet, question: Asked, stop: &AtomicBool) {
    match question.what {
        What::Get => {
            let kept = fleet.folder().is_kept();
            let (folder, state) = (fleet.folder().path().to_owned(), fleet.folder().load_state());
            let answer =
                json!({"folder": folder, "kept": kept, "load_state": state, "processes": processes(fleet)});
            question.answer(Ok(answer));
        }
        What::Restart(name) => {
            let done = fleet.restart(name, stop);
            if let Ok(pid) = &done {
                words::say(&words::came_back(name, *pid));
            }
            question.answer(done.as_ref().map(|pid| json!({"pid": pid})));
        }
    }
}

/// As askers are told of them.
fn processes(fleet: &mut Fleet) -> Value {
    let one = |process: &mut Process| {
        let ended = process.ended().map(|status| status.to_string());
        json!({
            "name": process.name().word(),
            "pid": process.pid(),
            "socket": process.socket(),
            "ended": ended,
        })
    };
    fleet.processes().iter_mut().map(one).collect()
}

fn take_down(fleet: Fleet) -> Result<(), DemoError> {
    words::say("\nstopping the compute node, then the storage nodes; a second Ctrl-C ends all at once");
    let (killed, folder) = fleet.stop();
    for name in killed {
        words::say(&format!("{name} did not stop in time, and was killed"));
    }
    let kept = folder.is_kept().then(|| folder.path().to_owned());
    folder.close()?;
    words::say(&words::end(kept.as_deref()));
    Ok(())
}

/// A look at a device, of processes as [`processes`] tells them.
pub(super) fn look_at(processes: &Value) -> Result<Look, DemoError> {
    let sockets = processes.as_array().into_iter().flatten().map(|process| {
        let socket = process["socket"].as_str()?;
        process["ended"].is_null().then(|| socket.into())
    });
    super::view::look(&sockets.collect::<Vec<_>>())
}

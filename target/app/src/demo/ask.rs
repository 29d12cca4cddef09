//! The askers: `rmr_tgt demo --status`, `--load`, `--restart`, in a process of their own.

use super::error::DemoError;
use super::keeper::look_at;
use super::view::Sync;
use super::words;
use super::{DEVICE, Name, control_socket};
use rmr_rpc::{Client, Error};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Of the keeper, which may have to start a process before it answers.
const KEEPER_BOUND: Duration = Duration::from_secs(180);
/// A load, and the time that requests may wait for nodes.
const LOAD_SECONDS: u64 = 300;
/// The load ends by itself before.
const LOAD_BOUND: Duration = Duration::from_secs(LOAD_SECONDS + 60);
/// Until a member that came back has all.
const COPY_BOUND: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(20);

/// Asks the keeper.
fn ask(socket: &Path, method: &str, params: Option<&Value>) -> Result<Value, DemoError> {
    let answer =
        Client::connect(&control_socket(socket), KEEPER_BOUND).and_then(|mut to| to.call(method, params));
    answer.map_err(|error| match error {
        Error::Unreachable { .. } => DemoError::NoDemo { socket: socket.to_owned(), why: Box::new(error) },
        other => DemoError::Refused(other),
    })
}

/// `--status`.
pub(super) fn status(socket: &Path) -> Result<(), DemoError> {
    let demo = ask(socket, "demo_get", None)?;
    words::say(&words::processes(&demo["processes"]));
    words::say(&words::device(&look_at(&demo["processes"])?));
    words::say(&words::dead(&demo["processes"], socket));
    Ok(())
}

/// `--load`.
pub(super) fn load(socket: &Path, requests: u64) -> Result<(), DemoError> {
    let demo = ask(socket, "demo_get", None)?;
    let state = demo["load_state"].as_str().unwrap_or_default();
    words::say(&words::load(&run_load(socket, requests, Path::new(state))?));
    Ok(())
}

/// Runs checked load in the compute node. Returns what it answers; a block that held what it may not hold is an error.
pub(super) fn run_load(socket: &Path, requests: u64, state: &Path) -> Result<Value, DemoError> {
    let params = json!({
        "name": DEVICE,
        "overwrite": true,
        "requests": requests,
        "state": state.display().to_string(),
        "limit_s": LOAD_SECONDS,
    });
    let answer =
        Client::connect(socket, LOAD_BOUND).and_then(|mut to| to.call("rmr_run_load", Some(&params)));
    answer.map_err(|source| match source {
        Error::Unreachable { .. } => DemoError::Dead { name: Name::Compute },
        source => DemoError::Call { name: Name::Compute, source },
    })
}

/// `--restart`: starts it, and shows what it copies.
pub(super) fn restart(socket: &Path, name: Name) -> Result<(), DemoError> {
    let begun = Instant::now();
    let params = json!({"name": name.word()});
    let started = ask(socket, "demo_restart", Some(&params))?;
    words::say(&format!("{name} runs again, with process id {}", started["pid"]));
    let mut most = Sync::default();
    let until = begun + COPY_BOUND;
    loop {
        let demo = ask(socket, "demo_get", None)?;
        let look = look_at(&demo["processes"])?;
        let whole = match name {
            Name::Compute => look.state.as_deref() == Some("active"),
            Name::Node(_) => look.copies[name.index()].is_whole(),
        };
        if let Some(store) = look.copies.get(name.index()).and_then(|copy| copy.store) {
            most = store;
        }
        if whole {
            words::say(&words::whole_again(name, &most, look.size, begun.elapsed()));
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(DemoError::NotWhole { name, limit: COPY_BOUND, left: words::left(&look, name) });
        }
        std::thread::sleep(LOOK);
    }
}

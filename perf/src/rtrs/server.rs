//! Who answers: a poller that serves every request at once, in a process of its own.

use super::{RtrsArgs, Serve, rtrs};
use crate::error::PerfError;
use clap::ValueEnum;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use tgt_keyring::Keyring;
use tgt_reactor::{Cx, Poller, Reactors, StartOptions, Work};
use tgt_rtrs::client::Answer as Counts;
use tgt_rtrs::hub::Hub;
use tgt_rtrs::sessions::{ListenerSpec, PathSpec, Sessions, SessionsOptions};
use tgt_rtrs::tcp::{Answer, ServerEvent};
use tgt_rtrs::{Direction, Id};

/// A child that serves; it ends with this.
pub(super) struct Server {
    child: Child,
    /// What it said: where it listens.
    said: String,
}

impl Server {
    pub(super) fn start(args: &RtrsArgs, what: Serve, core: u32, bytes: u32) -> Result<Self, PerfError> {
        let program = std::env::current_exe().map_err(rtrs)?;
        let what = what.to_possible_value().expect("it has a name");
        let mut child = Command::new(program)
            .args(["rtrs", "--serve", what.get_name(), "--server-core", &core.to_string()])
            .args(["--io-size", &bytes.max(1).to_string(), "--paths", &args.paths.to_string()])
            .args(args.poll.then_some("--poll"))
            .args(args.no_digest.then_some("--no-digest"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| rtrs(format!("the server's process does not start: {error}")))?;
        let mut said = String::new();
        let out = child.stdout.take().expect("piped");
        let read = BufReader::new(out).read_line(&mut said);
        let server = Self { child, said };
        match read {
            Ok(count) if count > 0 => Ok(server),
            _ => Err(PerfError::Rtrs("the server's process ended before it listened".to_owned())),
        }
    }

    /// Where a bare server listens.
    pub(super) fn address(&self) -> Result<SocketAddr, PerfError> {
        self.said.trim().parse().map_err(rtrs)
    }

    /// Where sessions come in.
    pub(super) fn paths(&self) -> Result<Vec<PathSpec>, PerfError> {
        self.said.split_whitespace().map(|path| path.parse::<PathSpec>().map_err(rtrs)).collect()
    }

    /// Waits for its end: a bare server ends with its connection.
    pub(super) fn wait(mut self) -> Result<(), PerfError> {
        let ended = self.child.wait().map_err(rtrs)?;
        if ended.success() {
            Ok(())
        } else {
            Err(PerfError::Rtrs(format!("the bare server failed: {ended}")))
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its standard input tells it; it may have ended by itself.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Serves the parent until it lets go.
pub(super) fn serve_child(args: &RtrsArgs) -> Result<(), PerfError> {
    // Found free, and let go again: the listener of a session has no port of the system's choice.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(rtrs)?;
    let port = free.local_addr().map_err(rtrs)?.port();
    drop(free);
    let addresses: Vec<SocketAddr> =
        (1..=args.paths).map(|way| (Ipv4Addr::new(127, 0, 0, way as u8), port).into()).collect();
    let running = start(args, &addresses, false)?;
    let paths: Vec<String> = addresses.iter().map(|address| PathSpec::to(*address).to_string()).collect();
    println!("{}", paths.join(" "));
    std::io::stdout().flush().map_err(PerfError::Output)?;
    // Until the parent goes.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    stop(running)
}

/// Serves others until Ctrl-C.
pub(super) fn serve_here(args: &RtrsArgs, address: SocketAddr) -> Result<(), PerfError> {
    let mut signal = tgt_app::signals::StopSignal::install().map_err(PerfError::Signals)?;
    let running = start(args, &[address], true)?;
    eprintln!("serves sessions on {address}, without a key, until Ctrl-C");
    signal.wait();
    stop(running)
}

fn start(
    args: &RtrsArgs,
    addresses: &[SocketAddr],
    insecure: bool,
) -> Result<(Reactors, Arc<Sessions>), PerfError> {
    let cores = vec![args.core(args.server_core, 0)?];
    let reactors = Reactors::start(&StartOptions { cores, sleep: args.sleep(), pin: true }).map_err(rtrs)?;
    let sessions = Sessions::start(SessionsOptions {
        reactors: reactors.handles().clone(),
        keyring: Keyring::new(),
        host: Id([2; 16]),
        insecure,
        tell: Box::new(drop),
    })
    .map_err(rtrs)?;
    for address in addresses {
        let spec = ListenerSpec { address: *address, key: None, digest: !args.no_digest, reactor: None };
        sessions.add_listener(&spec).map_err(rtrs)?;
    }
    let make = |reactor: &mut tgt_reactor::Reactor| {
        let hub = Hub::of(reactor.cx());
        hub.serve(reactor.cx()).expect("nobody else serves in this process");
        Echo(hub)
    };
    reactors.handles()[0].spawn(make).map_err(rtrs)?;
    Ok((reactors, sessions))
}

fn stop((reactors, sessions): (Reactors, Arc<Sessions>)) -> Result<(), PerfError> {
    sessions.stop();
    let stuck = reactors.stop();
    if stuck.is_empty() { Ok(()) } else { Err(PerfError::Stuck(stuck)) }
}

struct Echo(Rc<Hub>);

impl Poller for Echo {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let mut work = Work::Idle;
        while let Some(event) = self.0.next_incoming() {
            work = Work::Busy;
            let ServerEvent::Request(incoming) = event else { continue };
            let bytes = match incoming.execute.direction {
                Direction::Read => incoming.execute.bytes,
                Direction::Write => 0,
            };
            let counts = Counts { result: Ok(0), bytes, user_len: 0 };
            self.0.answer(cx, Answer { incoming, counts, header: &[] });
        }
        work
    }

    fn name(&self) -> &str {
        "echo"
    }
}

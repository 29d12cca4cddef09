//! A server or a client that is a process: this test program, started again.

use super::{ClientRig, Load, Recorder, ServerRig, any_key};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use tgt_rtrs::client::Link;

const SERVER: &str = "RTRS_TEST_SERVER";
const CLIENT: &str = "RTRS_TEST_CLIENT";
const SESSIONS: &str = "RTRS_TEST_SESSIONS";
const LARGE: &str = "RTRS_TEST_LARGE";
const RECORD: &str = "RTRS_TEST_RECORD";
const MEMORY: u64 = 64 << 20;

/// A server of its own process, when it is asked for by [`server`].
#[test]
fn server_process() {
    let Ok(address) = std::env::var(SERVER) else { return };
    let record = std::env::var_os(RECORD).map(|path| Recorder::new(Path::new(&path)));
    let server = ServerRig::recording(any_key(), address.parse().expect("an address"), MEMORY, record);
    println!("says listens {}", server.address);
    serve(|| format!("{:?}", server.figures()));
}

/// A client of its own process, when it is asked for by [`client`].
#[test]
fn client_process() {
    let Ok(addresses) = std::env::var(CLIENT) else { return };
    let paths: Vec<SocketAddr> = addresses.split(',').map(|to| to.parse().expect("an address")).collect();
    let sessions: usize = std::env::var(SESSIONS).map_or(1, |count| count.parse().expect("a number"));
    println!("says starts");
    // Asked for once the process was looked at as it is without sessions.
    let mut asked = String::new();
    std::io::stdin().read_line(&mut asked).expect("the parent");
    let keys = (0..sessions).map(|_| any_key()).collect();
    let client = ClientRig::many(keys, &paths);
    client.wait_for("all are up", |log| log.links.len() >= sessions);
    println!("says up");
    std::io::stdin().read_line(&mut asked).expect("the parent");
    let large = std::env::var_os(LARGE).is_some();
    let (depth, bytes_max) = if large { (200, 1 << 20) } else { (32, 9000) };
    client.load(Load { requests: u64::MAX, depth, bytes_max });
    client.wait_for("load goes on", |log| log.done >= 1000);
    println!("says loaded");
    serve(|| {
        let log = client.log.lock().expect("a log");
        format!("{} done, {} failed, {} lives", log.done, log.failed, log.links.iter().filter(is_up).count())
    });
}

fn is_up(link: &&Link) -> bool {
    matches!(link, Link::Up { .. })
}

/// Answers each line with what `say` says, until the parent goes or ends this process.
fn serve(say: impl Fn() -> String) {
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).is_ok_and(|count| count > 0) {
        println!("says {}", say());
    }
}

/// How to start a server process that listens there, and writes down what it executes.
pub(crate) fn server(at: SocketAddr, record: Option<&Path>) -> Command {
    let mut command = again("server_process");
    command.env(SERVER, at.to_string());
    if let Some(path) = record {
        command.env(RECORD, path);
    }
    command
}

/// How to start a client process with these paths and so many sessions.
pub(crate) fn client(paths: &[SocketAddr], sessions: usize) -> Command {
    let mut command = again("client_process");
    let paths: Vec<String> = paths.iter().map(SocketAddr::to_string).collect();
    command.env(CLIENT, paths.join(",")).env(SESSIONS, sessions.to_string());
    command
}

/// The same with requests so large that answers wait to be sent.
pub(crate) fn client_of_large_requests(to: SocketAddr) -> Command {
    let mut command = client(&[to], 1);
    command.env(LARGE, "1");
    command
}

fn again(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", &format!("common::process::{name}"), "--nocapture"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A process that was started by what [`server`] and [`client`] say. Killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Process {
    /// On this thread's network.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("this program can be run");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, said }
    }

    /// The next thing that it says.
    pub(crate) fn hear(&mut self) -> String {
        let lines = (&mut self.said).lines().map_while(Result::ok);
        // libtest begins the line.
        let said = lines.filter_map(|line| line.split("says ").nth(1).map(str::to_owned)).next();
        said.expect("it says something")
    }

    /// Lets it go on, and hears what it says then.
    pub(crate) fn ask(&mut self) -> String {
        writeln!(self.child.stdin.as_mut().expect("piped")).expect("it listens");
        self.hear()
    }

    /// The address that a server says it listens at.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let said = self.hear();
        said.strip_prefix("listens ").expect("where").parse().expect("an address")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }

    /// Stops it, and lets it go on when this is dropped.
    pub(crate) fn stop(&self) -> Stopped {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it runs");
        Stopped(pid)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that does not run.
pub(crate) struct Stopped(rustix::process::Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been ended meanwhile.
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::CONT);
    }
}

/// Files that a process has open.
pub(crate) fn open_files(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").count()
}

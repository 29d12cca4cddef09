//! For this crate's tests: running one in a process of its own, and as a user with few rights.

use std::env;
use std::io::{Read, pipe};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::memory::lock_limit;

const KEY: &str = "RMR_ENV_TEST_ALONE";
/// Nothing run alone takes longer on a working machine.
const BOUND: Duration = Duration::from_secs(60);

/// Runs `body` in a fresh process: for tests that set process-wide limits, or that count process-wide things.
/// `module` is `module_path!()`, `test` the name of the calling test function.
pub(crate) fn alone(module: &str, test: &str, body: impl FnOnce()) {
    let name = format!("{module}::{test}");
    let name = name.split_once("::").map_or(name.as_str(), |(_crate, path)| path);
    if env::var(KEY).is_ok_and(|wanted| wanted == name) {
        return body();
    }
    let (mut output, input) = pipe().expect("a pipe");
    let mut command = Command::new(env::current_exe().expect("the test binary"));
    command
        .args(["--exact", name, "--nocapture"])
        .env(KEY, name)
        .stdin(Stdio::null())
        .stdout(input.try_clone().expect("a second handle"))
        .stderr(input);
    let mut child = command.spawn().expect("start the test binary again");
    // The command holds the writing end; without it the reader sees the end when the child is gone.
    drop(command);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for the child") {
            break status;
        }
        if start.elapsed() > BOUND {
            child.kill().expect("end the child");
            panic!("{name}: not done within {BOUND:?}");
        }
        thread::yield_now();
    };
    // Through `print!`, so that it is captured as this test's own output.
    print!("{}", reader.join().expect("the reader").expect("text"));
    assert!(status.success(), "{name} in its own process: {status}");
}

/// Limits locking to `bytes` and, if this is root, becomes `nobody`: root is not bound by the limit.
pub(crate) fn become_a_plain_user(bytes: u64) {
    const NOBODY: u32 = 65534;
    setrlimit(Resource::Memlock, Rlimit { current: Some(bytes), maximum: Some(bytes) })
        .expect("lowering is allowed");
    if rustix::process::geteuid().is_root() {
        // SAFETY: a plain system call (glibc makes it for all threads); capabilities go with the uid.
        assert_eq!(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) }, 0);
    }
    assert_eq!(lock_limit(), Some(bytes));
}

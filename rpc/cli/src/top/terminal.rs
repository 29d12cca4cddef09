//! The terminal: taken over whole, given back however this ends.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGTERM};
use std::io::{self, IsTerminal, Read, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Another screen, no cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What happened while we waited.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing.
    Nothing,
    /// A key.
    Key(char),
    /// One line up or down.
    Scroll { down: bool },
    /// Whoever sits there is gone, or wants to go.
    Quit,
}

/// The terminal of stdin and stdout. Dropping it gives it back as it was.
pub(crate) struct Terminal {
    before: Termios,
    told_to_end: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes it over; none if stdin or stdout is no terminal.
    pub(crate) fn take() -> io::Result<Option<Self>> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(None);
        }
        let told_to_end = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, told_to_end.clone())?;
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Flush, &raw)?;
        // From here on dropping it restores all.
        let terminal = Self { before, told_to_end };
        write(ENTER)?;
        Ok(Some(terminal))
    }

    /// Columns and rows; those of old where it does not know.
    pub(crate) fn size(&self) -> (u16, u16) {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
            _ => (80, 24),
        }
    }

    /// Shows these lines and nothing else.
    pub(crate) fn show(&self, lines: &[String]) -> io::Result<()> {
        // Each line is cleared as it is written: nothing flickers.
        let text: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
        write(&format!("\x1b[H{}\x1b[J", text.join("\r\n")))
    }

    /// Waits for a key, until `end`.
    pub(crate) fn wait(&self, end: Instant) -> io::Result<Input> {
        let left = end.saturating_duration_since(Instant::now());
        let (stdin, timeout) = (stdin(), timespec(left));
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        let ready = match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => ready > 0,
            // A signal: to end, or that the size is another.
            Err(Errno::INTR) => false,
            Err(why) => return Err(why.into()),
        };
        if self.told_to_end.load(Relaxed) {
            return Ok(Input::Quit);
        }
        if !ready {
            return Ok(Input::Nothing);
        }
        let mut bytes = [0; 16];
        let got = stdin.lock().read(&mut bytes)?;
        Ok(meaning(&bytes[..got]))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _gone = write(LEAVE);
        let _gone = tcsetattr(stdin(), OptionalActions::Flush, &self.before);
    }
}

/// What a terminal sends for a key.
fn meaning(bytes: &[u8]) -> Input {
    match bytes {
        // The end of input, Ctrl-C, Ctrl-D, q, Escape alone.
        [] | [3 | 4 | b'q' | b'Q' | 0x1b, ..] if !bytes.starts_with(b"\x1b[") => Input::Quit,
        [0x1b, b'[', b'A', ..] | [b'k', ..] => Input::Scroll { down: false },
        [0x1b, b'[', b'B', ..] | [b'j', ..] => Input::Scroll { down: true },
        [0x1b, ..] => Input::Nothing,
        [key, ..] => Input::Key(char::from(*key)),
        [] => Input::Quit,
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_they_should() {
        for (bytes, input) in [
            (&b"q"[..], Input::Quit),
            (b"\x03", Input::Quit),
            (b"\x1b", Input::Quit),
            (b"", Input::Quit),
            (b"\x1b[A", Input::Scroll { down: false }),
            (b"\x1b[B", Input::Scroll { down: true }),
            (b"\x1b[15~", Input::Nothing),
            (b"e", Input::Key('e')),
        ] {
            assert_eq!(meaning(bytes), input, "{bytes:?}");
        }
    }
}

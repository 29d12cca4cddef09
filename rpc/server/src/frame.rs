//! From bytes as they arrive to whole requests.

use crate::scan::{DEPTH_MAX, Fault, Scanner, VALUES_MAX};

/// The longest request, as in SPDK: 256 KiB.
pub const REQUEST_BYTES_MAX: usize = 256 << 10;
/// A buffer that grew beyond this is given back when it is empty.
const KEEP_BYTES: usize = 64 << 10;

/// What the bytes so far make.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// No whole request yet.
    More,
    /// The text of one whole JSON value.
    Request(&'a str),
    /// The stream cannot be followed any further; why.
    Broken(String),
}

/// Collects the bytes of one connection.
pub(crate) struct Framer {
    bytes: Vec<u8>,
    /// Everything before was handed out.
    start: usize,
    /// Everything before was looked at.
    scanned: usize,
    scanner: Scanner,
}

impl Framer {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, scanned: 0, scanner: Scanner::new() }
    }

    /// Adds bytes. Between two calls [`Framer::next`] must have said [`Frame::More`].
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEEP_BYTES);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole request, if there is one.
    pub(crate) fn next(&mut self) -> Frame<'_> {
        if self.start == self.scanned {
            self.skip_blanks();
        }
        let found = match self.scanner.feed(&self.bytes[self.scanned..]) {
            Ok(found) => found,
            Err(fault) => return Frame::Broken(fault.text()),
        };
        let end = self.scanned + found.unwrap_or(self.bytes.len() - self.scanned);
        self.scanned = end;
        if end - self.start > REQUEST_BYTES_MAX {
            return Frame::Broken(format!("the request is longer than {REQUEST_BYTES_MAX} bytes"));
        }
        if found.is_none() {
            return Frame::More;
        }
        let value = &self.bytes[self.start..end];
        self.start = end;
        match std::str::from_utf8(value) {
            Ok(text) => Frame::Request(text),
            Err(why) => Frame::Broken(format!("the request is not UTF-8: {why}")),
        }
    }

    fn skip_blanks(&mut self) {
        let blanks = self.bytes[self.start..]
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
        self.start += blanks;
        self.scanned = self.start;
    }
}

impl Fault {
    fn text(self) -> String {
        match self {
            Self::NotJson => "this is not JSON".to_owned(),
            Self::TooDeep => format!("nested deeper than {DEPTH_MAX} levels"),
            Self::TooManyValues => format!("more than {VALUES_MAX} values in one request"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_each_other_with_or_without_blanks() {
        let mut framer = Framer::new();
        framer.push(b"{} {\"a\":1}[2]\n7 [");
        for expect in ["{}", "{\"a\":1}", "[2]", "7"] {
            assert_eq!(framer.next(), Frame::Request(expect));
        }
        assert_eq!(framer.next(), Frame::More);
        framer.push(b"]");
        assert_eq!(framer.next(), Frame::Request("[]"));
        assert_eq!(framer.next(), Frame::More);
    }

    #[test]
    fn a_request_of_the_largest_size_passes_and_one_byte_more_breaks() {
        for (extra, fits) in [(0, true), (1, false)] {
            let text = format!("\"{}\"", "x".repeat(REQUEST_BYTES_MAX - 2 + extra));
            let mut framer = Framer::new();
            framer.push(text.as_bytes());
            assert_eq!(matches!(framer.next(), Frame::Request(_)), fits, "{extra}");
        }
        let mut framer = Framer::new();
        framer.push("[".as_bytes());
        framer.push(" ".repeat(REQUEST_BYTES_MAX).as_bytes());
        assert!(matches!(framer.next(), Frame::Broken(_)));
    }

    #[test]
    fn blanks_between_requests_are_not_kept() {
        let mut framer = Framer::new();
        for _ in 0..100 {
            framer.push(&[b' '; 10_000]);
            assert_eq!(framer.next(), Frame::More);
        }
        assert!(framer.bytes.capacity() < 100_000);
    }

    #[test]
    fn bytes_that_are_no_text_break_the_stream() {
        let mut framer = Framer::new();
        framer.push(b"\"\xff\"");
        assert!(matches!(framer.next(), Frame::Broken(why) if why.contains("UTF-8")));
    }
}

//! Bytes on the socket, for what no proper client sends.

use crate::PATIENCE;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection without manners.
pub struct Raw {
    reader: BufReader<UnixStream>,
}

impl Raw {
    /// Connects.
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("a target");
        stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
        stream.set_write_timeout(Some(PATIENCE)).expect("a bound");
        Self { reader: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the target reads");
    }

    /// Sends bytes; an error if the peer has closed or does not read.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// The stream itself.
    pub fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    /// The next line as JSON; None when the peer has closed.
    pub fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|why| panic!("{line:?}: {why}"))),
            Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(why) => panic!("no answer within {PATIENCE:?}: {why}"),
        }
    }

    /// Sends one request's text and returns its answer.
    pub fn ask(&mut self, request: &str) -> Value {
        self.send(request.as_bytes());
        self.answer().expect("an answer")
    }
}

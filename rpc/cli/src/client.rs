//! One connection to a target.

use crate::diagnose::Unreachable;
use crate::error::{Error, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A connection to a target. Any thread; one call at a time, blocking.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<Timed>,
    limit: Duration,
    calls: u64,
}

/// A stream whose reads and writes end at a moment, however little each of them brings.
#[derive(Debug)]
struct Timed {
    stream: UnixStream,
    deadline: Instant,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Value,
    result: Option<Value>,
    error: Option<Refusal>,
}

impl Client {
    /// Connects to the socket at `path`. Each call gets `limit` to be answered in.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, Error> {
        let stream = UnixStream::connect(path).map_err(|error| Error::Unreachable {
            path: path.to_owned(),
            why: Unreachable::find(path, error),
        })?;
        let stream = BufReader::new(Timed { stream, deadline: Instant::now() });
        Ok(Self { stream, limit, calls: 0 })
    }

    /// From now on each call gets `limit`.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Calls `method`; without `params` the request has none. Returns the result.
    ///
    /// After [`Error::Refused`] the connection is as good as before; after any other error it is of no use.
    pub fn call(&mut self, method: &str, params: Option<&Value>) -> Result<Value, Error> {
        self.calls += 1;
        let id = json!(self.calls);
        let mut request = json!({"jsonrpc": "2.0", "id": id, "method": method});
        if let Some(params) = params {
            request["params"] = params.clone();
        }
        self.stream.get_mut().deadline = Instant::now() + self.limit;
        let broken = |why: String| Error::Broken { method: method.to_owned(), why };
        let sent = self.stream.get_mut().write_all(format!("{request}\n").as_bytes());
        match sent {
            // A target that closed may have said why first: read on.
            Err(why) if why.kind() == ErrorKind::BrokenPipe => {}
            other => other.map_err(|why| self.failed(method, &why))?,
        }
        let answer = self.answer(method)?;
        if answer.id != id && !answer.id.is_null() {
            return Err(broken(format!("the answer is to call {}, not to {id}", answer.id)));
        }
        match (answer.result, answer.error) {
            (_, Some(refusal)) => {
                Err(Error::Refused { method: method.to_owned(), refusal: Box::new(refusal) })
            }
            (result, None) => Ok(result.unwrap_or(Value::Null)),
        }
    }

    fn answer(&mut self, method: &str) -> Result<Answer, Error> {
        let mut answers = serde_json::Deserializer::from_reader(&mut self.stream).into_iter::<Answer>();
        let Some(answer) = answers.next() else {
            return Err(Error::Closed { method: method.to_owned() });
        };
        answer.map_err(|why| match why.io_error_kind() {
            Some(kind) => self.failed(method, &kind.into()),
            None if why.is_eof() => Error::Closed { method: method.to_owned() },
            None => {
                Error::Broken { method: method.to_owned(), why: format!("the answer is no JSON-RPC: {why}") }
            }
        })
    }

    fn failed(&self, method: &str, why: &io::Error) -> Error {
        let method = method.to_owned();
        match why.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Error::Timeout { method, limit: self.limit },
            ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => Error::Closed { method },
            _ => Error::Broken { method, why: why.to_string() },
        }
    }
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(bytes)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Calls `m` on a server that reads one request and writes `answer`, then keeps the connection while `open`.
    fn call(answer: &str, open: bool, limit: Duration) -> Result<Value, Error> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).expect("a socket");
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 4096];
                let got = stream.read(&mut request).expect("a request");
                assert!(request[..got].ends_with(b"\"method\":\"m\"}\n"));
                stream.write_all(answer.as_bytes()).expect("room");
                if open {
                    assert_eq!(stream.read(&mut request).expect("the end"), 0);
                }
            });
            Client::connect(&path, limit).expect("a server").call("m", None)
        })
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn results_are_exact_and_refusals_keep_their_detail() {
        let exact = call("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":18446744073709551615}\n", true, LONG);
        assert_eq!(exact.expect("a result"), json!(u64::MAX));
        let null = call("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}\n", true, LONG);
        assert_eq!(null.expect("a result"), Value::Null);
        let refused =
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-17,"message":"File exists","data":{"a":1}}}"#;
        match call(refused, true, LONG) {
            Err(Error::Refused { refusal, .. }) => {
                assert_eq!((refusal.code, refusal.detail("a")), (-17, Some(&json!(1))));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn silence_ends_at_the_deadline_and_a_closed_connection_at_once() {
        let silent = call("{\"jsonrpc\":", true, Duration::from_millis(50));
        assert!(matches!(silent, Err(Error::Timeout { .. })), "{silent:?}");
        for answer in ["", "{\"jsonrpc\":"] {
            let closed = call(answer, false, LONG);
            assert!(matches!(closed, Err(Error::Closed { .. })), "{closed:?}");
        }
        let garbage = call("hello\n", true, LONG);
        assert!(matches!(garbage, Err(Error::Broken { .. })), "{garbage:?}");
        let other = call("{\"id\":9,\"result\":true}\n", true, LONG);
        assert!(matches!(other, Err(Error::Broken { .. })), "{other:?}");
    }
}

//! One connection, on its own thread: read, answer in order, until the client goes or the stream breaks.

use crate::answer::{answer, broken};
use crate::connections::Seat;
use crate::frame::{Frame, Framer};
use rpc_registry::{Registry, Scope};
use std::io::{self, Read, Write};
use std::time::Duration;

/// Bytes read at a time.
const READ_BYTES: usize = 16 << 10;

/// Serves one connection to its end.
pub(crate) fn serve(seat: &Seat, registry: &Registry, scope: &Scope, write_timeout: Duration) {
    if let Err(why) = run(seat, registry, scope, write_timeout) {
        tracing::debug!("an RPC connection ended: {why}");
    }
}

fn run(seat: &Seat, registry: &Registry, scope: &Scope, write_timeout: Duration) -> io::Result<()> {
    let mut stream = seat.stream.as_ref();
    stream.set_write_timeout(Some(write_timeout))?;
    let mut framer = Framer::new();
    let mut bytes = [0; READ_BYTES];
    loop {
        let count = match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(why),
        };
        framer.push(&bytes[..count]);
        loop {
            match framer.next() {
                Frame::More => break,
                Frame::Request(text) => {
                    let reply = seat.in_handler(|| answer(registry, &seat.asker, scope, text));
                    if let Some(reply) = reply {
                        stream.write_all(reply.as_bytes())?;
                    }
                }
                Frame::Broken(why) => return stream.write_all(broken(&why).as_bytes()),
            }
            if seat.stopping() {
                return Ok(());
            }
        }
    }
}

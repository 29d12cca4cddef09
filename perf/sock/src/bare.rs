//! The same with system calls alone: a staging buffer, `recv`, `sendmsg`, nothing else.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use rustix::net::{RecvFlags, recv, sockopt};
use tgt_env::bufs::PieceList;
use tgt_env::cores::pin_current_thread;
use tgt_env::memory::DmaBuf;

use crate::wire::{ANSWER, Load, Outcome, REQUEST, Setting, decode, encode, waited_ns};

const STAGING: usize = 512 << 10;

/// One end: what came, what goes.
struct End {
    socket: TcpStream,
    staging: DmaBuf,
    have: usize,
    heads: Vec<u8>,
    /// Ends of heads in `heads`, and the payload behind each.
    outgoing: Vec<(usize, Option<u32>)>,
    pieces: PieceList,
    /// One payload for each number.
    payloads: Vec<DmaBuf>,
    calls: u64,
}

impl End {
    fn new(socket: TcpStream, setting: &Setting, payloads: u32) -> End {
        socket.set_nodelay(true).expect("TCP");
        socket.set_nonblocking(true).expect("TCP");
        sockopt::set_tcp_congestion(&socket, &setting.congestion).expect("this congestion control");
        let payload = |_| DmaBuf::alloc_zeroed(setting.payload).expect("memory");
        End {
            socket,
            staging: DmaBuf::alloc(STAGING as u32).expect("memory"),
            have: 0,
            heads: Vec::new(),
            outgoing: Vec::new(),
            pieces: PieceList::new(),
            payloads: (0..payloads).map(payload).collect(),
            calls: 0,
        }
    }

    /// Reads once. None: the other end has gone.
    fn read(&mut self) -> Option<usize> {
        self.calls += 1;
        let room = &mut self.staging.as_mut_slice()[self.have..];
        match recv(&self.socket, room, RecvFlags::DONTWAIT) {
            Ok((0, _)) => None,
            Ok((count, _)) => {
                self.have += count;
                Some(count)
            }
            Err(rustix::io::Errno::AGAIN) => Some(0),
            Err(error) => panic!("recv: {error}"),
        }
    }

    fn push(&mut self, len: usize, writes: bool, number: u32, with_payload: bool) {
        let at = self.heads.len();
        self.heads.resize(at + len, 0);
        encode(&mut self.heads[at..], writes, number);
        self.outgoing.push((at + len, with_payload.then_some(number)));
    }

    /// Keeps what was not consumed, sends what is queued.
    fn settle(&mut self, consumed: usize) {
        self.staging.as_mut_slice().copy_within(consumed..self.have, 0);
        self.have -= consumed;
        let mut done = 0;
        while !self.outgoing.is_empty() {
            let mut gather = self.pieces.gather();
            let (mut at, mut skip) = (0, done);
            let mut add = |bytes| {
                let bytes: &[u8] = bytes;
                let rest = &bytes[skip.min(bytes.len())..];
                skip -= bytes.len() - rest.len();
                assert!(gather.push_bytes(rest), "fewer pieces than a call takes");
            };
            for &(end, payload) in &self.outgoing {
                add(&self.heads[at..end]);
                at = end;
                if let Some(number) = payload {
                    add(self.payloads[number as usize].as_slice());
                }
            }
            self.calls += 1;
            let left = gather.bytes();
            match gather.send(&self.socket) {
                Ok(sent) if sent == left => break,
                Ok(sent) => done += sent,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
        }
        self.heads.clear();
        self.outgoing.clear();
    }
}

/// Says on standard output where it listens, serves one connection.
///
/// # Panics
/// If the machine does not give what it needs, or the other end does not speak [`crate::wire`].
pub fn serve(setting: &Setting) {
    pin_current_thread(setting.core).expect("its core");
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    println!("{}", listener.local_addr().expect("bound"));
    io::stdout().flush().expect("somebody reads it");
    let (socket, _) = listener.accept().expect("a client");
    let mut end = End::new(socket, setting, 256);
    while let Some(count) = end.read() {
        if count == 0 {
            continue;
        }
        let mut at = 0;
        while end.have - at >= REQUEST {
            let (writes, number) = decode(&end.staging.as_slice()[at..at + REQUEST]);
            let len = REQUEST + if writes { setting.payload as usize } else { 0 };
            if end.have - at < len {
                break;
            }
            if writes {
                let payload = &end.staging.as_slice()[at + REQUEST..at + len];
                end.payloads[number as usize].as_mut_slice().copy_from_slice(payload);
            }
            at += len;
            end.push(ANSWER, writes, number, !writes);
        }
        end.settle(at);
    }
}

/// Loads a server.
///
/// # Panics
/// As [`serve`].
#[must_use]
pub fn drive(address: SocketAddr, setting: &Setting, load: Load) -> Outcome {
    // A thread of its own: it is pinned.
    let body = || {
        pin_current_thread(setting.core).expect("its core");
        drive_here(address, setting, load)
    };
    std::thread::scope(|scope| scope.spawn(body).join()).expect("no panic")
}

fn drive_here(address: SocketAddr, setting: &Setting, load: Load) -> Outcome {
    let mut end = End::new(TcpStream::connect(address).expect("the server"), setting, load.depth);
    let (start, waited) = (Instant::now(), waited_ns());
    (0..load.depth).for_each(|number| end.push(REQUEST, load.writes, number, load.writes));
    end.settle(0);
    let (mut count, mut under_way, mut over) = (0, load.depth, false);
    while under_way > 0 {
        end.read().expect("the server is there");
        let mut at = 0;
        while end.have - at >= ANSWER {
            let (writes, number) = decode(&end.staging.as_slice()[at..at + ANSWER]);
            let len = ANSWER + if writes { 0 } else { setting.payload as usize };
            if end.have - at < len {
                break;
            }
            assert_eq!(writes, load.writes);
            if !writes {
                let payload = &end.staging.as_slice()[at + ANSWER..at + len];
                end.payloads[number as usize].as_mut_slice().copy_from_slice(payload);
            }
            at += len;
            count += 1;
            if over {
                under_way -= 1;
            } else {
                end.push(REQUEST, load.writes, number, load.writes);
            }
        }
        over |= at > 0 && start.elapsed() >= load.time;
        end.settle(at);
    }
    let time = start.elapsed();
    let waited = (waited_ns() - waited) as f64 / time.as_nanos() as f64;
    Outcome { count, time, calls: end.calls, waited }
}

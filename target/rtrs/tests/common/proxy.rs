//! A proxy that passes bytes on until it is told not to.

use super::loopback;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// A proxy that passes bytes on until it is told not to.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    mute: Arc<AtomicBool>,
    corrupt: Arc<AtomicBool>,
}

impl Proxy {
    pub(crate) fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback()).expect("loopback");
        let address = listener.local_addr().expect("its address");
        let (sockets, mute) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let corrupt = Arc::new(AtomicBool::new(false));
        let (all, muted, corrupts) = (sockets.clone(), mute.clone(), corrupt.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    all.lock().expect("sockets").push(from.try_clone().expect("a socket"));
                    let (muted, corrupts) = (muted.clone(), corrupts.clone());
                    std::thread::spawn(move || pass(from, to, &muted, &corrupts));
                }
            }
        });
        Self { address, sockets, mute, corrupt }
    }

    /// Breaks all connections.
    pub(crate) fn kill(&self) {
        for socket in self.sockets.lock().expect("sockets").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Turns one bit in an eighth of what it passes on, from then on or not any more.
    pub(crate) fn corrupt(&self, corrupt: bool) {
        self.corrupt.store(corrupt, SeqCst);
    }

    /// Swallows bytes and says nothing, or passes what comes from then on.
    pub(crate) fn mute(&self, mute: bool) {
        self.mute.store(mute, SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, muted: &AtomicBool, corrupt: &AtomicBool) {
    let mut bytes = [0; 65536];
    loop {
        match from.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(_) if muted.load(SeqCst) => {}
            Ok(count) => {
                if corrupt.load(SeqCst) && fastrand::u32(..8) == 0 {
                    bytes[fastrand::usize(..count)] ^= 1 << fastrand::u32(..8);
                }
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

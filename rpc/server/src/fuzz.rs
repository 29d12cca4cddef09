//! Entry point for the fuzzer: any bytes as what a client sends.

use crate::answer::{answer, broken};
use crate::frame::{Frame, Framer};
use rpc_registry::{Asker, Registry, Scope};
use std::sync::LazyLock;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let registry = Registry::new();
    registry.enter_runtime();
    registry
});

/// Feeds `data` as it comes and byte by byte; both must give the same answers. Never panics.
pub fn request(data: &[u8]) {
    let whole = replies([data]);
    let bytes = replies(data.chunks(1));
    assert_eq!(whole, bytes, "the answers depend on how the bytes arrive");
    assert!(whole.is_ascii());
    for line in whole.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("a reply is JSON");
    }
}

/// What a connection would answer to these pieces.
pub fn replies<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut framer = Framer::new();
    let mut out = String::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next() {
                Frame::More => break,
                Frame::Request(text) => out.extend(answer(&REGISTRY, &Asker::new(), &Scope::all(), text)),
                Frame::Broken(why) => return out + &broken(&why),
            }
        }
    }
    out
}

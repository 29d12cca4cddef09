//! Byte streams between hosts: in order, in pieces, late, cut anywhere.

use std::collections::VecDeque;

/// Towards whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum To {
    Client = 0,
    Server = 1,
}

/// What a stream delivers.
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    /// Nothing more comes.
    End,
}

#[derive(Default)]
pub(crate) struct Stream {
    /// When each piece arrives at the earliest.
    pub(crate) pieces: VecDeque<(u64, Piece)>,
    pub(crate) last_at: u64,
    /// Bytes that arrived, and how many of them the sender knows of.
    pub(crate) arrived: u64,
    pub(crate) acknowledged: u64,
    /// A delivery is in the queue of events.
    pub(crate) armed: bool,
}

/// One connection of one client's path.
pub(crate) struct Wire {
    pub(crate) client: usize,
    pub(crate) path: usize,
    pub(crate) streams: [Stream; 2],
    /// Bytes the client sent, for those that record and play them again.
    pub(crate) record: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(client: usize, path: usize) -> Self {
        Self { client, path, streams: Default::default(), record: Vec::new() }
    }

    /// Puts bytes on their way, cut into pieces. Each byte keeps the wire busy for `byte_ns`.
    pub(crate) fn send(
        &mut self,
        to: To,
        bytes: &[u8],
        now: u64,
        delay: u64,
        byte_ns: u64,
        rng: &mut fastrand::Rng,
    ) {
        let stream = &mut self.streams[to as usize];
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = if byte_ns > 0 { rest.len().min(250) } else { rest.len() };
            let cut = if rng.u8(..) < 40 { rng.usize(1..=most) } else { most };
            let (piece, after) = rest.split_at(cut);
            let jitter = if rng.u8(..) < 30 { rng.u64(0..delay * 4) } else { 0 };
            stream.last_at = stream.last_at.max(now + delay + jitter) + cut as u64 * byte_ns;
            stream.pieces.push_back((stream.last_at, Piece::Bytes(piece.to_vec())));
            rest = after;
        }
    }

    pub(crate) fn end(&mut self, to: To, at: u64) {
        let stream = &mut self.streams[to as usize];
        stream.last_at = stream.last_at.max(at);
        stream.pieces.push_back((stream.last_at, Piece::End));
    }

    /// The connection breaks: of what is under way some arrives, cut at any byte, then its end.
    pub(crate) fn reset(&mut self, now: u64, rng: &mut fastrand::Rng) {
        for stream in &mut self.streams {
            let keep = rng.usize(0..=stream.pieces.len());
            stream.pieces.truncate(keep);
            if let Some((_, Piece::Bytes(last))) = stream.pieces.back_mut() {
                let keep = rng.usize(0..=last.len());
                last.truncate(keep);
            }
            stream.last_at = stream.last_at.max(now);
            stream.pieces.push_back((stream.last_at, Piece::End));
        }
    }
}

/// A secret for tests: keyed checksums, enough to tell right from wrong.
#[derive(Clone)]
pub(crate) struct Secret(pub u64);

impl tgt_rtrs::Secret for Secret {
    fn hmac_sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = [0; 32];
        for (salt, word) in mac.chunks_exact_mut(4).enumerate() {
            let salted = [&(self.0 + salt as u64).to_le_bytes()[..], &parts.concat()].concat();
            word.copy_from_slice(&tgt_rtrs::crc32c(&salted).to_le_bytes());
        }
        mac
    }
}

/// The bytes that belong to a request or its answer.
pub(crate) fn pattern(tag: u64, bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(tag);
    (0..bytes).map(|_| rng.u8(..)).collect()
}

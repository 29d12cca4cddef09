//! What waits to be sent on one stream: bytes that were copied, payloads that were lent, in order.

use std::collections::VecDeque;

use tgt_env::bufs::{Bufs, Gather};

/// A payload: a piece of an IO's memory, moved in and handed back.
#[derive(Debug)]
pub struct Payload {
    /// The memory.
    pub bufs: Bufs,
    /// First byte in it.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
    /// The user's own number for it.
    pub tag: u64,
}

impl Payload {
    /// All of `bufs`.
    #[must_use]
    pub fn whole(bufs: Bufs, tag: u64) -> Payload {
        Payload { len: bufs.len(), offset: 0, bufs, tag }
    }

    /// Panics if it reaches beyond its memory: a bug of the caller's, better met here than in a later turn.
    pub(crate) fn check(&self) {
        let end = u64::from(self.offset) + u64::from(self.len);
        let have = self.bufs.len();
        assert!(end <= u64::from(have), "a payload of {} bytes at {} of {have}", self.len, self.offset);
    }
}

/// Most bytes that one call sends, so that no stream keeps the others waiting for long.
const CALL_BYTES: usize = 1 << 20;

/// Bytes sent that may stay in front of those that wait, before these are moved.
const SLACK: usize = 64 << 10;

enum Piece {
    /// So many of `heads`.
    Heads(usize),
    /// Its bytes from `done` on.
    Payload { payload: Payload, done: u32 },
}

/// The queue.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// All bytes that were copied and not yet sent, after `sent` that were.
    heads: Vec<u8>,
    sent: usize,
    pieces: VecDeque<Piece>,
    /// Bytes and segments of all pieces.
    bytes: usize,
    segments: usize,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    /// Bytes of memory that an empty one holds.
    pub(crate) fn held(&self) -> usize {
        self.heads.capacity() + self.pieces.capacity() * size_of::<Piece>()
    }

    pub(crate) fn push_head(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.heads.extend_from_slice(bytes);
        self.bytes += bytes.len();
        if let Some(Piece::Heads(len)) = self.pieces.back_mut() {
            *len += bytes.len();
        } else {
            self.pieces.push_back(Piece::Heads(bytes.len()));
            self.segments += 1;
        }
    }

    pub(crate) fn push_payload(&mut self, payload: Payload) {
        self.bytes += payload.len as usize;
        self.segments += segments(&payload);
        self.pieces.push_back(Piece::Payload { payload, done: 0 });
    }

    /// Lists what one call may send.
    pub(crate) fn list<'a>(&'a self, gather: &mut Gather<'a>) {
        let mut at = self.sent;
        for piece in &self.pieces {
            let fits = match piece {
                Piece::Heads(len) => {
                    at += len;
                    gather.push_bytes(&self.heads[at - len..at])
                }
                Piece::Payload { payload, done } => {
                    gather.push_bufs(&payload.bufs, payload.offset + done, payload.len - done)
                }
            };
            if !fits || gather.bytes() >= CALL_BYTES {
                return;
            }
        }
    }

    /// The kernel took `count` bytes: payloads of which it has all go to `sent`.
    pub(crate) fn advance(&mut self, count: usize, mut sent: impl FnMut(Payload)) {
        let mut left = count;
        self.bytes -= count;
        loop {
            match self.pieces.front_mut() {
                Some(Piece::Heads(len)) => {
                    let took = left.min(*len);
                    (left, *len, self.sent) = (left - took, *len - took, self.sent + took);
                    if *len > 0 {
                        break;
                    }
                    self.pieces.pop_front();
                    self.segments -= 1;
                }
                Some(Piece::Payload { payload, done }) => {
                    let took = left.min((payload.len - *done) as usize);
                    (left, *done) = (left - took, *done + took as u32);
                    if *done < payload.len {
                        break;
                    }
                    if let Some(Piece::Payload { payload, .. }) = self.pieces.pop_front() {
                        self.segments -= segments(&payload);
                        sent(payload);
                    }
                }
                None => break,
            }
        }
        assert_eq!(left, 0, "the kernel took no more than it was given");
        self.tidy();
    }

    /// Gives all payloads back and forgets the rest.
    pub(crate) fn clear(&mut self, mut unsent: impl FnMut(Payload)) {
        for piece in self.pieces.drain(..) {
            if let Piece::Payload { payload, .. } = piece {
                unsent(payload);
            }
        }
        self.heads.clear();
        (self.sent, self.bytes, self.segments) = (0, 0, 0);
    }

    /// Forgets bytes that were sent, once that is cheap.
    fn tidy(&mut self) {
        if self.sent == self.heads.len() {
            self.heads.clear();
            self.sent = 0;
        } else if self.sent > SLACK && self.sent > self.heads.len() / 2 {
            self.heads.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// An upper bound of the pieces it takes in a call.
pub(crate) fn segments(payload: &Payload) -> usize {
    payload.bufs.segment_count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use tgt_env::bufs::PieceList;
    use tgt_env::memory::DmaBuf;

    fn payload(bytes: &[u8], tag: u64) -> Payload {
        let mut buf = DmaBuf::alloc(bytes.len().max(1) as u32 + 3).expect("memory");
        buf.as_mut_slice()[3..3 + bytes.len()].copy_from_slice(bytes);
        Payload { bufs: buf.into(), offset: 3, len: bytes.len() as u32, tag }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// However many bytes the kernel takes at a time, they are the queued ones in order, and each payload comes back
        /// once, after its last byte.
        #[test]
        fn partial_writes_resume_where_they_ended(
            items in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 1..40),
            takes in prop::collection::vec(1usize..2000, 1..200),
        ) {
            let (mut queue, mut list) = (Outgoing::default(), PieceList::new());
            let (mut expected, mut ends) = (Vec::new(), Vec::new());
            for (tag, (is_payload, bytes)) in items.iter().enumerate() {
                expected.extend_from_slice(bytes);
                if *is_payload {
                    ends.push((tag as u64, expected.len()));
                    queue.push_payload(payload(bytes, tag as u64));
                } else {
                    queue.push_head(bytes);
                }
            }
            prop_assert_eq!(queue.bytes(), expected.len());
            let (mut got, mut back, mut takes) = (Vec::new(), Vec::new(), takes.iter().cycle());
            while !queue.is_empty() {
                let (near, mut far) = UnixStream::pair().expect("a pair");
                let mut gather = list.gather();
                queue.list(&mut gather);
                let sent = if gather.bytes() > 0 { gather.send(&near).expect("room") } else { 0 };
                let took = sent.min(*takes.next().expect("endless"));
                let mut bytes = vec![0; took];
                far.read_exact(&mut bytes).expect("sent");
                got.extend(bytes);
                queue.advance(took, |payload| back.push((payload.tag, got.len())));
            }
            prop_assert_eq!(&got, &expected);
            prop_assert_eq!((queue.bytes(), queue.segments()), (0, 0));
            prop_assert_eq!(back.len(), ends.len());
            for ((tag, at), (want, end)) in back.iter().zip(&ends) {
                prop_assert!(tag == want && at >= end, "{tag} came back after {at} bytes, it ends at {end}");
            }
        }
    }

    #[test]
    fn what_was_not_sent_is_given_back() {
        let mut queue = Outgoing::default();
        queue.push_head(b"head");
        queue.push_payload(payload(b"one", 1));
        queue.push_payload(payload(b"two", 2));
        let mut sent = Vec::new();
        queue.advance(8, |payload| sent.push(payload.tag));
        let mut unsent = Vec::new();
        queue.clear(|payload| unsent.push(payload.tag));
        assert_eq!((sent, unsent), (vec![1], vec![2]));
        assert!(queue.is_empty() && queue.bytes() == 0 && queue.segments() == 0);
    }

    #[test]
    fn bytes_side_by_side_are_one_piece() {
        let mut queue = Outgoing::default();
        (0..100).for_each(|_| queue.push_head(b"0123456789"));
        assert_eq!((queue.segments(), queue.bytes()), (1, 1000));
    }
}

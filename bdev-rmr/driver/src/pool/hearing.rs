//! What a leg says: answers to what it was sent, and letters of its own.

use super::Pool;
use super::leg::LegState;
use super::sending::{Asked, LETTER_ROOM, What};
use rmr_engine::client::ClientEvent as Event;
use rmr_proto::envelope::{Envelope, Status};
use rmr_proto::{BufId, IoReply, IoStatus, MemberId, Msg, PoolId, wire};
use tgt_env::bufs::Bufs;
use tgt_reactor::Cx;
use tgt_rtrs::tcp::Done;

impl Pool {
    /// A request to a leg has ended.
    pub(super) fn leg_done(&mut self, cx: &mut Cx, at: usize, done: Done) {
        let Done { tag, result, header, bufs, .. } = done;
        let tag = tag as u32;
        let (member, what) = self.sent.take(tag);
        self.leg(at).lent -= u32::from(what.copy().is_some());
        match result {
            // The session has not been answered: it says itself that it is down.
            Err(_) => self.unsent(cx, what, bufs),
            Ok(answer) => {
                let understood = match (answer.result, Envelope::decode(&header)) {
                    (Ok(_), Ok((envelope, _))) if envelope.from.is_some_and(|from| from != member) => Err(
                        format!("member {} answers in its place", envelope.from.map_or(0, MemberId::index)),
                    ),
                    (Ok(_), Ok((envelope, rest))) => Ok(Heard { envelope, rest, bytes: answer.bytes }),
                    (Ok(_), Err(error)) => Err(format!("its answer is not understood: {error}")),
                    (Err(refused), _) => Err(format!("the session layer refuses: {refused:?}")),
                };
                match what {
                    What::Io(asked) => self.io_answered(cx, at, asked, understood, bufs),
                    What::Collect if self.leg(at).collect != Some(tag) => {}
                    what => self.answered(cx, at, (member, what), understood, &bufs),
                }
            }
        }
        self.hub.recycle(header);
    }

    /// A read or write has been answered. What was asked before the leg went down has been forgotten.
    fn io_answered(
        &mut self,
        cx: &mut Cx,
        at: usize,
        asked: Asked,
        heard: Result<Heard<'_>, String>,
        bufs: Bufs,
    ) {
        let reply = heard.and_then(|heard| heard.io_reply(self.id, &asked));
        let late = self.leg(at).life != asked.life;
        let read = match (&asked.copy, &reply) {
            (Some(copy), _) => {
                self.memory.give_back(cx, *copy, bufs);
                None
            }
            (None, Ok(reply)) if brings_bytes(reply, &asked) && !late => Some(self.memory.keep(bufs)),
            (None, _) => None,
        };
        match reply {
            _ if late => {}
            Ok(reply) => self.tell(cx, Event::Msg(MemberId::at(at), Msg::IoReply(reply, read))),
            Err(why) => self.leg_down(cx, at, LegState::Refused(why)),
        }
    }

    fn answered(
        &mut self,
        cx: &mut Cx,
        at: usize,
        (member, what): (MemberId, What),
        heard: Result<Heard<'_>, String>,
        bufs: &Bufs,
    ) {
        let Heard { envelope, rest, bytes } = match heard {
            Ok(heard) => heard,
            Err(why) => return self.leg_down(cx, at, LegState::Refused(why)),
        };
        match what {
            What::Hail => self.hailed(cx, at, member, envelope.status, rest),
            What::Collect if bytes > 0 => {
                let mut letter = vec![0; bytes as usize];
                bufs.copy_to_slice(0, &mut letter);
                self.collected(cx, at, envelope, &letter);
            }
            What::Collect => self.collected(cx, at, envelope, rest),
            What::Letter | What::Io(_) if envelope.status == Status::Done => {}
            What::Letter | What::Io(_) => {
                self.leg_down(cx, at, LegState::Refused(envelope.status.to_string()));
            }
        }
    }

    /// A letter for us, or room for it wanted.
    fn collected(&mut self, cx: &mut Cx, at: usize, envelope: Envelope, letter: &[u8]) {
        match envelope.status {
            Status::Done => {
                if envelope.length > 0 {
                    self.read_letter(cx, at, letter);
                }
                if self.legs[at].as_ref().is_some_and(|leg| leg.state == LegState::Up) {
                    self.collect(cx, at, LETTER_ROOM);
                }
            }
            Status::Larger if envelope.length as usize <= wire::MESSAGE_BYTES_MAX => {
                self.collect(cx, at, envelope.length.next_multiple_of(LETTER_ROOM));
            }
            status => self.leg_down(cx, at, LegState::Refused(status.to_string())),
        }
    }

    fn read_letter(&mut self, cx: &mut Cx, at: usize, letter: &[u8]) {
        match message(self.id, letter, None) {
            // Answers come with what was asked.
            Ok(Msg::Io(..) | Msg::IoReply(..)) => {
                self.leg_down(
                    cx,
                    at,
                    LegState::Refused("it sends a read, a write or an answer as a letter".into()),
                );
            }
            Ok(msg) => self.tell(cx, Event::Msg(MemberId::at(at), msg)),
            Err(why) => self.leg_down(cx, at, LegState::Refused(why)),
        }
    }
}

/// An answer that has an envelope.
struct Heard<'a> {
    envelope: Envelope,
    rest: &'a [u8],
    /// Of data.
    bytes: u32,
}

impl Heard<'_> {
    /// The answer to just what was asked, with just the bytes that are due.
    fn io_reply(&self, pool: PoolId, asked: &Asked) -> Result<IoReply, String> {
        if self.envelope.status != Status::Done {
            return Err(self.envelope.status.to_string());
        }
        let Msg::IoReply(reply, data) = message(pool, self.rest, Some(BufId(0)))? else {
            return Err("it answers a read or write with another message".into());
        };
        if (reply.tag, reply.epoch) != (asked.tag, asked.epoch) {
            return Err(format!(
                "it answers tag {:?} in epoch {:?}, asked for was tag {:?} in epoch {:?}",
                reply.tag, reply.epoch, asked.tag, asked.epoch
            ));
        }
        let due = if brings_bytes(&reply, asked) { asked.bytes } else { 0 };
        if self.bytes != due || data.is_some() != (due > 0) {
            return Err(format!("its answer brings {} bytes, and {due} are due", self.bytes));
        }
        Ok(reply)
    }
}

fn brings_bytes(reply: &IoReply, asked: &Asked) -> bool {
    reply.status == IoStatus::Done && asked.bytes > 0
}

fn message(own: PoolId, bytes: &[u8], data: Option<BufId>) -> Result<Msg, String> {
    match wire::decode(bytes, data) {
        Ok((pool, msg)) if pool == own => Ok(msg),
        Ok((pool, _)) => Err(format!("it speaks of pool {pool:?}")),
        Err(error) => Err(format!("its message is not understood: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmr_proto::{Epoch, Tag};

    const POOL: PoolId = PoolId([7; 16]);

    fn epoch(version: u64) -> Epoch {
        Epoch { version, ..Epoch::default() }
    }

    fn tag(slot: u32) -> Tag {
        Tag { slot, ..Tag::default() }
    }

    fn asked(bytes: u32) -> Asked {
        Asked { copy: None, bytes, epoch: epoch(3), tag: tag(9), life: 0 }
    }

    fn right() -> IoReply {
        IoReply { epoch: epoch(3), tag: tag(9), ..IoReply::default() }
    }

    /// What an answer with `msg` and `bytes` of data comes to.
    fn heard(asked: &Asked, msg: &Msg, bytes: u32) -> Result<IoReply, String> {
        let rest = wire::encode(POOL, msg);
        let envelope = Envelope {
            kind: rmr_proto::envelope::Kind::Io,
            from: Some(MemberId::at(0)),
            to: None,
            status: Status::Done,
            length: rest.len() as u32,
            sender: 1,
        };
        Heard { envelope, rest: &rest, bytes }.io_reply(POOL, asked)
    }

    #[test]
    fn a_read_that_is_done_brings_just_the_bytes_that_are_due() {
        let data = Some(BufId(5));
        assert_eq!(heard(&asked(4096), &Msg::IoReply(right(), data), 4096), Ok(right()));
        for (data, bytes) in [(data, 0), (data, 512), (data, 8192), (None, 4096), (None, 0)] {
            let why = heard(&asked(4096), &Msg::IoReply(right(), data), bytes).expect_err("not what is due");
            assert!(why.contains("4096 are due"), "{why}");
        }
    }

    #[test]
    fn what_is_not_done_and_what_is_no_read_bring_none() {
        let failed = IoReply { status: IoStatus::DiskError, ..right() };
        assert_eq!(heard(&asked(4096), &Msg::IoReply(failed, None), 0), Ok(failed));
        assert!(heard(&asked(4096), &Msg::IoReply(failed, Some(BufId(0))), 4096).is_err());
        assert_eq!(heard(&asked(0), &Msg::IoReply(right(), None), 0), Ok(right()));
        assert!(heard(&asked(0), &Msg::IoReply(right(), Some(BufId(0))), 4096).is_err());
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        for reply in [IoReply { tag: tag(8), ..right() }, IoReply { epoch: epoch(2), ..right() }] {
            let why = heard(&asked(0), &Msg::IoReply(reply, None), 0).expect_err("another's");
            assert!(why.contains("asked for was tag"), "{why}");
        }
        let why = heard(&asked(0), &Msg::Query { promise: epoch(3).promise, regions: Vec::new() }, 0)
            .expect_err("no answer");
        assert!(why.contains("another message"), "{why}");
    }
}

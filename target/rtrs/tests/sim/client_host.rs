//! A client's process: its lane, its connections, its users with their requests.

use crate::net::{Secret, pattern};
use crate::pacing::Sender;
use crate::stream::Receiver;
use std::collections::{HashMap, HashSet};
use tgt_rtrs::client::{Action, Ask, Client, Config, Event, Expected, Link, Permit, Signs, UserNo};
use tgt_rtrs::codec::{Expect, Side};
use tgt_rtrs::frame::{Frame, Hand, KeyName};
use tgt_rtrs::{ConnId, Direction, Fault, Id, Key, SlotUse, UserId, crc32c};

/// What the driver keeps for a request until it is complete.
struct Kept {
    user: Vec<u8>,
    data: Vec<u8>,
    direction: Direction,
}

struct Conn {
    wire: usize,
    receiver: Receiver<Option<Expected>>,
    digest: bool,
    came: u64,
    sender: Sender<Frame>,
    /// Answers received, as the last beat said: a request that it overtook says no less.
    seen: u32,
}

/// What the world has to do for it.
pub(crate) enum Out {
    Connect {
        conn: ConnId,
        path: usize,
    },
    Send {
        wire: usize,
        bytes: Vec<u8>,
    },
    Close {
        wire: usize,
    },
    /// How much of what was sent has the other host?
    Look {
        wire: usize,
        conn: ConnId,
    },
    /// The request of this tag ended; `Ok` with status.
    Done {
        tag: u64,
        result: Result<u16, ()>,
    },
    Told(Link),
}

pub(crate) struct ClientHost {
    pub(crate) lane: Client,
    pub(crate) users: Vec<UserNo>,
    kept: HashMap<SlotUse, Kept>,
    conns: HashMap<ConnId, Conn>,
    /// Requests that wait for a permit, by user.
    pub(crate) wanted: Vec<Vec<(u64, Direction, u32)>>,
    asked: HashSet<UserNo>,
    actions: Vec<Action>,
    /// Bytes of the largest data, for the paces of its connections.
    bytes_max: u32,
    pub(crate) dead_told: u64,
}

impl ClientHost {
    pub(crate) fn new(
        mut config: Config,
        key: Option<Secret>,
        users: usize,
        paths: usize,
        bytes_max: u32,
        rng: &mut fastrand::Rng,
    ) -> Self {
        config.session = Id(rng.u128(..).to_le_bytes());
        let key = key.map_or(Key::NONE, |key| Key::new(KeyName::new("k").expect("short"), Box::new(key)));
        let mut lane = Client::new(config, key);
        let users: Vec<UserNo> = (0..users).map(|user| lane.attach(UserId(user as u32))).collect();
        for _ in 0..paths {
            lane.add_path(0, Id(rng.u128(..).to_le_bytes())).expect("few paths");
        }
        let wanted = users.iter().map(|_| Vec::new()).collect();
        let (kept, conns, asked) = (HashMap::new(), HashMap::new(), HashSet::new());
        Self { lane, users, kept, conns, wanted, asked, actions: Vec::new(), bytes_max, dead_told: 0 }
    }

    /// A request that a user wants to make.
    pub(crate) fn want(
        &mut self,
        now: u64,
        user: usize,
        tag: u64,
        direction: Direction,
        bytes: u32,
        out: &mut Vec<Out>,
    ) {
        self.wanted[user].push((tag, direction, bytes));
        self.ask(now, user, out);
    }

    /// Takes permits for what users want. Without a life everything waits here.
    pub(crate) fn ask(&mut self, now: u64, user: usize, out: &mut Vec<Out>) {
        let no = self.users[user];
        while !self.wanted[user].is_empty() {
            match self.lane.permit(no) {
                Ok(Some(permit)) => self.submit(now, user, permit),
                Ok(None) => {
                    self.asked.insert(no);
                    break;
                }
                Err(_) => break,
            }
        }
        self.settle(now, out);
    }

    fn submit(&mut self, now: u64, user: usize, permit: Permit) {
        let Some((tag, direction, bytes)) = self.wanted[user].pop() else {
            return self.lane.give_back(permit, &mut self.actions);
        };
        let slot = permit.slot();
        let header = tag.to_le_bytes().to_vec();
        let ask = Ask { tag, direction, bytes, user_len: header.len() as u16 };
        let data = if direction == Direction::Write { pattern(tag, bytes as usize) } else { Vec::new() };
        // What is sent is kept first: the action may be next.
        let before = self.actions.len();
        match self.lane.submit(now, permit, ask, &mut self.actions) {
            Ok(at) => {
                assert_eq!(at.slot, slot);
                assert!(
                    !self.actions[before..].iter().any(|action| matches!(action, Action::Complete { .. }))
                );
                let old = self.kept.insert(at, Kept { user: header, data, direction });
                assert!(old.is_none(), "two requests in one use of a slot");
            }
            Err((permit, error)) => panic!("{permit:?}: {error}"),
        }
    }

    pub(crate) fn connected(
        &mut self,
        now: u64,
        conn: ConnId,
        wire: usize,
        nonce: [u8; 32],
        out: &mut Vec<Out>,
    ) {
        let receiver = Receiver::new(Expect::hand(Side::Server));
        let sender = Sender::new(self.bytes_max);
        self.conns.insert(conn, Conn { wire, receiver, digest: false, came: 0, sender, seen: 0 });
        self.lane.on(now, Event::Connected { conn, nonce }, &mut self.actions);
        self.settle(now, out);
    }

    pub(crate) fn failed(&mut self, now: u64, conn: ConnId, fault: Fault, out: &mut Vec<Out>) {
        self.conns.remove(&conn);
        self.lane.on(now, Event::Lost { conn, fault }, &mut self.actions);
        self.settle(now, out);
    }

    pub(crate) fn tick(&mut self, now: u64, out: &mut Vec<Out>) {
        self.lane.on(now, Event::Tick, &mut self.actions);
        self.settle(now, out);
    }

    /// The life is ended by command.
    pub(crate) fn end_life(&mut self, now: u64, out: &mut Vec<Out>) {
        self.lane.end_life(now, &mut self.actions);
        self.settle(now, out);
    }

    /// A path is taken away and another added, or paths are tried at once, or the policy changes.
    pub(crate) fn change_path(&mut self, now: u64, id: Id, paths: usize, out: &mut Vec<Out>) {
        let nos: Vec<_> = self.lane.paths().map(|(no, ..)| no).collect();
        match id.0[0] % 3 {
            0 => self.lane.reconnect(now),
            1 if nos.len() < paths + 2 => {
                self.lane.add_path(now, id).expect("few paths");
            }
            _ if nos.len() > 1 => {
                self.lane.remove_path(now, nos[usize::from(id.0[1]) % nos.len()], &mut self.actions);
            }
            _ => self.lane.set_policy(Default::default()),
        }
        self.settle(now, out);
    }

    pub(crate) fn conn_of(&self, wire: usize) -> Option<ConnId> {
        self.conns.iter().find(|(_, conn)| conn.wire == wire).map(|(id, _)| *id)
    }

    pub(crate) fn received(&mut self, now: u64, id: ConnId, bytes: &[u8], out: &mut Vec<Out>) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.receiver.push(bytes);
            conn.came += bytes.len() as u64;
            self.lane.on(now, Event::Heard { conn: id }, &mut self.actions);
        }
        while let Some(conn) = self.conns.get_mut(&id) {
            let lane = &self.lane;
            let next = conn.receiver.next(|frame, _| match frame {
                Frame::Reply(reply) => lane.expected(id, reply.at),
                _ => None,
            });
            match next {
                Ok(None) => break,
                Ok(Some(whole)) => {
                    self.check_reply(&whole.frame, &whole.user, &whole.data, whole.note);
                    self.hand_shake(id, &whole.frame);
                    self.lane.on(now, Event::Frame { conn: id, frame: whole.frame }, &mut self.actions);
                }
                Err(fault) => panic!("client: {fault}"),
            }
            self.settle(now, out);
        }
        self.settle(now, out);
    }

    /// After the challenge both sides know whether data has digests; after the welcome, the limits.
    fn hand_shake(&mut self, id: ConnId, frame: &Frame) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Frame::Hand(hand) = frame else { return };
        match &**hand {
            Hand::Challenge(challenge) => conn.digest = challenge.digest,
            Hand::Welcome(welcome) => {
                let (from, digest) = (Side::Server, conn.digest);
                let (user_max, data_max) = (welcome.limits.user_max, welcome.limits.data_max);
                conn.receiver.expect = Expect { from, hand: false, digest, user_max, data_max };
            }
            _ => {}
        }
    }

    fn check_reply(&self, frame: &Frame, user: &[u8], data: &[u8], expected: Option<Expected>) {
        let Frame::Reply(reply) = frame else { return };
        let expected = expected.unwrap_or_else(|| panic!("an answer that nobody waits for: {reply:?}"));
        assert_eq!(user, expected.tag.to_le_bytes(), "the header of another answer");
        assert_eq!(data, pattern(expected.tag ^ 1, data.len()), "the data of another answer");
    }

    fn settle(&mut self, now: u64, out: &mut Vec<Out>) {
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                self.act(now, action, out);
            }
        }
        self.lane.check();
    }

    fn act(&mut self, now: u64, action: Action, out: &mut Vec<Out>) {
        match action {
            Action::Connect { conn, path } => out.push(Out::Connect { conn, path: usize::from(path.0) }),
            Action::Send { conn, frame } => {
                let Some(to) = self.conns.get_mut(&conn) else { return };
                match frame {
                    Frame::Ping(_) | Frame::Seen(_) => {
                        if let Frame::Ping(ping) = &frame {
                            to.seen = ping.seen;
                        }
                        let bytes = tgt_rtrs::codec::head_of(&frame, &[], None).to_vec();
                        to.sender.sent(bytes.len());
                        out.push(Out::Send { wire: to.wire, bytes });
                    }
                    frame => to.sender.waiting.push_back(frame),
                }
                self.drain(conn, out);
            }
            Action::Look { conn } => {
                if let Some(to) = self.conns.get(&conn) {
                    out.push(Out::Look { wire: to.wire, conn });
                }
            }
            Action::Close { conn, .. } => {
                if let Some(conn) = self.conns.remove(&conn) {
                    out.push(Out::Close { wire: conn.wire });
                }
            }
            Action::Complete { tag, at, result } => {
                let kept = self.kept.remove(&at).expect("a request completes once");
                if let Ok(answer) = &result {
                    assert!(kept.direction == Direction::Read || answer.bytes == 0);
                }
                let result = result.map(|answer| answer.result.expect("served")).map_err(|_| ());
                out.push(Out::Done { tag, result });
            }
            Action::Permit { user, permit } => {
                let place = self.users.iter().position(|&no| no == user).expect("a user");
                assert!(self.asked.remove(&user), "a permit that nobody waited for");
                self.submit(now, place, permit);
                if !self.wanted[place].is_empty() && !self.asked.contains(&user) {
                    self.ask_again(now, place);
                }
            }
            Action::Link(link) => {
                match link {
                    Link::Up { .. } => (0..self.users.len()).for_each(|user| self.ask_again(now, user)),
                    Link::Dead { .. } => {
                        self.asked.clear();
                        self.dead_told += 1;
                        assert!(self.kept.is_empty(), "requests outlive their session");
                    }
                    _ => {}
                }
                out.push(Out::Told(link));
            }
            Action::Path(_) => {}
        }
    }

    /// So much of what was sent has the other host.
    pub(crate) fn looked(&mut self, now: u64, id: ConnId, acknowledged: u64, out: &mut Vec<Out>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let queued = conn.sender.look(now, acknowledged);
        let signs = Signs { came: conn.came, queued, acknowledged };
        self.lane.on(now, Event::Looked { conn: id, signs }, &mut self.actions);
        self.drain(id, out);
        self.settle(now, out);
    }

    /// Sends what waits on a connection, as far as it may.
    fn drain(&mut self, id: ConnId, out: &mut Vec<Out>) {
        while let Some(conn) = self.conns.get_mut(&id) {
            let admits = conn.sender.admits();
            let Some(frame) = conn.sender.waiting.pop_front_if(|frame| admits || !has_data(frame)) else {
                return;
            };
            let (wire, digest, frame) = (conn.wire, conn.digest, said_no_less(frame, conn.seen));
            // What has ended meanwhile is not sent.
            let Some(bytes) = self.bytes_of(&frame, digest) else { continue };
            self.conns.get_mut(&id).expect("just there").sender.sent(bytes.len());
            out.push(Out::Send { wire, bytes });
        }
    }

    fn ask_again(&mut self, now: u64, user: usize) {
        let no = self.users[user];
        while !self.wanted[user].is_empty() && !self.asked.contains(&no) {
            match self.lane.permit(no) {
                Ok(Some(permit)) => self.submit(now, user, permit),
                Ok(None) => {
                    self.asked.insert(no);
                }
                Err(_) => break,
            }
        }
    }

    fn bytes_of(&self, frame: &Frame, digest: bool) -> Option<Vec<u8>> {
        Some(match frame {
            Frame::Hand(hand) => tgt_rtrs::codec::encode_hand(hand),
            Frame::Request(request) => {
                let kept = self.kept.get(&request.at)?;
                let sum = digest.then(|| crc32c(&kept.data));
                let head = tgt_rtrs::codec::head_of(frame, &kept.user, sum);
                [&head[..], &kept.user, &kept.data].concat()
            }
            frame => tgt_rtrs::codec::head_of(frame, &[], None).to_vec(),
        })
    }
}

fn has_data(frame: &Frame) -> bool {
    matches!(frame, Frame::Request(_))
}

fn said_no_less(mut frame: Frame, seen: u32) -> Frame {
    if let Frame::Request(request) = &mut frame
        && seen.wrapping_sub(request.seen) as i32 > 0
    {
        request.seen = seen;
    }
    frame
}

//! The compute client of one pool.
//!
//! ```text
//!   Idle ──start──▶ Assembling ──all adopted──▶ Active ◀──all adopted── Changing
//!                    ▲  ▲   │                    │ │  leg lost, or a joiner ▲
//!                    │  │   │ greater promise    │ └────────────────────────┘
//!                    │  │   ▼                    │ no leg left
//!                    │  │  Fenced ◀──────────────┤
//!                    │  └──start────┘            │
//!                    └───────────────────────────┘
//! ```
//! `Changing`: a set has been proposed; nothing is acknowledged until it, or a newer one, is active.

mod assembly;
mod change;
mod command;
mod deadlines;
mod fanout;
mod gather;
mod horizon;
mod lanes;
mod ops;
mod outlook;
mod reads;
mod resize;
mod scrub;
mod status;
mod verdict;

pub use command::{Command, CommandError};
pub use ops::Request;
pub use outlook::GivenUp;
pub use reads::ReadPolicy;
pub use resize::ResizeError;
pub use scrub::{Scrub, ScrubCommand, ScrubRange, ScrubState};
pub use status::{Status, Why};

use crate::event::{Completion, Now, UserTag};
use crate::mutant::Mutant;
use horizon::Horizon;
use lanes::Lanes;
use rmr_proto::{BufId, Epoch, Geometry, MEMBERS_MAX, MemberId, MemberSet, Msg, Promise, Seq, Stamp};
use std::collections::VecDeque;

/// Knobs of a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientConfig {
    /// Requests under way at a time.
    pub requests_max: usize,
    /// Longest request, log2 of blocks.
    pub request_shift_max: u8,
    /// How often [`ClientEvent::Tick`] is wanted, ns.
    pub tick_ns: Now,
    /// A leg that owes an answer for this long is lost, ns.
    pub leg_timeout_ns: Now,
    /// Control messages are sent again after this, ns.
    pub retry_ns: Now,
    /// Time between beats, ns.
    pub beat_ns: Now,
    /// First pause before a lost leg may come back; doubles, ns.
    pub rejoin_ns: Now,
    /// Longest pause, ns.
    pub rejoin_max_ns: Now,
    /// Regions that members are asked about at a time, and in one part of the verdicts; at most
    /// [`rmr_proto::wire::MISSES_MAX`].
    pub batch_regions: usize,
    /// Least pause between two flushes of our own while a leg asks for them, ns.
    pub flush_ns: Now,
    /// A command that is not done after this fails, ns.
    pub command_ns: Now,
    /// Which leg serves a read.
    pub read_policy: ReadPolicy,
    /// A leg that cannot read more chunks than this within the window leaves the set, if another is whole.
    pub read_errors_max: u32,
    /// The window, ns.
    pub read_error_window_ns: Now,
}

impl Default for ClientConfig {
    fn default() -> Self {
        const MS: Now = 1_000_000;
        Self {
            requests_max: 1024,
            request_shift_max: 8,
            tick_ns: 10 * MS,
            leg_timeout_ns: 1_000 * MS,
            retry_ns: 200 * MS,
            beat_ns: 250 * MS,
            rejoin_ns: 100 * MS,
            rejoin_max_ns: 10_000 * MS,
            batch_regions: rmr_proto::wire::MISSES_MAX,
            flush_ns: 2 * MS,
            command_ns: 30_000 * MS,
            read_policy: ReadPolicy::InTurn,
            read_errors_max: 64,
            read_error_window_ns: 60_000 * MS,
        }
    }
}

/// How a pool is to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct StartOptions {
    /// Even though another client's lease lives.
    pub takeover: bool,
    /// Start with these although others of the newest set cannot be reached: what only those hold is lost. Empty: no.
    pub force: MemberSet,
    /// Split brain: start from this member's history and discard the others'.
    pub accept: Option<MemberId>,
}

impl StartOptions {
    /// Even though another client's lease lives.
    pub fn takeover() -> Self {
        Self { takeover: true, ..Self::default() }
    }
}

/// Something happened to a client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ClientEvent {
    /// Map the pool.
    Start(StartOptions),
    /// Change the membership; ends with [`ClientAction::Commanded`].
    Command {
        /// The caller's name for it.
        tag: UserTag,
        /// What.
        command: Command,
    },
    /// A request of the caller.
    Submit(Request),
    /// A message of a member.
    Msg(MemberId, Msg),
    /// Make the device larger. Ends with [`ClientAction::Resized`].
    Resize {
        /// Blocks that it is to have.
        blocks: u64,
    },
    /// A session with a member's node is up.
    Up(MemberId),
    /// It is gone.
    Down(MemberId),
    /// Compare what the legs hold, or stop comparing.
    Scrub(ScrubCommand),
    /// Time has passed.
    Tick,
}

/// What a client wants done.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ClientAction {
    /// Send this. The payload's buffer stays the client's until the request completes.
    Send(MemberId, Msg),
    /// A request of the caller ended. Reads: `buf` is the driver's buffer with the bytes.
    Complete {
        /// Whose.
        user: UserTag,
        /// How.
        result: Completion,
        /// Reads: the bytes.
        buf: Option<BufId>,
    },
    /// A [`ClientEvent::Resize`] ended: blocks of the device from now on, or why nothing was changed.
    Resized(Result<u64, ResizeError>),
    /// A buffer that came with a message is not needed.
    Release(BufId),
    /// A command ended.
    Commanded {
        /// Which.
        tag: UserTag,
        /// How.
        result: Result<(), CommandError>,
    },
}

/// Where the client stands; details are in fields of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// Not mapped.
    Idle,
    /// A new generation is being put together.
    Assembling,
    /// Serving.
    Active,
    /// A set has been proposed.
    Changing,
    /// A newer client has the pool.
    Fenced,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Leg {
    up: bool,
    /// Requests sent in this epoch.
    number: u64,
    heard_at: Now,
    beat_at: Now,
    dirty_chunks: u64,
    pressure: bool,
    /// Has said in this epoch how many chunks it lacks.
    told: bool,
    stamp: Stamp,
    /// What it last said, or showed, that keeps it out.
    why: Option<Why>,
    rejoin_at: Now,
    rejoin_pause: Now,
    reads: reads::ReadLeg,
}

/// One client of one pool.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Client {
    geometry: Geometry,
    config: ClientConfig,
    nonce: u64,
    phase: Phase,
    /// Was active in this life: a greater promise then means that somebody took over.
    held: bool,
    options: StartOptions,
    /// A member of the set said that a newer client has its promise.
    superseded: bool,
    /// Whom to ask first; who is a member is said by the newest epoch record.
    configured: MemberSet,
    members: MemberSet,
    /// In maintenance.
    resting: MemberSet,
    /// By member: newest epoch of this history in whose set it was.
    last_in: [Epoch; MEMBERS_MAX],
    command: Option<command::Running>,
    given_up: GivenUp,
    promise: Promise,
    epoch: Epoch,
    set: MemberSet,
    /// Every further proposal is contained in this until the next one is active.
    bound: MemberSet,
    next_version: u64,
    legs: [Leg; MEMBERS_MAX],
    assembly: assembly::Assembly,
    change: Option<change::Change>,
    /// Blocks that the device is to grow to.
    resize: Option<u64>,
    join: Option<change::Join>,
    attempts: u64,
    requests: ops::Requests,
    lanes: Lanes,
    ready: VecDeque<u32>,
    horizon: Horizon,
    flushed: Seq,
    own_flush: bool,
    /// A leg may want a flush.
    under_pressure: bool,
    flushed_at: Now,
    /// When a generation was last started to settle suspect chunks.
    unstuck_at: Now,
    turn: usize,
    read_errors: u64,
    scrub: scrub::Scrubber,
    sending: u32,
    last_tick: Now,
}

impl Client {
    /// A client of a pool, which asks these members first: for a new pool all it has, else whoever is known; the newest
    /// epoch record of those that answer says who the members are. `nonce` tells it from every other client, ever: draw it at random.
    pub fn new(geometry: Geometry, members: MemberSet, nonce: u64, config: ClientConfig) -> Self {
        // A scrub takes a whole chunk.
        let shift = config.request_shift_max.max(8).max(geometry.chunk_shift());
        Self {
            geometry,
            config,
            nonce,
            phase: Phase::Idle,
            held: false,
            options: StartOptions::default(),
            superseded: false,
            configured: members,
            members,
            resting: MemberSet::EMPTY,
            last_in: [Epoch::default(); MEMBERS_MAX],
            command: None,
            given_up: GivenUp::default(),
            promise: Promise::default(),
            epoch: Epoch::default(),
            set: MemberSet::EMPTY,
            bound: MemberSet::EMPTY,
            next_version: 0,
            legs: Default::default(),
            assembly: assembly::Assembly::default(),
            change: None,
            resize: None,
            join: None,
            attempts: 0,
            requests: ops::Requests::new(config.requests_max),
            lanes: Lanes::new(shift, config.requests_max),
            ready: VecDeque::with_capacity(config.requests_max),
            horizon: Horizon::new(config.requests_max * 2),
            flushed: Seq(0),
            own_flush: false,
            under_pressure: false,
            flushed_at: 0,
            unstuck_at: 0,
            turn: 0,
            read_errors: 0,
            scrub: scrub::Scrubber::default(),
            sending: 0,
            last_tick: 0,
        }
    }

    /// Takes one event in and appends what is to be done.
    pub fn on(&mut self, now: Now, event: ClientEvent, out: &mut Vec<ClientAction>) {
        match event {
            ClientEvent::Start(options) => self.on_start(now, options, out),
            ClientEvent::Command { tag, command } => self.on_command(now, tag, command, out),
            ClientEvent::Submit(request) => self.on_submit(now, request, out),
            ClientEvent::Msg(from, msg) => self.on_msg(now, from, msg, out),
            ClientEvent::Resize { blocks } => self.on_resize(now, blocks, out),
            ClientEvent::Up(member) => self.on_up(now, member, out),
            ClientEvent::Down(member) => {
                self.legs[member.index()].up = false;
                self.lose(now, member, out);
            }
            ClientEvent::Scrub(command) => self.on_scrub(now, command),
            ClientEvent::Tick => self.on_tick(now, out),
        }
        if self.under_pressure {
            self.flush_for_legs(now, out);
        }
        self.run_ready(now, out);
    }

    /// When [`ClientEvent::Tick`] is wanted next.
    pub fn next_timeout(&self) -> Now {
        self.last_tick + self.config.tick_ns
    }

    fn on_up(&mut self, now: Now, member: MemberId, out: &mut Vec<ClientAction>) {
        let leg = &mut self.legs[member.index()];
        (leg.up, leg.heard_at) = (true, now);
        if self.phase == Phase::Assembling {
            self.ask_promise(member, out);
        }
    }

    fn on_msg(&mut self, now: Now, from: MemberId, msg: Msg, out: &mut Vec<ClientAction>) {
        self.legs[from.index()].heard_at = now;
        match msg {
            Msg::IoReply(reply, buf) => self.on_reply(now, from, reply, buf, out),
            Msg::BeatReply { epoch, serving, dirty_chunks, pressure, stuck, counter } => {
                let leg = &mut self.legs[from.index()];
                if epoch != self.epoch || self.phase != Phase::Active || !self.set.has(from) {
                    return;
                }
                (leg.dirty_chunks, leg.pressure, leg.told) = (dirty_chunks, pressure, true);
                self.under_pressure |= pressure;
                let leg = &mut self.legs[from.index()];
                leg.stamp.counter = leg.stamp.counter.max(counter);
                leg.rejoin_pause -= leg.rejoin_pause / 8;
                if !serving {
                    self.lose(now, from, out);
                } else if stuck {
                    self.unstick(now, out);
                }
            }
            Msg::Promised(report) => self.on_promised(now, from, *report, out),
            Msg::Refused { asked, stands, lease_ns } => {
                self.on_refused(now, from, asked, stands, lease_ns, out)
            }
            Msg::QueryReply { promise, misses } => self.on_query_reply(now, from, promise, misses, out),
            Msg::Suspects { promise, cursor, next, suspects } => {
                self.on_suspects(now, from, promise, (cursor, next), suspects, out);
            }
            Msg::VerdictsAck { epoch, part } => self.on_verdicts_ack(now, from, epoch, part, out),
            Msg::Adopted { epoch, counter } => self.on_adopted(now, from, epoch, counter, out),
            Msg::AdoptRefused { epoch } => self.on_adopt_refused(now, from, epoch, out),
            Msg::JoinReady { epoch, attempt, last, stamp } => {
                self.on_join_ready(now, from, epoch, (attempt, last), stamp, out);
            }
            Msg::Checked { epoch, tag, status, crc } => {
                self.on_checked(now, from, (epoch, tag), status, Some(crc), out)
            }
            Msg::Repaired { epoch, tag, status } => {
                self.on_checked(now, from, (epoch, tag), status, None, out)
            }
            other => {
                if let Msg::Io(_, Some(buf)) | Msg::CopyReply { buf: Some(buf), .. } = other {
                    out.push(ClientAction::Release(buf));
                }
            }
        }
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        self.last_tick = now;
        self.expire(now, out);
        match self.phase {
            Phase::Idle | Phase::Fenced => {}
            Phase::Assembling => self.step_assembly(now, out),
            Phase::Changing => self.step_change(now, out),
            Phase::Active => {
                self.find_late_legs(now, out);
                if self.phase == Phase::Active {
                    self.beat(now, out);
                    self.step_join(now, out);
                    self.step_scrub(now);
                }
            }
        }
        self.step_command(now, out);
    }

    /// A chunk is suspect somewhere, and clean nowhere: a new generation settles it.
    fn unstick(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let pause = 4 * self.config.leg_timeout_ns;
        if now >= self.unstuck_at + pause {
            self.unstuck_at = now;
            self.assemble(now, self.next_generation(), now, out);
        }
    }

    fn beat(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let counters = std::array::from_fn(|index| self.legs[index].stamp.counter);
        let (epoch, answered, flushed) = (self.epoch, self.horizon.answered(), self.flushed);
        for member in self.set.iter() {
            let leg = &mut self.legs[member.index()];
            if now >= leg.beat_at + self.config.beat_ns || leg.beat_at == 0 {
                leg.beat_at = now;
                out.push(ClientAction::Send(member, Msg::Beat { epoch, answered, flushed, counters }));
            }
        }
    }

    /// The one place that changes [`Client::phase`].
    fn set_phase(&mut self, to: Phase) {
        use Phase::{Active, Assembling, Changing, Fenced, Idle};
        let legal = matches!(
            (self.phase, to),
            (Idle | Assembling | Active | Changing | Fenced, Assembling)
                | (Assembling | Changing, Active)
                | (Active | Changing, Changing)
                | (Assembling | Active | Changing, Fenced)
        );
        assert!(legal, "client: phase {:?} cannot become {to:?}", self.phase);
        self.phase = to;
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The active epoch, or the last one that was.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The active set, or the last one that was.
    pub fn set(&self) -> MemberSet {
        self.set
    }

    /// Whom the driver keeps sessions with: those configured, those the pool names, one that is being added; while the
    /// pool is put together, whomever any report names, for who is a member may have changed since this client served.
    pub fn contacts(&self) -> MemberSet {
        let adding = self.adding().map_or(MemberSet::EMPTY, MemberSet::only);
        let known = self.configured.or(self.members).or(adding);
        if self.phase != Phase::Assembling || Mutant::AskTheOldOnes.on() {
            return known;
        }
        let reports = self.assembly.reports.iter().flatten();
        reports.fold(known, |known, report| known.or(report.record.members))
    }

    /// All members, as the newest epoch record that was seen names them.
    pub fn members(&self) -> MemberSet {
        self.members
    }

    /// Members in maintenance.
    pub fn resting(&self) -> MemberSet {
        self.resting
    }

    /// Sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Requests that are anywhere between submission and the last answer.
    pub fn under_way(&self) -> usize {
        self.requests.used()
    }

    /// Asserts what must hold whatever comes in.
    pub fn check(&self) {
        if self.phase == Phase::Active {
            assert!(!self.set.is_empty(), "active with an empty set");
            assert_eq!(self.epoch.promise, self.promise, "active in an epoch of another promise");
        }
        // Elsewhere the set is the last one served, and who rests may be known from a newer one.
        let serves = matches!(self.phase, Phase::Active | Phase::Changing);
        assert!(!serves || self.set.and(self.resting).is_empty(), "a resting member is up to date");
        assert!(self.flushed <= self.horizon.answered(), "flushed beyond what was answered");
    }
}

//! Two reactors: a hand-written client on the first, a node with its stores and a listener on the second.

use bdev_error::{ErrorLayer, Errors, Faults};
use bdev_malloc::MallocSpec;
use bdev_rmr::hail::{Hail, Peer};
use bdev_rmr::store::{
    Closed, ImageError, NewStore, Node, NodeError, OpenOptions, OpenedStore, Peers, RangeJob, StoreStatus,
    boot_number, create, open,
};
use rmr_engine::ResyncLimits;
use rmr_proto::envelope::{Envelope, Kind, Status};
use rmr_proto::{Incarnation, MemberId, Msg, PoolId, wire};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tgt_bdev::stack::Stack;
use tgt_bdev::{Bdev, Bdevs, Bufs, Desc, DmaBuf, Mode};
use tgt_reactor::{Handle, Reactor, Reactors, SleepPolicy, StartOptions};
use tgt_rtrs::client::{Link, Policy};
use tgt_rtrs::frame::Limits;
use tgt_rtrs::hub::{
    ClientEvent, Hub, HubUser, PathKey, PortSpec, Session, SessionKey, SessionRef, SessionSetup,
};
use tgt_rtrs::server::{GateConfig, ServerConfig};
use tgt_rtrs::tcp::{PathAddress, Submission};
use tgt_rtrs::{Direction, Id, UserId};
use tgt_sock::ListenOn;
use uuid::Uuid;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const POOL: PoolId = PoolId([7; 16]);
pub(crate) const BLOCK: u32 = 4096;

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Sessions of nodes to each other: paths are addresses of listeners.
struct DirectPeers(Arc<Mutex<Vec<SessionRef>>>);

impl Peers for DirectPeers {
    fn session(&self, peer: &Peer) -> Option<SessionRef> {
        let to: Vec<SocketAddr> = peer.paths.iter().map(|path| path.parse().expect("an address")).collect();
        let session = session(&to, [2; 16]);
        self.0.lock().expect("sessions").push(session.clone());
        Some(session)
    }
}

pub(crate) fn session(to: &[SocketAddr], host: [u8; 16]) -> SessionRef {
    let paths = to.iter().enumerate().map(|(no, to)| (PathKey(no as u32), PathAddress::new(*to)));
    let setup = SessionSetup {
        host: Id(host),
        key: SessionKey::None,
        digest: true,
        insecure: false,
        policy: Policy::RoundRobin,
        paths: paths.collect(),
    };
    Session::new(Id(*Uuid::new_v4().as_bytes()), setup, None)
}

pub(crate) struct Rig {
    reactors: Option<Reactors>,
    pub(crate) handles: Vec<Handle>,
    pub(crate) bdevs: Arc<Bdevs>,
    /// By node: reactor 1 and, if there are three, reactor 2.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::with_nodes(1)
    }

    pub(crate) fn with_nodes(nodes: u32) -> Self {
        Self::with(nodes, false)
    }

    /// With so many reactors for nodes; each is another host, or all are one.
    pub(crate) fn with(nodes: u32, one_host: bool) -> Self {
        let options = StartOptions { cores: (0..=nodes).collect(), sleep: SleepPolicy::ADAPTIVE, pin: false };
        let reactors = Reactors::start(&options).expect("reactors start where tests run");
        let handles = reactors.handles().to_vec();
        let listen = |handle: &Handle| {
            let start = |reactor: &mut Reactor| {
                let cx = reactor.cx();
                let gate = GateConfig::new(Id([9; 16]), Arc::new(SessionKey::None.get()));
                let on = ListenOn::new((Ipv4Addr::LOCALHOST, 0).into());
                let hub = Hub::of(cx);
                let port = PortSpec {
                    config: ServerConfig::default(),
                    memory_max: 64 << 20,
                    spread: false,
                    notes: None,
                };
                let (_, address) = hub.listen(cx, &port, gate, &on).expect("it listens");
                address
            };
            handle.call(start).expect("an answer")
        };
        let addresses = handles[1..].iter().map(listen).collect();
        let peers = || Box::new(DirectPeers(Arc::default())) as Box<dyn Peers>;
        // Of one host, or of one each.
        let hosts = if one_host { handles.len() } else { 1 };
        for host in handles[1..].chunks(hosts) {
            Node::start(host, peers).expect("nobody else serves");
        }
        Self { reactors: Some(reactors), handles, bdevs: Bdevs::new(), addresses }
    }

    pub(crate) fn malloc(&self, name: &str, bytes: u64, block_size: u32) -> Arc<Bdev> {
        let spec = MallocSpec {
            name: name.to_owned(),
            uuid: None,
            block_size,
            num_blocks: bytes / u64::from(block_size),
            optimal_io_boundary: 0,
        };
        bdev_malloc::create(&self.bdevs, spec).expect("memory")
    }

    /// A bdev in memory that fails as it is told.
    pub(crate) fn failing(&self) -> (Arc<Bdev>, Arc<Faults>) {
        self.malloc("m0", 32 << 20, BLOCK);
        let faults = Arc::<Faults>::default();
        let stack: Arc<Errors> = Stack::new(&self.bdevs);
        let layer = ErrorLayer { base: "m0".to_owned(), uuid: None, faults: faults.clone() };
        let made = stack.create("EE_m0", "m0", &["EE_m0"], layer).expect("it stands on m0");
        (made[0].clone(), faults)
    }

    pub(crate) fn create(&self, bdev: &Arc<Bdev>, member: usize) -> Result<(), ImageError> {
        let new = NewStore {
            pool: POOL,
            member: MemberId::at(member),
            incarnation: Incarnation(77 + member as u64),
            block_bytes: BLOCK.into(),
            chunk_bytes: 64 << 10,
            mapped: Some(8 << 20),
        };
        create(&self.handles[1], bdev, &new).map(drop)
    }

    pub(crate) fn read(&self, bdev: &Arc<Bdev>) -> Result<OpenedStore, ImageError> {
        open(&self.handles[1], bdev, POOL, |_| boot_number(), OpenOptions::default())
    }

    pub(crate) fn open(&self, node: usize, bdev: &Arc<Bdev>) -> Result<(), NodeError> {
        let opened = self.read(bdev).expect("a store is there");
        let open = move |reactor: &mut Reactor| {
            let node = Node::of(reactor.cx()).expect("it was started");
            node.open(reactor.cx(), opened)
        };
        self.handles[node].call(open).expect("an answer")
    }

    /// How fast chunks are copied to the store, at most.
    pub(crate) fn limit(&self, node: usize, bytes_per_sec: u64) {
        let limits = ResyncLimits { bytes_per_sec, ..ResyncLimits::default() };
        let set = move |reactor: &mut Reactor| {
            let node = Node::of(reactor.cx()).expect("it was started");
            let key = node.status()[0].key();
            node.set_resync_limits(key, limits)
        };
        self.handles[node].call(set).expect("an answer").expect("it is open");
    }

    pub(crate) fn close(&self, node: usize) -> Closed {
        self.start_close(node).recv_timeout(PATIENCE).expect("it closes")
    }

    pub(crate) fn start_close(&self, node: usize) -> Receiver<Closed> {
        let (done, closed) = sync_channel(1);
        let close = move |reactor: &mut Reactor| {
            let node = Node::of(reactor.cx()).expect("it was started");
            let key = node.status()[0].key();
            node.close(reactor.cx(), key, done)
        };
        self.handles[node].call(close).expect("an answer").expect("it is open");
        closed
    }

    /// Lanes that clients have on a reactor.
    pub(crate) fn served_lanes(&self, node: usize) -> usize {
        let ask = |reactor: &mut Reactor| Hub::of(reactor.cx()).server_lanes(reactor.cx()).len();
        self.handles[node].call(ask).expect("an answer")
    }

    pub(crate) fn status(&self, node: usize) -> StoreStatus {
        let ask = |reactor: &mut Reactor| Node::of(reactor.cx()).expect("it was started").status();
        self.handles[node].call(ask).expect("an answer").remove(0)
    }

    /// While no store has it.
    pub(crate) fn write(&self, bdev: &Arc<Bdev>, offset: u64, bytes: &[u8]) {
        let desc = Arc::new(Desc::open(bdev, "test", Mode::Write).expect("nobody claims it"));
        RangeJob::Write(vec![(offset, bytes.to_vec())]).run(&self.handles[0], &desc).expect("it is written");
    }

    pub(crate) fn read_bytes(&self, bdev: &Arc<Bdev>, offset: u64, len: u64) -> Vec<u8> {
        let desc = Arc::new(Desc::open(bdev, "test", Mode::Read).expect("it can be read"));
        RangeJob::Read { offset, len }.run(&self.handles[0], &desc).expect("it is read")
    }

    pub(crate) fn client(&self, node: usize, nonce: u64) -> Client {
        let session = session(&[self.addresses[node - 1]], [1; 16]);
        let of = session.clone();
        let attach = move |reactor: &mut Reactor| {
            Hub::of(reactor.cx()).attach(reactor.cx(), &of, UserId(nonce as u32)).expect("a lane")
        };
        let user = self.handles[0].call(attach).expect("an answer");
        let handle = self.handles[0].clone();
        let mut client = Client {
            handle,
            session,
            user,
            nonce,
            member: node as u8 - 1,
            next: 0,
            ended: Vec::new(),
            limits: None,
            dead: 0,
        };
        wait_until("the session is up", || {
            client.take_events();
            client.limits.is_some()
        });
        client
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let stuck = self.reactors.take().map(Reactors::stop);
        if !std::thread::panicking() {
            assert_eq!(stuck, Some(vec![]), "all pollers have drained");
        }
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) envelope: Envelope,
    /// Behind the envelope, or the data.
    pub(crate) header: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

/// A client by hand.
pub(crate) struct Client {
    handle: Handle,
    pub(crate) session: SessionRef,
    user: HubUser,
    pub(crate) nonce: u64,
    /// The member that it speaks to.
    pub(crate) member: u8,
    next: u64,
    /// Tag, and the answer; `None`: the session died.
    ended: Vec<(u64, Option<Answered>)>,
    limits: Option<Limits>,
    pub(crate) dead: u64,
}

impl Client {
    fn take_events(&mut self) {
        let user = self.user;
        let take = move |reactor: &mut Reactor| {
            let hub = Hub::of(reactor.cx());
            std::iter::from_fn(|| hub.next(user)).collect::<Vec<_>>()
        };
        for event in self.handle.call(take).expect("an answer") {
            match event {
                ClientEvent::Done(done) => {
                    let answer = done.result.ok().map(|answer| {
                        assert_eq!(answer.result, Ok(0), "served");
                        let (envelope, header) = Envelope::decode(&done.header).expect("an envelope");
                        let mut data = vec![0; answer.bytes as usize];
                        done.bufs.copy_to_slice(0, &mut data);
                        Answered { envelope, header: header.to_vec(), data }
                    });
                    self.ended.push((done.tag, answer));
                }
                ClientEvent::Link(Link::Up { limits, .. }) => self.limits = Some(limits),
                ClientEvent::Link(Link::Dead { .. }) => self.dead += 1,
                _ => {}
            }
        }
    }

    pub(crate) fn envelope(&self, kind: Kind, length: usize) -> Envelope {
        let to = MemberId::new(self.member);
        Envelope { kind, from: None, to, status: Status::Done, length: length as u32, sender: self.nonce }
    }

    /// Sends these bytes, with this data or room for so much; how the answer is found.
    pub(crate) fn start(&mut self, header: Vec<u8>, data: Result<&[u8], u32>) -> u64 {
        self.next += 1;
        let (tag, user) = (self.next, self.user);
        let memory = |len: u32| match len {
            0 => Bufs::none(),
            len => Bufs::from(DmaBuf::alloc(len).expect("memory")),
        };
        let (direction, bufs) = match data {
            Ok(bytes) => {
                let mut bufs = memory(bytes.len() as u32);
                bufs.copy_from_slice(0, bytes);
                (Direction::Write, bufs)
            }
            Err(room) => (Direction::Read, memory(room)),
        };
        let submit = move |reactor: &mut Reactor| {
            let request = Submission { tag, direction, header: &header, bufs };
            Hub::of(reactor.cx()).submit(reactor.cx(), user, request).map_err(|(_, refusal)| refusal)
        };
        self.handle.call(submit).expect("an answer").expect("it is taken");
        tag
    }

    /// The answer, if it has come.
    pub(crate) fn answer(&mut self, tag: u64) -> Option<Option<Answered>> {
        self.take_events();
        let at = self.ended.iter().position(|(of, _)| *of == tag)?;
        Some(self.ended.swap_remove(at).1)
    }

    pub(crate) fn wait(&mut self, tag: u64) -> Answered {
        let mut answer = None;
        wait_until("an answer", || {
            answer = self.answer(tag);
            answer.is_some()
        });
        answer.flatten().expect("the session lives")
    }

    pub(crate) fn hail(&mut self, member: u8, peers: Vec<Peer>) -> Answered {
        self.member = member;
        let hail = Hail { pool: Uuid::from_bytes(POOL.0), member, peers };
        let text = serde_json::to_vec(&hail).expect("JSON");
        let mut header = self.envelope(Kind::Hail, text.len()).encode().to_vec();
        header.extend_from_slice(&POOL.0);
        let tag = self.start(header, Ok(&text));
        self.wait(tag)
    }

    pub(crate) fn letter(&mut self, msg: &Msg) -> Status {
        let message = wire::encode(POOL, msg);
        let header = self.envelope(Kind::Letter, message.len()).encode();
        let tag = match message.len() + header.len() {
            0..=512 => self.start([&header[..], &message].concat(), Ok(&[])),
            _ => self.start(header.to_vec(), Ok(&message)),
        };
        self.wait(tag).envelope.status
    }

    /// Asks for a letter; how it is found.
    pub(crate) fn start_collect(&mut self, room: u32) -> u64 {
        let mut header = self.envelope(Kind::Collect, room as usize).encode().to_vec();
        header.extend_from_slice(&POOL.0);
        self.start(header, Err(room))
    }

    pub(crate) fn collect(&mut self) -> Msg {
        let tag = self.start_collect(1 << 20);
        let answer = self.wait(tag);
        assert_eq!(answer.envelope.status, Status::Done);
        letter_of(&answer)
    }

    /// Sends a letter until the right one comes back: as the protocol does.
    pub(crate) fn ask(&mut self, msg: &Msg, wanted: impl Fn(&Msg) -> bool) -> Msg {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no answer to {msg:?}");
            assert_eq!(self.letter(msg), Status::Done);
            let answer = self.collect();
            if wanted(&answer) {
                return answer;
            }
        }
    }

    pub(crate) fn start_io(&mut self, io: rmr_proto::IoRequest, data: Option<&[u8]>) -> u64 {
        let buf = data.map(|_| rmr_proto::BufId(0));
        let message = wire::encode(POOL, &Msg::Io(io, buf));
        let header = [&self.envelope(Kind::Io, message.len()).encode()[..], &message].concat();
        let room = if io.op == rmr_proto::IoOp::Read { io.range.count * BLOCK } else { 0 };
        self.start(header, data.ok_or(room))
    }

    pub(crate) fn io(
        &mut self,
        io: rmr_proto::IoRequest,
        data: Option<&[u8]>,
    ) -> (rmr_proto::IoStatus, Vec<u8>) {
        let tag = self.start_io(io, data);
        let answer = self.wait(tag);
        assert_eq!(answer.envelope.status, Status::Done, "served");
        match wire::decode(&answer.header, Some(rmr_proto::BufId(0))).expect("an answer") {
            (POOL, Msg::IoReply(reply, _)) => {
                assert_eq!((reply.tag, reply.epoch), (io.tag, io.epoch));
                (reply.status, answer.data)
            }
            other => panic!("not an answer: {other:?}"),
        }
    }

    pub(crate) fn detach(self) {
        let user = self.user;
        let detach = move |reactor: &mut Reactor| {
            let hub = Hub::of(reactor.cx());
            hub.detach(reactor.cx(), user);
        };
        self.handle.call(detach).expect("an answer");
        let id = self.session.id();
        let retire = move |reactor: &mut Reactor| Hub::of(reactor.cx()).retire(reactor.cx(), id);
        self.handle.call(retire).expect("an answer");
    }
}

/// The letter in an answer to a collect.
pub(crate) fn letter_of(answer: &Answered) -> Msg {
    let length = answer.envelope.length as usize;
    let bytes = if answer.data.is_empty() { &answer.header } else { &answer.data };
    assert_eq!(bytes.len(), length);
    let (pool, msg) = wire::decode(bytes, None).expect("a letter");
    assert_eq!(pool, POOL);
    msg
}

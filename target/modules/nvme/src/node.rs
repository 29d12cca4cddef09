//! A reactor's half: one group of streams, the IO queue of each controller, the admin queues whose home it is.
//!
//! What reactors tell each other is an [`Errand`]; one for which an inbox has no room is tried again in the next turn.

use crate::admin::Admin;
use crate::channel::{Sink, ask_of, give_back};
use crate::controller::{Controller, Up};
use crate::qp::{Ask, Inline, Job, Over, Qp, Told};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use tgt_bdev::{Bufs, Cx, Io, IoStatus, Ticks, Work};
use tgt_nvme::Command;
use tgt_nvme::command::FABRICS;
use tgt_nvme::fabrics::{CONNECT, Connect, ConnectData};
use tgt_nvme::put_text;
use tgt_nvme::zerocopy::little_endian::U16;
use tgt_nvme::zerocopy::{FromBytes, FromZeros, IntoBytes};
use tgt_reactor::{CallError, Handle, Poller, Stop};
use tgt_sock::{ConnectTo, Event, Group, GroupOptions, SockError};

/// A stream's user number: the controller's number, and in this bit whether it is its admin queue.
const ADMIN: u64 = 1 << 32;

/// What one reactor tells another of a controller.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    /// The association is up: connect the IO queue, if anybody wants it.
    Up(Up),
    /// It is over: close, and say so.
    Down,
    /// IO does not wait any more.
    Fail,
    /// The controller is detached.
    Leave,
    /// To its home: a reactor has lost its queue of this association.
    Lost { generation: u64, why: String, silent: bool },
    /// To its home: nothing of the association is left on this reactor.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    Opening,
    Connecting,
    Live,
    Closing,
}

/// The IO queue of a controller.
struct Link {
    controller: Arc<Controller>,
    qp: Qp,
    up: Option<Up>,
    phase: Phase,
    /// The number of its queue, once somebody wants it.
    qid: Option<u16>,
    /// What was under way when the last association ended.
    held: VecDeque<Ask>,
    /// The home wants to hear when it is closed.
    owes: bool,
}

/// What waits to be told.
type Errands = VecDeque<(u32, usize, Errand)>;

pub(crate) struct Core {
    links: Vec<Option<Link>>,
    admins: Vec<Option<Admin>>,
    pub(crate) errands: Errands,
    leaving: bool,
}

struct Inner {
    group: Group,
    core: Core,
}

/// What a reactor has of all controllers. On its thread alone.
pub(crate) struct Node {
    inner: RefCell<Inner>,
    turned: Cell<Ticks>,
}

impl Node {
    pub(crate) fn open(cx: &mut Cx) -> Result<Rc<Node>, SockError> {
        if let Some(node) = cx.local::<Node>() {
            return Ok(node);
        }
        // More than the slots of a queue can ever hold: a send within them is never refused.
        let options =
            GroupOptions { queue_bytes: u32::MAX, queue_pieces: u32::MAX, ..GroupOptions::default() };
        let group = Group::new(cx, options)?;
        let core = Core { links: Vec::new(), admins: Vec::new(), errands: VecDeque::new(), leaving: false };
        let node =
            Rc::new(Node { inner: RefCell::new(Inner { group, core }), turned: Cell::new(Ticks::ZERO) });
        cx.set_local(node.clone());
        cx.spawn(Box::new(Turn { node: node.clone(), name: format!("nvme_tcp_{}", cx.id().0) }), None);
        Ok(node)
    }

    /// Begins with a controller, on its home.
    pub(crate) fn begin(&self, controller: &Arc<Controller>) {
        let core = &mut self.inner.borrow_mut().core;
        let no = controller.no;
        if core.admins.len() <= no {
            core.admins.resize_with(no + 1, || None);
        }
        core.admins[no] = Some(Admin::new(controller.clone()));
    }

    /// Connects a controller's admin queue again, or ends it for good.
    pub(crate) fn drive(cx: &mut Cx, no: usize, leave: bool) {
        let Some(node) = cx.local::<Node>() else { return };
        let Inner { group, core } = &mut *node.inner.borrow_mut();
        if let Some(Some(admin)) = core.admins.get_mut(no) {
            if leave { admin.leave(cx, group) } else { admin.reset(cx, group) }
        }
    }

    /// IO of this controller does not wait on this reactor any more.
    pub(crate) fn fail(cx: &mut Cx, no: usize) {
        if let Some(node) = cx.local::<Node>() {
            node.run(cx, no, Errand::Fail);
        }
    }

    /// Every reactor knows a controller before it is used.
    pub(crate) fn know(&self, controller: &Arc<Controller>) {
        self.inner.borrow_mut().core.know(controller);
    }

    /// Somebody has a channel: the IO queue is to be there.
    pub(crate) fn want(&self, controller: &Arc<Controller>, qid: u16) {
        let Inner { group, core } = &mut *self.inner.borrow_mut();
        core.know(controller).qid = Some(qid);
        if let Some(Some(link)) = core.links.get_mut(controller.no) {
            link.connect(group, &mut core.errands);
        }
    }

    #[inline]
    pub(crate) fn submit(&self, cx: &mut Cx, no: usize, io: Io, sink: &Rc<Sink>) -> Result<(), Io> {
        let Inner { group, core } = &mut *self.inner.borrow_mut();
        let Some(Some(link)) = core.links.get_mut(no) else {
            sink.done.borrow_mut().push(io.complete(IoStatus::PATH_ERROR));
            return Ok(());
        };
        if link.phase != Phase::Live || !link.held.is_empty() || !link.qp.has_room() {
            return Err(io);
        }
        link.qp.submit(cx, group, ask_of(io, sink)).map_err(|ask| match ask.job {
            Job::Io(mut io, _) => {
                io.bufs = ask.bufs;
                io
            }
            _ => unreachable!("it was an IO"),
        })
    }

    /// Runs an errand of another reactor.
    pub(crate) fn run(&self, cx: &mut Cx, no: usize, errand: Errand) {
        let Inner { group, core } = &mut *self.inner.borrow_mut();
        core.run(cx, group, no, errand);
    }

    /// One turn; the second of a turn of the reactor does nothing.
    pub(crate) fn turn(&self, cx: &mut Cx) -> Work {
        if self.turned.replace(cx.now()) == cx.now() {
            return Work::Idle;
        }
        self.inner.borrow_mut().turn(cx)
    }
}

struct Turn {
    node: Rc<Node>,
    name: String,
}

impl Poller for Turn {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        // Always: what its answer promises must be true when the reactor goes to sleep.
        self.node.turned.set(cx.now());
        self.node.inner.borrow_mut().turn(cx)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        self.node.inner.borrow_mut().leave(cx)
    }
}

impl Inner {
    fn turn(&mut self, cx: &mut Cx) -> Work {
        let Inner { group, core } = self;
        if core.leaving && group.stream_count() == 0 {
            return Work::Idle;
        }
        group.begin(cx);
        while let Some(mut event) = group.next() {
            let user = user_of(&mut event);
            let no = (user & (ADMIN - 1)) as usize;
            if user & ADMIN != 0 {
                if let Some(Some(admin)) = core.admins.get_mut(no) {
                    admin.qp.on(cx, event);
                    admin.look(cx, group, &mut core.errands);
                }
            } else if let Some(Some(link)) = core.links.get_mut(no) {
                link.qp.on(cx, event);
                link.look(cx, group, &mut core.errands);
            }
        }
        let mut work = Work::Idle;
        for place in &mut core.admins {
            let Some(admin) = place else { continue };
            work = work.max(admin.turn(cx, group, &mut core.errands));
            if admin.is_over() {
                *place = None;
            }
        }
        work = work.max(core.run_errands(cx, group));
        work.max(group.end(cx))
    }

    fn leave(&mut self, cx: &mut Cx) -> Stop {
        let Inner { group, core } = self;
        if !std::mem::replace(&mut core.leaving, true) {
            group.abort_all();
            core.admins.clear();
            for link in core.links.iter_mut().flatten() {
                link.up = None;
            }
        }
        if group.stream_count() > 0 {
            return Stop::Draining;
        }
        for link in core.links.iter_mut().flatten() {
            link.fail_held();
        }
        group.close(cx);
        Stop::Done
    }
}

fn user_of(event: &mut Event<'_>) -> u64 {
    match event {
        Event::Connected(stream) | Event::Room(stream) | Event::Filled { stream, .. } => stream.user(),
        Event::Received(received) => received.stream().user(),
        Event::Sent { user, .. }
        | Event::Unsent { user, .. }
        | Event::Unfilled { user, .. }
        | Event::Closed { user, .. } => *user,
        Event::Accepted { .. } | Event::AcceptFailed { .. } => unreachable!("nothing listens here"),
    }
}

impl Core {
    fn know(&mut self, controller: &Arc<Controller>) -> &mut Link {
        let no = controller.no;
        if self.links.len() <= no {
            self.links.resize_with(no + 1, || None);
        }
        self.links[no].get_or_insert_with(|| Link::new(controller.clone()))
    }

    fn run(&mut self, cx: &mut Cx, group: &mut Group, no: usize, errand: Errand) {
        match errand {
            Errand::Lost { .. } | Errand::Closed => {
                if let Some(Some(admin)) = self.admins.get_mut(no) {
                    admin.hear(cx, group, errand);
                }
            }
            Errand::Leave => {
                if let Some(mut link) = self.links.get_mut(no).and_then(Option::take) {
                    link.fail_held();
                }
            }
            errand => {
                if let Some(Some(link)) = self.links.get_mut(no) {
                    link.hear(group, &mut self.errands, errand);
                }
            }
        }
    }

    fn run_errands(&mut self, cx: &mut Cx, group: &mut Group) -> Work {
        if self.errands.is_empty() {
            return Work::Idle;
        }
        for _ in 0..self.errands.len() {
            let Some((to, no, errand)) = self.errands.pop_front() else { break };
            if to == cx.id().0 {
                self.run(cx, group, no, errand);
            } else if let Err(CallError::Full(..)) = tell(&cx.peers()[to as usize], no, errand.clone()) {
                self.errands.push_back((to, no, errand));
            }
        }
        Work::Busy
    }
}

/// Has another reactor run an errand.
fn tell(to: &Handle, no: usize, errand: Errand) -> Result<(), CallError> {
    to.send(move |reactor| {
        if let Some(node) = reactor.cx().local::<Node>() {
            node.run(reactor.cx(), no, errand);
        }
    })
}

/// The connect of a queue.
pub(crate) fn connect_of(controller: &Controller, qid: u16, cntlid: u16) -> Ask {
    let options = &controller.options;
    let mut data = ConnectData::new_zeroed();
    (data.host_id, data.cntlid) = (controller.host_id, U16::new(cntlid));
    put_text(&mut data.sub_nqn, &options.subnqn, 0);
    put_text(&mut data.host_nqn, &options.hostnqn, 0);
    let mut connect = Connect::new_zeroed();
    (connect.opcode, connect.flags, connect.fabrics_type) = (FABRICS, Command::SGL, CONNECT);
    let size = if qid == 0 { crate::admin::DEPTH } else { options.io_queue_size };
    (connect.qid, connect.sq_size) = (U16::new(qid), U16::new(size - 1));
    connect.attributes = Connect::DISABLE_SQ_FLOW;
    connect.kato = if qid == 0 { options.keep_alive_timeout_ms.into() } else { 0.into() };
    let command = Command::read_from_bytes(connect.as_bytes()).expect("64 bytes");
    let inline = Inline::Page(data.as_bytes().into());
    Ask { job: Job::Connect, command, bufs: Bufs::none(), writes: false, inline }
}

impl Link {
    fn new(controller: Arc<Controller>) -> Link {
        let options = &controller.options;
        // One entry of a submission queue stays empty.
        let qp = Qp::new(options.io_queue_size - 1, (options.hdgst, options.ddgst));
        let held = VecDeque::new();
        Link { controller, qp, up: None, phase: Phase::Down, qid: None, held, owes: false }
    }

    /// The association is over for this queue: nothing is sent in it any more, whoever asks.
    fn lost(&mut self, errands: &mut Errands, why: String, silent: bool) {
        if let Some(up) = self.up.take() {
            let errand = Errand::Lost { generation: up.generation, why, silent };
            errands.push_back((self.controller.home.id().0, self.controller.no, errand));
        }
    }

    fn connect(&mut self, group: &mut Group, errands: &mut Errands) {
        let (Some(up), Some(qid), Phase::Down) = (self.up, self.qid, self.phase) else { return };
        if qid > up.io_queues {
            let why = format!("the controller gives {} IO queues now, fewer than are in use", up.io_queues);
            return self.lost(errands, why, false);
        }
        let to = ConnectTo::new(self.controller.options.address);
        match self.qp.connect(group, &to, self.controller.no as u64) {
            Ok(()) => self.phase = Phase::Opening,
            Err(error) => self.lost(errands, error.to_string(), false),
        }
    }

    fn hear(&mut self, group: &mut Group, errands: &mut Errands, errand: Errand) {
        match errand {
            Errand::Up(up) => {
                self.up = Some(up);
                self.connect(group, errands);
            }
            Errand::Down => {
                (self.up, self.owes) = (None, true);
                if self.qp.is_off() {
                    self.closed(errands);
                } else {
                    self.phase = Phase::Closing;
                    self.qp.close(group, "the association is over");
                }
            }
            Errand::Fail => self.fail_held(),
            Errand::Leave | Errand::Lost { .. } | Errand::Closed => {}
        }
    }

    fn closed(&mut self, errands: &mut Errands) {
        self.phase = Phase::Down;
        if std::mem::take(&mut self.owes) {
            let home = self.controller.home.id().0;
            let own = self.controller.no;
            errands.push_back((home, own, Errand::Closed));
        }
    }

    /// IO that waits for an association fails.
    fn fail_held(&mut self) {
        for ask in self.held.drain(..) {
            if let Job::Io(io, sink) = ask.job {
                give_back(io, ask.bufs, &sink, IoStatus::PATH_ERROR);
            }
        }
    }

    /// After an event: what has ended, and what became of the connection.
    fn look(&mut self, cx: &mut Cx, group: &mut Group, errands: &mut Errands) {
        while let Some(over) = self.qp.next_over() {
            self.over(group, over);
        }
        match self.qp.take_told() {
            Some(Told::Open) => {
                if let (Some(up), Some(qid)) = (self.up, self.qid) {
                    self.qp.set_capsule(up.capsule);
                    let ask = connect_of(&self.controller, qid, up.cntlid);
                    self.phase = Phase::Connecting;
                    if self.qp.submit(cx, group, ask).is_err() {
                        self.qp.close(group, "no room for a connect");
                    }
                }
            }
            Some(Told::Closed { why, silent }) => {
                // Before what was not sent again yet.
                let mut held: VecDeque<Ask> = self.qp.take_held(cx).into();
                held.retain(|ask| matches!(ask.job, Job::Io(..)));
                held.append(&mut self.held);
                self.held = held;
                if self.controller.is_failing() {
                    self.fail_held();
                }
                self.lost(errands, format!("its IO queue here ended: {why}"), silent);
                self.closed(errands);
            }
            None => {}
        }
        if self.phase == Phase::Live && !self.held.is_empty() {
            self.send_held(cx, group);
        }
    }

    fn over(&mut self, group: &mut Group, over: Over) {
        match over.job {
            Job::Io(io, sink) => give_back(io, over.bufs, &sink, over.status),
            Job::Connect if over.status.is_ok() => self.phase = Phase::Live,
            _ => {
                self.phase = Phase::Closing;
                self.qp.close(group, &format!("its connect was refused: {}", over.status));
            }
        }
    }

    /// Sends again what was under way, in order; nothing new goes before it.
    fn send_held(&mut self, cx: &mut Cx, group: &mut Group) {
        while self.qp.has_room() {
            let Some(ask) = self.held.pop_front() else { return };
            if let Job::Io(_, sink) = &ask.job
                && sink.namespace.is_gone()
            {
                if let Job::Io(io, sink) = ask.job {
                    give_back(io, ask.bufs, &sink, IoStatus::INVALID_NAMESPACE);
                }
                continue;
            }
            if let Err(ask) = self.qp.submit(cx, group, ask) {
                return self.held.push_front(ask);
            }
        }
    }
}

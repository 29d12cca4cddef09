//! A controller's admin queue, on its home reactor: setup, keep-alive, events; where an association begins and ends.

mod pages;

use crate::controller::{Controller, Found, Phase as Shown, Up};
use crate::node::{Errand, connect_of};
use crate::qp::{Ask, Inline, Job, Over, Qp, Told};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tgt_bdev::{Bufs, Cx, DmaBuf, Ticks, Work};
use tgt_nvme::Command;
use tgt_nvme::command::{FABRICS, admin};
use tgt_nvme::fabrics::{CNTLID_ANY, PROPERTY_GET, PROPERTY_SET, Property};
use tgt_nvme::feature::{ASYNC_EVENT_CONFIG, NUMBER_OF_QUEUES, event};
use tgt_nvme::identify::{PAGE, cns};
use tgt_nvme::log::id::CHANGED_NAMESPACES;
use tgt_nvme::register::{CC, CSTS, csts};
use tgt_nvme::zerocopy::little_endian::{U32, U64};
use tgt_nvme::zerocopy::{FromBytes, FromZeros, IntoBytes};
use tgt_sock::{ConnectTo, Group};

/// Entries of an admin queue.
pub(crate) const DEPTH: u16 = 32;
/// How long a controller may take from the first packet until it is live.
const SETUP_WITHIN: Duration = Duration::from_secs(15);
/// How often its readiness is asked for.
const READY_INTERVAL: Duration = Duration::from_millis(5);
/// CC: enabled, entries of 64 and 16 bytes, pages of 4 KiB.
const ENABLE: u64 = 0x0046_0001;

/// What a controller is asked for, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Enable,
    Ready,
    Controller,
    Queues,
    Events,
    List,
    Namespace(usize),
    Descriptors(usize),
    /// The page of changed namespaces: reading it lets the next event come.
    Changed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not connected, and no attempt is planned.
    Idle,
    Waiting(Ticks),
    Setup,
    Live,
    Closing,
    Over,
}

pub(crate) struct Admin {
    controller: Arc<Controller>,
    pub(crate) qp: Qp,
    phase: Phase,
    generation: u64,
    cntlid: u16,
    up: Option<Up>,
    step: Option<Step>,
    /// When the next question about readiness is due.
    ask_ready: Option<Ticks>,
    setup_until: Ticks,
    beat_due: Ticks,
    beat_sent: Option<Ticks>,
    nsids: Vec<u32>,
    found: Vec<Found>,
    list_again: bool,
    /// Reactors that have not closed yet.
    open: usize,
    told: bool,
    lost_at: Option<Ticks>,
    tried: bool,
    silent: bool,
    failed: bool,
    leaving: bool,
}

impl Admin {
    pub(crate) fn new(controller: Arc<Controller>) -> Admin {
        let qp = Qp::new(DEPTH - 1, (controller.options.hdgst, controller.options.ddgst));
        Admin {
            controller,
            qp,
            phase: Phase::Waiting(Ticks::ZERO),
            generation: 0,
            cntlid: CNTLID_ANY,
            up: None,
            step: None,
            ask_ready: None,
            setup_until: Ticks::NEVER,
            beat_due: Ticks::NEVER,
            beat_sent: None,
            nsids: Vec::new(),
            found: Vec::new(),
            list_again: false,
            open: 0,
            told: false,
            lost_at: None,
            tried: false,
            silent: false,
            failed: false,
            leaving: false,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Connects anew, whatever it does now.
    pub(crate) fn reset(&mut self, cx: &mut Cx, group: &mut Group) {
        match self.phase {
            Phase::Idle | Phase::Waiting(_) => self.phase = Phase::Waiting(cx.now()),
            Phase::Live => self.lose(cx, group, "a reset was asked for", false),
            Phase::Setup | Phase::Closing | Phase::Over => {}
        }
    }

    /// Ends it for good.
    pub(crate) fn leave(&mut self, cx: &mut Cx, group: &mut Group) {
        self.leaving = true;
        self.lose(cx, group, "it is detached", false);
    }

    /// The association is over. What follows from that follows when everything is closed.
    fn lose(&mut self, cx: &mut Cx, group: &mut Group, why: &str, silent: bool) {
        if matches!(self.phase, Phase::Closing | Phase::Over) {
            return;
        }
        let name = &self.controller.options.name;
        tracing::warn!(controller = name.as_str(), "the connection to an NVMe controller is over: {why}");
        self.controller.change(|state| {
            (state.phase, state.last_error) = (Shown::Waiting, Some(why.to_owned()));
        });
        self.lost_at.get_or_insert(cx.now());
        (self.phase, self.silent, self.step, self.beat_sent) = (Phase::Closing, silent, None, None);
        self.qp.close(group, why);
    }

    /// Something of another reactor.
    pub(crate) fn hear(&mut self, cx: &mut Cx, group: &mut Group, errand: Errand) {
        match errand {
            Errand::Lost { generation, why, silent } if generation == self.generation => {
                self.lose(cx, group, &why, silent);
            }
            Errand::Closed => self.open = self.open.saturating_sub(1),
            _ => {}
        }
    }

    /// After an event on its stream.
    pub(crate) fn look(
        &mut self,
        cx: &mut Cx,
        group: &mut Group,
        _errands: &mut VecDeque<(u32, usize, Errand)>,
    ) {
        while let Some(over) = self.qp.next_over() {
            if let Err(why) = self.over(cx, group, over) {
                self.lose(cx, group, &why, false);
            }
        }
        match self.qp.take_told() {
            Some(Told::Open) => self.ask(cx, group, Step::Connect),
            Some(Told::Closed { why, silent }) => {
                self.qp.take_held(cx);
                self.lose(cx, group, &format!("its admin queue ended: {why}"), silent);
            }
            None => {}
        }
    }

    /// One turn. Busy if anything changed: when to be woken for what it waits for now is said in the next turn.
    pub(crate) fn turn(
        &mut self,
        cx: &mut Cx,
        group: &mut Group,
        errands: &mut VecDeque<(u32, usize, Errand)>,
    ) -> Work {
        let before = (self.phase, self.beat_sent, self.ask_ready, self.failed);
        self.tick(cx, group, errands);
        let after = (self.phase, self.beat_sent, self.ask_ready, self.failed);
        if before == after { Work::Idle } else { Work::Busy }
    }

    /// Whatever depends on time, and on others having closed.
    fn tick(&mut self, cx: &mut Cx, group: &mut Group, errands: &mut VecDeque<(u32, usize, Errand)>) {
        let now = cx.now();
        match self.phase {
            Phase::Waiting(when) if now >= when => self.connect(cx, group),
            Phase::Waiting(when) => {
                cx.wake_at(when);
                self.look_at_loss(cx, errands);
            }
            Phase::Setup if now >= self.setup_until => {
                self.lose(cx, group, "it was not ready within 15 s", true);
            }
            Phase::Setup => {
                cx.wake_at(self.setup_until);
                if let Some(when) = self.ask_ready {
                    cx.wake_at(when);
                    if now >= when {
                        self.ask_ready = None;
                        self.ask(cx, group, Step::Ready);
                    }
                }
            }
            Phase::Live => {
                if let Some(up) = self.up.take() {
                    self.told = true;
                    self.open = self.controller.reactors.len();
                    self.to_all(errands, &Errand::Up(up));
                }
                self.beat(cx, group);
            }
            Phase::Closing => {
                if std::mem::take(&mut self.told) {
                    self.to_all(errands, &Errand::Down);
                }
                if self.qp.is_off() && self.open == 0 {
                    self.after(cx, errands);
                }
            }
            Phase::Idle | Phase::Over => {}
        }
    }

    fn to_all(&self, errands: &mut VecDeque<(u32, usize, Errand)>, errand: &Errand) {
        let all = self.controller.reactors.iter();
        errands.extend(all.map(|reactor| (reactor.id().0, self.controller.no, errand.clone())));
    }

    fn connect(&mut self, cx: &mut Cx, group: &mut Group) {
        let to = ConnectTo::new(self.controller.options.address);
        self.generation += 1;
        self.tried = true;
        (self.phase, self.silent) = (Phase::Setup, false);
        self.setup_until = cx.now() + Ticks::from_duration(SETUP_WITHIN);
        let user = 1 << 32 | self.controller.no as u64;
        if let Err(error) = self.qp.connect(group, &to, user) {
            self.lose(cx, group, &error.to_string(), false);
        }
    }

    /// Everything of the lost association is closed.
    fn after(&mut self, cx: &mut Cx, errands: &mut VecDeque<(u32, usize, Errand)>) {
        let options = &self.controller.options;
        if self.leaving {
            self.controller.set_failing(true);
            self.to_all(errands, &Errand::Leave);
            self.phase = Phase::Over;
            return self.controller.change(|state| state.phase = Shown::Ended);
        }
        let first = self.controller.state().listed == 0;
        if first || (options.ctrlr_loss_timeout_sec == 0 && self.tried) {
            return self.give_up(errands);
        }
        let mut delay = Duration::from_secs(options.reconnect_delay_sec.into());
        if self.silent {
            // The controller may not know yet: it ends the old association by itself in this time.
            delay = delay.max(Duration::from_millis(options.keep_alive_timeout_ms.into()));
        }
        self.phase = Phase::Waiting(cx.now() + Ticks::from_duration(delay));
    }

    /// IO fails from now on, and nothing is tried until a reset.
    fn give_up(&mut self, errands: &mut VecDeque<(u32, usize, Errand)>) {
        self.phase = Phase::Idle;
        self.fail(errands);
        self.controller.change(|state| state.phase = Shown::Failed);
    }

    fn fail(&mut self, errands: &mut VecDeque<(u32, usize, Errand)>) {
        if !std::mem::replace(&mut self.failed, true) {
            self.controller.set_failing(true);
            self.to_all(errands, &Errand::Fail);
        }
    }

    fn look_at_loss(&mut self, cx: &mut Cx, errands: &mut VecDeque<(u32, usize, Errand)>) {
        let Some(lost_at) = self.lost_at else { return };
        let options = self.controller.options.clone();
        let due = |seconds: u32| lost_at + Ticks::from_duration(Duration::from_secs(seconds.into()));
        let now = cx.now();
        if options.fast_io_fail_timeout_sec > 0 && !self.failed {
            cx.wake_at(due(options.fast_io_fail_timeout_sec));
            if now >= due(options.fast_io_fail_timeout_sec) {
                self.fail(errands);
            }
        }
        if let Ok(loss @ 1..) = u32::try_from(options.ctrlr_loss_timeout_sec) {
            cx.wake_at(due(loss));
            if now >= due(loss) {
                self.give_up(errands);
                self.controller.change(|state| state.given_up = true);
                self.controller.tell();
            }
        }
    }

    fn beat(&mut self, cx: &mut Cx, group: &mut Group) {
        let timeout = Duration::from_millis(self.controller.options.keep_alive_timeout_ms.into());
        let now = cx.now();
        if let Some(sent) = self.beat_sent {
            let over = sent + Ticks::from_duration(timeout);
            cx.wake_at(over);
            if now >= over {
                self.lose(cx, group, "it answered no keep-alive", true);
            }
        } else if now >= self.beat_due {
            self.beat_sent = Some(now);
            self.send(cx, group, Command::new(admin::KEEP_ALIVE, 0, 0), Job::Beat, Bufs::none());
        } else {
            cx.wake_at(self.beat_due);
        }
    }

    fn send(&mut self, cx: &mut Cx, group: &mut Group, command: Command, job: Job, bufs: Bufs) {
        let ask = Ask { job, command, bufs, writes: false, inline: Inline::None };
        if self.qp.submit(cx, group, ask).is_err() {
            self.lose(cx, group, "its admin queue takes no more commands", false);
        }
    }

    /// Asks the next question.
    fn ask(&mut self, cx: &mut Cx, group: &mut Group, step: Step) {
        self.step = Some(step);
        let mut page = 0;
        let command = match step {
            Step::Connect => {
                let ask = connect_of(&self.controller, 0, CNTLID_ANY);
                if self.qp.submit(cx, group, ask).is_err() {
                    self.lose(cx, group, "its admin queue takes no connect", false);
                }
                return;
            }
            Step::Enable => property(PROPERTY_SET, CC, ENABLE),
            Step::Ready => property(PROPERTY_GET, CSTS, 0),
            Step::Queues => {
                let mut command = Command::new(admin::SET_FEATURES, 0, 0);
                let wanted = self.controller.options.num_io_queues.min(self.controller.reactors.len() as u16);
                command.cdw10 = u32::from(NUMBER_OF_QUEUES).into();
                command.cdw11 = (u32::from(wanted - 1) << 16 | u32::from(wanted - 1)).into();
                command
            }
            Step::Events => {
                let mut command = Command::new(admin::SET_FEATURES, 0, 0);
                command.cdw10 = u32::from(ASYNC_EVENT_CONFIG).into();
                command.cdw11 = event::NAMESPACE.into();
                command
            }
            Step::Changed => {
                page = PAGE as u32;
                let mut command = Command::new(admin::GET_LOG_PAGE, 0, u32::MAX);
                command.cdw10 = ((page / 4 - 1) << 16 | u32::from(CHANGED_NAMESPACES)).into();
                command
            }
            Step::Controller | Step::List | Step::Namespace(_) | Step::Descriptors(_) => {
                page = PAGE as u32;
                let (which, nsid) = match step {
                    Step::Namespace(at) => (cns::NAMESPACE, self.nsids[at]),
                    Step::Descriptors(at) => (cns::DESCRIPTORS, self.nsids[at]),
                    Step::List => (cns::NAMESPACES, 0),
                    _ => (cns::CONTROLLER, 0),
                };
                let mut command = Command::new(admin::IDENTIFY, 0, nsid);
                command.cdw10 = u32::from(which).into();
                command
            }
        };
        let bufs = match DmaBuf::alloc(page.max(1)) {
            Ok(buf) if page > 0 => Bufs::from(buf),
            Ok(_) => Bufs::none(),
            Err(error) => return self.lose(cx, group, &error.to_string(), false),
        };
        self.send(cx, group, command, Job::Step, bufs);
    }

    fn over(&mut self, cx: &mut Cx, group: &mut Group, over: Over) -> Result<(), String> {
        if matches!(self.phase, Phase::Closing | Phase::Over) {
            return Ok(());
        }
        match over.job {
            Job::Beat if over.status.is_ok() => {
                let half = self.controller.options.keep_alive_timeout_ms / 2;
                self.beat_sent = None;
                self.beat_due = cx.now() + Ticks::from_duration(Duration::from_millis(half.into()));
                Ok(())
            }
            Job::Beat => Err(format!("it refused a keep-alive: {}", over.status)),
            Job::Event if over.status.is_ok() => {
                let (kind, info) = (over.answer & 7, over.answer >> 8 & 0xff);
                self.send(
                    cx,
                    group,
                    Command::new(admin::ASYNC_EVENT_REQUEST, 0, 0),
                    Job::Event,
                    Bufs::none(),
                );
                if (kind, info) == (2, 0) {
                    self.list_again = true;
                    self.relist(cx, group);
                }
                Ok(())
            }
            Job::Event => {
                tracing::warn!("an NVMe controller tells of no events: {}", over.status);
                Ok(())
            }
            Job::Connect | Job::Step => self.answered(cx, group, over),
            Job::Io(..) => unreachable!("no IO on an admin queue"),
        }
    }

    fn relist(&mut self, cx: &mut Cx, group: &mut Group) {
        if self.step.is_none() && std::mem::take(&mut self.list_again) {
            self.ask(cx, group, Step::Changed);
        }
    }

    /// The answer to the question of this step, and the next one.
    fn answered(&mut self, cx: &mut Cx, group: &mut Group, over: Over) -> Result<(), String> {
        let Some(step) = self.step.take() else { return Err("an answer without a question".to_owned()) };
        let optional = matches!(step, Step::Descriptors(_) | Step::Events | Step::Changed);
        let vanished = matches!(step, Step::Namespace(_)) && self.phase == Phase::Live;
        if !over.status.is_ok() && !optional && !vanished {
            return Err(format!("{step:?} was answered with {}", over.status));
        }
        let mut page = [0; PAGE];
        if !over.bufs.is_empty() && over.status.is_ok() {
            over.bufs.copy_to_slice(0, &mut page);
        }
        let next = match step {
            Step::Connect => {
                self.cntlid = over.answer as u16;
                Step::Enable
            }
            Step::Enable => Step::Ready,
            Step::Ready if over.answer as u32 & csts::FATAL != 0 => {
                return Err("it says that it has failed".into());
            }
            Step::Ready if over.answer as u32 & csts::READY == 0 => {
                self.ask_ready = Some(cx.now() + Ticks::from_duration(READY_INTERVAL));
                return Ok(());
            }
            Step::Ready => Step::Controller,
            Step::Controller => {
                let (abilities, capsule) = pages::controller(&page, &self.controller)?;
                self.up =
                    Some(Up { generation: self.generation, cntlid: self.cntlid, io_queues: 0, capsule });
                self.controller.change(|state| state.abilities = abilities);
                Step::Queues
            }
            Step::Queues => {
                let granted = (over.answer as u16).min((over.answer >> 16) as u16).saturating_add(1);
                self.controller.grant(granted);
                if let Some(up) = &mut self.up {
                    up.io_queues = granted;
                }
                Step::Events
            }
            Step::Events if over.status.is_ok() => {
                self.send(
                    cx,
                    group,
                    Command::new(admin::ASYNC_EVENT_REQUEST, 0, 0),
                    Job::Event,
                    Bufs::none(),
                );
                Step::List
            }
            Step::Events | Step::Changed => Step::List,
            Step::List => {
                self.nsids = pages::list(&page)?;
                self.found.clear();
                self.next_namespace(0)
            }
            Step::Namespace(at) => {
                let found = pages::namespace(&page, self.nsids[at], &self.controller);
                let there = found.is_some() && over.status.is_ok();
                self.found.extend(found.filter(|_| there));
                if there { Step::Descriptors(at) } else { self.next_namespace(at + 1) }
            }
            Step::Descriptors(at) => {
                if let (Some(uuid), Some(found)) = (pages::uuid(&page), self.found.last_mut()) {
                    found.uuid = uuid;
                }
                self.next_namespace(at + 1)
            }
        };
        if next != Step::Connect {
            self.ask(cx, group, next);
            return Ok(());
        }
        self.listed(cx, group);
        Ok(())
    }

    /// The step for a namespace; `Step::Connect` stands for none left.
    fn next_namespace(&self, at: usize) -> Step {
        if at < self.nsids.len() { Step::Namespace(at) } else { Step::Connect }
    }

    /// All namespaces are known.
    fn listed(&mut self, cx: &mut Cx, group: &mut Group) {
        self.controller.list(std::mem::take(&mut self.found));
        if self.phase == Phase::Setup {
            self.phase = Phase::Live;
            (self.lost_at, self.tried, self.failed) = (None, false, false);
            self.beat_due = cx.now();
            self.controller.set_failing(false);
            let (generation, cntlid) = (self.generation, self.cntlid);
            self.controller.change(|state| {
                (state.phase, state.generation, state.last_error) = (Shown::Live, generation, None);
                state.cntlid = cntlid;
            });
        }
        self.relist(cx, group);
    }
}

fn property(kind: u8, offset: u32, value: u64) -> Command {
    let mut property = Property::new_zeroed();
    (property.opcode, property.flags, property.fabrics_type) = (FABRICS, Command::SGL, kind);
    (property.offset, property.value) = (U32::new(offset), U64::new(value));
    Command::read_from_bytes(property.as_bytes()).expect("64 bytes")
}

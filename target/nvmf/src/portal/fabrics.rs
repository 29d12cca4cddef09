//! The control half of a connection: connect, properties, admin commands. Everything is copied; nothing waits for memory.

use super::answers::sent;
use super::conn::{AdminHalf, Conn, Fused, Phase, Queue};
use super::{Core, Errand};
use crate::codec::encode;
use crate::control::connect::{self, QUEUE_IN_USE, Refusal, Wish};
use crate::control::{Admin, Answer, Around, Change};
use crate::model::{Controller, Life, QueueAt, QueueInfo, QueueStats};
use std::sync::Arc;
use tgt_bdev::{Cx, Ticks};
use tgt_nvme::command::{FABRICS, admin};
use tgt_nvme::fabrics::{self, NO_SQ_FLOW_CONTROL, Property};
use tgt_nvme::zerocopy::little_endian::{U16, U32};
use tgt_nvme::zerocopy::{FromBytes, IntoBytes};
use tgt_nvme::{Command, Completion, Sgl, status};
use tgt_sock::{Group, Stream};
use tgt_status::IoStatus;

/// A discovery controller whose host asked for no timeout ends when it is silent for so long (base 3.1.3.3).
const DISCOVERY_KATO_MS: u32 = 120_000;
/// Bits of `flags` that are fixed for admin commands: data pointer and fused operation.
const FLAG_BITS: u8 = 0xc3;

impl Core {
    /// A command that is no IO, with its data.
    pub(super) fn on_control(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        command: &Command,
        data: &[u8],
    ) {
        if let Err(status) = check_pointer(command, data) {
            return self.respond(conn, stream, command, status, 0);
        }
        let live = conn.phase == Phase::Live;
        match (command.opcode, command.fabrics_type()) {
            (FABRICS, fabrics::CONNECT) if !live => self.connect(cx, conn, stream, command, data),
            (_, _) if !live => self.respond(conn, stream, command, status::COMMAND_SEQUENCE_ERROR, 0),
            (FABRICS, fabrics::CONNECT) => {
                self.respond(conn, stream, command, status::COMMAND_SEQUENCE_ERROR, 0);
            }
            (FABRICS, fabrics::PROPERTY_GET | fabrics::PROPERTY_SET) => {
                self.property(conn, stream, command);
            }
            (FABRICS, _) => self.respond(conn, stream, command, IoStatus::INVALID_OPCODE, 0),
            _ => self.admin(cx, conn, stream, command, data),
        }
    }

    fn connect(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        command: &Command,
        data: &[u8],
    ) {
        let wish = connect::read(command, data);
        let result = wish.and_then(|wish| {
            self.join_controller(cx, conn, &wish).map(|controller| (controller.cntlid, wish))
        });
        match result {
            Ok((cntlid, wish)) => {
                let mut completion = Completion::new(command.cid.get(), IoStatus::SUCCESS, false);
                completion.dw0 = U32::new(cntlid.into());
                if wish.no_flow_control {
                    completion.sq_head = U16::new(NO_SQ_FLOW_CONTROL);
                } else if let Some(queue) = &mut conn.queue {
                    queue.head = 1 % queue.entries;
                    completion.sq_head = U16::new(queue.head);
                }
                sent(stream.send(encode::response(&conn.agreed, completion).bytes()), stream);
            }
            Err(Refusal { status, value, why }) => {
                tracing::warn!("host {} is refused: {why} ({status})", conn.peer);
                self.respond(conn, stream, command, status, value);
            }
        }
    }

    /// Makes the connection a queue: of a new controller, or of the one it names.
    fn join_controller(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        wish: &Wish,
    ) -> Result<Arc<Controller>, Refusal> {
        let judge = if wish.qid == 0 { connect::admin } else { connect::io };
        let controller = judge(&self.tables, &self.options, wish, conn.door)?;
        let subsystem = controller.subsystem.clone();
        let life = Life::new(subsystem.fence(&wish.host_nqn));
        let stats = Arc::new(QueueStats::default());
        let added = controller.add_queue(QueueInfo {
            qid: wish.qid,
            at: QueueAt { reactor: self.own, conn: conn.no },
            life: life.clone(),
            stats: stats.clone(),
            peer: conn.peer,
        });
        if !added {
            if wish.qid == 0 {
                // It was ended before it had a queue, whose end would take it out.
                subsystem.remove_controller(&controller);
            }
            return Err(QUEUE_IN_USE);
        }
        let ana = controller.listener.clone().filter(|_| subsystem.spec.ana_reporting);
        let mut queue = Queue {
            qid: wish.qid,
            controller: controller.clone(),
            ana,
            life,
            stats,
            drained: false,
            entries: wish.sq_size + 1,
            head: 0,
            flow_control: !wish.no_flow_control,
            view: None,
            fused: Fused::None,
            admin: None,
        };
        if wish.qid == 0 {
            queue.admin = Some(self.new_admin(cx, conn, &controller, wish));
            (self.counts.admin_queues, self.counts.admin_now) =
                (self.counts.admin_queues + 1, self.counts.admin_now + 1);
        } else {
            queue.view = Some(self.lanes.enter(cx, &subsystem));
            conn.expect.capsule_max = self.options.in_capsule_data_size;
            (self.counts.io_queues, self.counts.io_now) = (self.counts.io_queues + 1, self.counts.io_now + 1);
        }
        conn.queue = Some(queue);
        conn.phase = Phase::Live;
        Ok(controller)
    }

    fn new_admin(
        &mut self,
        cx: &mut Cx,
        conn: &Conn,
        controller: &Arc<Controller>,
        wish: &Wish,
    ) -> Box<AdminHalf> {
        let asked = if controller.subsystem.is_discovery() && wish.kato_ms == 0 {
            DISCOVERY_KATO_MS
        } else {
            wish.kato_ms
        };
        let kato = self.options.kato(asked);
        let (options, tables) = (&self.options, &*self.tables);
        let admin = Admin::new(Around { controller, options, tables, local: conn.local }, kato);
        self.beating.push(conn.no);
        // Looked at in this turn, which finds out when it may be over.
        self.next_beat = Ticks::ZERO;
        tracing::info!(
            "host {} ({}) has controller {} of {}",
            controller.host_nqn,
            conn.peer,
            controller.cntlid,
            controller.subsystem.nqn()
        );
        Box::new(AdminHalf { admin, heard: cx.now() })
    }

    fn property(&mut self, conn: &mut Conn, stream: &mut Stream<'_>, command: &Command) {
        let property = Property::read_from_bytes(command.as_bytes()).expect("64 bytes are 64 bytes");
        let (offset, size) = (property.offset.get(), property.size & 7);
        let Some(half) = conn.queue.as_mut().and_then(|queue| queue.admin.as_mut()) else {
            return self.respond(conn, stream, command, status::INVALID_QUEUE_TYPE, 0);
        };
        let registers = &mut half.admin.registers;
        let result = match (property.fabrics_type, size) {
            (_, 2..) => Err(IoStatus::INVALID_FIELD),
            (fabrics::PROPERTY_GET, size) => registers.get(offset, size == 1),
            (_, size) => registers.set(offset, size == 1, property.value.get()).map(|change| {
                self.changed(conn, stream, change);
                0
            }),
        };
        match result {
            Ok(value) => self.respond(conn, stream, command, IoStatus::SUCCESS, value),
            Err(status) => self.respond(conn, stream, command, status, 0),
        }
    }

    /// What a change of the controller's configuration means to its queues.
    fn changed(&mut self, conn: &mut Conn, stream: &mut Stream<'_>, change: Change) {
        let Some(queue) = &mut conn.queue else { return };
        let controller = queue.controller.clone();
        match change {
            Change::None | Change::ShutDown => {}
            Change::Enabled => controller.set_enabled(true),
            Change::Disabled => {
                controller.set_enabled(false);
                controller.end_io_queues().into_iter().for_each(|at| self.end_elsewhere(at));
                let half = queue.admin.as_mut().expect("asked of an admin queue");
                let requests: Vec<u16> = half.admin.events.reset().collect();
                for cid in requests {
                    let request = Command::new(admin::ASYNC_EVENT_REQUEST, cid, 0);
                    self.respond(conn, stream, &request, IoStatus::ABORTED_SQ_DELETION, 0);
                }
            }
        }
    }

    fn admin(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        command: &Command,
        data: &[u8],
    ) {
        let local = conn.local;
        let Some(queue) = &mut conn.queue else { return };
        let controller = queue.controller.clone();
        let half = queue.admin.as_mut().expect("IO queues have IO commands");
        if command.flags & FLAG_BITS != Command::SGL {
            return self.respond(conn, stream, command, IoStatus::INVALID_FIELD, 0);
        }
        let around = Around { controller: &controller, options: &self.options, tables: &self.tables, local };
        let kato = half.admin.kato_ms();
        let answer = half.admin.on_command(around, command, data);
        if half.admin.kato_ms() != kato {
            self.next_beat = Ticks::ZERO;
        }
        match answer {
            Answer::Done(value) => self.respond(conn, stream, command, IoStatus::SUCCESS, value),
            Answer::Failed(status) => self.respond(conn, stream, command, status, 0),
            Answer::Pends => {}
            Answer::Data(page) => match check_room(command, &page) {
                Ok(()) => self.respond_with(conn, stream, command, &page),
                Err(status) => self.respond(conn, stream, command, status, 0),
            },
            Answer::Abort { qid, cid } => self.abort(cx, conn, stream, command, (qid, cid)),
        }
        self.tell_events(conn, stream);
    }

    /// An event request is taken back at once. What a bdev has may end a little earlier; whether it does is not known when this is
    /// answered, so it is answered that the command was not aborted.
    fn abort(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        command: &Command,
        (qid, cid): (u16, u16),
    ) {
        const NOT_ABORTED: u64 = 1;
        let Some(queue) = &mut conn.queue else { return };
        let controller = queue.controller.clone();
        let events = queue.admin.as_mut().map(|half| &mut half.admin.events);
        if qid == 0 && events.is_some_and(|events| events.abort(cid)) {
            let request = Command::new(admin::ASYNC_EVENT_REQUEST, cid, 0);
            self.respond(conn, stream, &request, IoStatus::ABORTED, 0);
            return self.respond(conn, stream, command, IoStatus::SUCCESS, 0);
        }
        let named = controller.queues().into_iter().find(|queue| queue.qid == qid && qid > 0);
        match named {
            Some(queue) if queue.at.reactor == self.own => self.abort_command(cx, queue.at.conn, cid),
            Some(queue) => self.errands.push((queue.at.reactor, Errand::Abort(queue.at.conn, cid))),
            None => {}
        }
        self.respond(conn, stream, command, IoStatus::SUCCESS, NOT_ABORTED);
    }

    /// Completes event requests for what has happened.
    fn tell_events(&mut self, conn: &mut Conn, stream: &mut Stream<'_>) {
        let next = |conn: &mut Conn| conn.queue.as_mut()?.admin.as_mut()?.admin.events.take_next();
        while let Some((cid, value)) = next(conn) {
            let request = Command::new(admin::ASYNC_EVENT_REQUEST, cid, 0);
            self.respond(conn, stream, &request, IoStatus::SUCCESS, value);
        }
    }

    /// Controllers that have news tell their hosts.
    pub(super) fn take_news(&mut self, group: &mut Group) {
        for no in std::mem::take(&mut self.announced) {
            let Some(mut conn) = self.conns.take(no) else { continue };
            if let (Some(queue), Some(mut stream)) = (&mut conn.queue, group.stream(conn.stream)) {
                let news = queue.controller.take_news();
                if let Some(half) = &mut queue.admin {
                    half.admin.events.raise(news);
                }
                self.tell_events(&mut conn, &mut stream);
            }
            self.conns.put(conn);
        }
    }
}

/// Data that came must be where the command says.
fn check_pointer(command: &Command, data: &[u8]) -> Result<(), IoStatus> {
    let sgl = &command.sgl;
    if data.is_empty() {
        return Ok(());
    }
    match sgl.kind {
        Sgl::IN_CAPSULE if sgl.address.get() != 0 => Err(status::SGL_OFFSET_INVALID),
        Sgl::IN_CAPSULE if sgl.length.get() as usize == data.len() => Ok(()),
        Sgl::IN_CAPSULE | Sgl::TRANSPORT => Err(status::DATA_SGL_LENGTH_INVALID),
        _ => Err(status::SGL_TYPE_INVALID),
    }
}

/// The host must have room for what it gets.
fn check_room(command: &Command, page: &[u8]) -> Result<(), IoStatus> {
    match command.sgl.kind {
        Sgl::TRANSPORT if command.sgl.length.get() as usize >= page.len() => Ok(()),
        Sgl::TRANSPORT => Err(status::DATA_SGL_LENGTH_INVALID),
        _ => Err(status::SGL_TYPE_INVALID),
    }
}

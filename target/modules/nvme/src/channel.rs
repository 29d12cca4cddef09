//! A namespace as a bdev, and its channels.

use crate::controller::{Controller, Namespace};
use crate::node::Node;
use crate::qp::{Ask, Inline, Job};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use tgt_bdev::{Bdev, Bufs, Channel, Cx, Device, DoneQueue, Io, IoStatus, Op, Work};
use tgt_nvme::Command;
use tgt_nvme::command::{DsmRange, nvm};
use tgt_nvme::zerocopy::IntoBytes;

pub(crate) struct NvmeDevice {
    pub(crate) controller: Arc<Controller>,
    pub(crate) namespace: Arc<Namespace>,
}

/// Where IO of a channel comes back.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) done: RefCell<DoneQueue>,
    pub(crate) namespace: Arc<Namespace>,
}

pub(crate) struct NvmeChannel {
    node: Rc<Node>,
    controller: Arc<Controller>,
    sink: Rc<Sink>,
}

impl Device for NvmeDevice {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        let node = Node::open(cx).map_err(|error| error.to_string())?;
        let of = &self.controller;
        let qid = of.queue_of(cx.id()).map_err(|most| {
            format!("controller {} gives {most} IO queues, all are taken by other reactors", of.options.name)
        })?;
        node.want(of, qid);
        let done = RefCell::new(DoneQueue::with_capacity(usize::from(of.options.io_queue_size)));
        let sink = Rc::new(Sink { done, namespace: self.namespace.clone() });
        Ok(Box::new(NvmeChannel { node, controller: of.clone(), sink }))
    }

    fn driver_specific(&self, _bdev: &Bdev) -> Value {
        let of = &self.controller.options;
        json!({"nvme": [{
            "trid": crate::rpc::trid(of),
            "ns_data": {"id": self.namespace.nsid, "can_share": false},
        }]})
    }
}

impl Channel for NvmeChannel {
    #[inline]
    fn submit(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        if self.sink.namespace.is_gone() {
            self.sink.done.borrow_mut().push(io.complete(IoStatus::INVALID_NAMESPACE));
            return Ok(());
        }
        if self.controller.is_failing() {
            self.sink.done.borrow_mut().push(io.complete(IoStatus::PATH_ERROR));
            return Ok(());
        }
        self.node.submit(cx, self.controller.no, io, &self.sink)
    }

    #[inline]
    fn poll(&mut self, cx: &mut Cx, done: &mut DoneQueue) -> Work {
        let work = self.node.turn(cx);
        let mut ended = self.sink.done.borrow_mut();
        if ended.is_empty() {
            return if work == Work::Busy { Work::Busy } else { Work::Idle };
        }
        done.take_all(&mut ended);
        Work::Busy
    }
}

/// The command of an IO.
pub(crate) fn ask_of(mut io: Io, sink: &Rc<Sink>) -> Ask {
    let opcode = match io.op {
        Op::Read => nvm::READ,
        Op::Write => nvm::WRITE,
        Op::WriteZeroes => nvm::WRITE_ZEROES,
        Op::Unmap => nvm::DATASET_MANAGEMENT,
        Op::Compare => nvm::COMPARE,
        _ => nvm::FLUSH,
    };
    let mut command = Command::new(opcode, 0, sink.namespace.nsid);
    let mut inline = Inline::None;
    match io.op {
        Op::Unmap => {
            let range = DsmRange { attributes: 0.into(), blocks: io.blocks.into(), lba: io.lba.into() };
            let mut bytes = [0; 16];
            bytes.copy_from_slice(range.as_bytes());
            inline = Inline::Range(bytes);
            command.cdw11 = Command::DEALLOCATE.into();
        }
        Op::Flush => {}
        _ => {
            if io.fua {
                command.cdw12 = Command::FUA.into();
            }
            command.set_range(io.lba, io.blocks);
        }
    }
    let bufs = std::mem::replace(&mut io.bufs, Bufs::none());
    let writes = matches!(io.op, Op::Write | Op::Compare);
    Ask { job: Job::Io(io, sink.clone()), command, bufs, writes, inline }
}

/// Gives an IO back.
#[inline]
pub(crate) fn give_back(mut io: Io, bufs: Bufs, sink: &Sink, status: IoStatus) {
    io.bufs = bufs;
    sink.done.borrow_mut().push(io.complete(status));
}

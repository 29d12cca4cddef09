//! A bdev whose base is served on another reactor: IO and completions cross in two queues, moved whole.

use std::sync::Arc;
use tgt_bdev::{
    BdevSpec, Bdevs, Channel, Cx, Desc, Device, DoneQueue, Io, IoChannel, IoStatus, Limits, Mode, Work,
};
use tgt_reactor::{Handle, Poller, Stop};
use tgt_ring::{Receiver, Sender, link};
use uuid::Uuid;

/// IOs between the two reactors; more are handed back.
const CAPACITY: usize = 1024;

/// Registers a bdev named `name` that serves `base` on the reactor `there`, whoever opens it where.
pub fn create(bdevs: &Bdevs, name: &str, base: &str, there: &Handle) -> Arc<tgt_bdev::Bdev> {
    let base = Arc::new(bdevs.open(base, name, Mode::Write).expect("the base is there"));
    let bdev = base.bdev().clone();
    let spec = BdevSpec {
        name: name.to_owned(),
        aliases: Vec::new(),
        product_name: "hop",
        uuid: Uuid::new_v4(),
        block_size: bdev.block_size(),
        num_blocks: bdev.num_blocks(),
        ops: bdev.ops(),
        limits: Limits::default(),
        numa_node: None,
        device: Arc::new(Hop { base, there: there.clone() }),
    };
    bdevs.register(spec).expect("the name is free")
}

struct Hop {
    base: Arc<Desc>,
    there: Handle,
}

impl Device for Hop {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        let here = cx.peers()[cx.id().0 as usize].clone();
        let (to_there, requests) = link(CAPACITY, self.there.bell().clone());
        let (answers, from_there) = link(CAPACITY, here.bell().clone());
        let base = self.base.clone();
        let serve = move |reactor: &mut tgt_reactor::Reactor| {
            let channel = base.open_channel(reactor.cx()).expect("the base is open");
            let server = Server { channel, requests, answers, done: DoneQueue::default() };
            reactor.cx().spawn(Box::new(server), None);
        };
        self.there.send(serve).map_err(|error| error.to_string())?;
        Ok(Box::new(Client { to_there, from_there, in_flight: 0 }))
    }
}

/// The half that openers hold.
struct Client {
    to_there: Sender<Io>,
    from_there: Receiver<tgt_bdev::Done>,
    in_flight: usize,
}

impl Channel for Client {
    fn submit(&mut self, _cx: &mut Cx, io: Io) -> Result<(), Io> {
        if self.in_flight == CAPACITY {
            return Err(io);
        }
        self.to_there.push(io)?;
        self.in_flight += 1;
        Ok(())
    }

    fn poll(&mut self, _cx: &mut Cx, done: &mut DoneQueue) -> Work {
        // What was submitted since the last poll is announced in one go.
        self.to_there.flush();
        let before = self.in_flight;
        while let Some(one) = self.from_there.pop() {
            self.in_flight -= 1;
            done.push(one);
        }
        if self.in_flight < before { Work::Busy } else { Work::Idle }
    }
}

/// The half on the other reactor.
struct Server {
    channel: IoChannel,
    requests: Receiver<Io>,
    answers: Sender<tgt_bdev::Done>,
    done: DoneQueue,
}

impl Poller for Server {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let mut work = Work::Idle;
        while let Some(io) = self.requests.pop() {
            work = Work::Busy;
            if let Err(io) = self.channel.submit(cx, io) {
                self.done.push(io.complete(IoStatus::NAMESPACE_NOT_READY_RETRY));
            }
        }
        work = work.max(self.channel.poll(cx, &mut self.done));
        while let Some(one) = self.done.pop() {
            // Never more answers than requests, and the queues are equally long.
            self.answers.push(one).expect("there is room for every answer");
        }
        self.answers.flush();
        let closed = self.requests.is_closed() && self.channel.in_flight() == 0;
        if closed { Work::Over } else { work }
    }

    fn name(&self) -> &str {
        "hop"
    }

    fn stop(&mut self, _cx: &mut Cx) -> Stop {
        if self.channel.in_flight() == 0 { Stop::Done } else { Stop::Draining }
    }
}

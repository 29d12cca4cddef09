//! A pool's requests from other reactors than its home: they go there whole, with their memory, and come back the same way.

use super::PoolChannel;
use std::time::Duration;
use tgt_bdev::{Channel, Done, DoneQueue, Io, IoStatus};
use tgt_env::clock::Ticks;
use tgt_reactor::{Cx, Handle, Poller, Reactor, Stop, Work};
use tgt_ring::{Receiver, Sender, link};
use uuid::Uuid;

/// Requests of one channel that are on their way or under way; more are handed back.
const CAPACITY: usize = 1024;
/// A request that the pool does not take now is offered again after this, if nothing happens before.
const AGAIN: Duration = Duration::from_millis(1);

/// A channel to the pool that is on `home`, for this reactor.
///
/// # Errors
/// On its home: if the pool is not there. Elsewhere: if the home takes no messages any more; if the pool is not there, all
/// requests end as aborted.
pub fn open_channel(cx: &mut Cx, home: &Handle, pool: Uuid) -> Result<Box<dyn Channel>, String> {
    if cx.id() == home.id() {
        return Ok(Box::new(PoolChannel::open(cx, pool)?));
    }
    let here = cx.peers()[cx.id().0 as usize].clone();
    let (to_home, requests) = link(CAPACITY, home.bell().clone());
    let (answers, from_home) = link(CAPACITY, here.bell().clone());
    let serve = move |reactor: &mut Reactor| {
        let cx = reactor.cx();
        let channel = PoolChannel::open(cx, pool);
        if let Err(why) = &channel {
            tracing::warn!(why, "requests of another reactor are aborted");
        }
        let server = Server {
            channel: channel.ok(),
            requests,
            answers,
            refused: None,
            under_way: 0,
            done: DoneQueue::default(),
        };
        cx.spawn(Box::new(server), None);
    };
    home.send(serve).map_err(|error| error.to_string())?;
    Ok(Box::new(FarChannel { to_home, from_home, under_way: 0 }))
}

/// The half on the reactor where requests are made.
struct FarChannel {
    to_home: Sender<Io>,
    from_home: Receiver<Done>,
    under_way: usize,
}

impl Channel for FarChannel {
    #[inline]
    fn submit(&mut self, _cx: &mut Cx, io: Io) -> Result<(), Io> {
        if self.under_way == CAPACITY {
            return Err(io);
        }
        self.to_home.push(io)?;
        self.under_way += 1;
        Ok(())
    }

    #[inline]
    fn poll(&mut self, _cx: &mut Cx, done: &mut DoneQueue) -> Work {
        // What was submitted since the last poll is announced in one go.
        self.to_home.flush();
        let before = self.under_way;
        while let Some(one) = self.from_home.pop() {
            self.under_way -= 1;
            done.push(one);
        }
        if self.under_way < before { Work::Busy } else { Work::Idle }
    }
}

/// The half on the home reactor. It goes when the other has gone.
struct Server {
    channel: Option<PoolChannel>,
    requests: Receiver<Io>,
    answers: Sender<Done>,
    /// The pool did not take it; those behind it wait.
    refused: Option<Io>,
    under_way: usize,
    done: DoneQueue,
}

impl Server {
    /// Takes requests in, as many as the pool takes. True if there were any.
    fn take_in(&mut self, cx: &mut Cx) -> bool {
        let mut any = false;
        while let Some(io) = self.refused.take().or_else(|| self.requests.pop()) {
            let refused = match &mut self.channel {
                Some(channel) => channel.submit(cx, io).err(),
                None => {
                    self.done.push(io.complete(IoStatus::ABORTED));
                    None
                }
            };
            if let Some(io) = refused {
                self.refused = Some(io);
                let again = cx.now() + Ticks::from_duration(AGAIN);
                cx.wake_at(again);
                return any;
            }
            self.under_way += 1;
            any = true;
        }
        any
    }

    fn answer(&mut self, cx: &mut Cx) -> Work {
        let work = match &mut self.channel {
            Some(channel) => channel.poll(cx, &mut self.done),
            None => Work::Idle,
        };
        while let Some(one) = self.done.pop() {
            self.under_way -= 1;
            // Never more answers than requests, and the queues are equally long.
            self.answers.push(one).expect("there is room for every answer");
        }
        self.answers.flush();
        work
    }
}

impl Poller for Server {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        // Looked at first: what was sent before can still be taken in.
        let alone = self.requests.is_closed();
        let any = self.take_in(cx);
        let work = self.answer(cx);
        match any {
            _ if alone && self.under_way == 0 && self.refused.is_none() => Work::Over,
            true => work.max(Work::Busy),
            false => work,
        }
    }

    fn name(&self) -> &str {
        "rmr requests of another reactor"
    }

    fn stop(&mut self, _cx: &mut Cx) -> Stop {
        // The other half waits for its answers, then goes, and `poll` says that this is over.
        Stop::Draining
    }
}

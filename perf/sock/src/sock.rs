//! The same through `tgt-sock`, under a reactor.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use tgt_env::bufs::Bufs;
use tgt_env::memory::DmaBuf;
use tgt_reactor::{Cx, Poller, Reactors, SleepPolicy, StartOptions, Work};
use tgt_sock::{
    ConnectTo, Event, Group, GroupOptions, ListenOn, Payload, Received, SocketOptions, Stream, StreamId,
};

use perf_sock::wire::{ANSWER, Load, Outcome, REQUEST, Setting, decode, encode, waited_ns};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn reactor(setting: &Setting) -> Reactors {
    let sleep = if setting.poll { SleepPolicy::Never } else { SleepPolicy::ADAPTIVE };
    let options = StartOptions { cores: vec![setting.core], sleep, pin: true };
    Reactors::start(&options).expect("a reactor")
}

fn socket(congestion: &str) -> SocketOptions {
    SocketOptions { congestion: Some(congestion.to_owned()), ..SocketOptions::default() }
}

/// Room for the deepest queue of the largest payloads.
fn options(hot_time: Duration) -> GroupOptions {
    GroupOptions { queue_bytes: 256 << 20, hot_time, ..GroupOptions::default() }
}

fn payload(len: u32) -> Bufs {
    DmaBuf::alloc(len).expect("memory").into()
}

/// Says where it listens, serves one connection.
pub(crate) fn serve(setting: &Setting) {
    let reactors = reactor(setting);
    let (payload, hot_time) = (setting.payload, setting.hot_time);
    let on = ListenOn { socket: socket(&setting.congestion), ..ListenOn::new(([127, 0, 0, 1], 0).into()) };
    let (over, is_over) = channel();
    let (say, address) = channel();
    let make = move |reactor: &mut tgt_reactor::Reactor| {
        let mut group = Group::new(reactor.cx(), options(hot_time)).expect("a group");
        let listener = group.listen(&on).expect("loopback");
        say.send(group.listener_address(listener).expect("it listens")).expect("it waits");
        Server { group, over, payload, awaited: 0 }
    };
    reactors.handles()[0].spawn(make).expect("an answer");
    println!("{}", address.recv().expect("an address"));
    io::stdout().flush().expect("somebody reads it");
    is_over.recv().expect("one connection comes and goes");
    assert_eq!(reactors.stop(), []);
}

struct Server {
    group: Group,
    over: Sender<()>,
    /// Bytes.
    payload: u32,
    /// Number of the write whose payload is awaited.
    awaited: u32,
}

impl Poller for Server {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.group.begin(cx);
        while let Some(event) = self.group.next() {
            match event {
                Event::Received(mut received) => serve_bytes(&mut received, self.payload, &mut self.awaited),
                Event::Filled { mut stream, .. } => answer(&mut stream, true, self.payload, self.awaited),
                Event::Closed { .. } => {
                    self.group.close(cx);
                    self.over.send(()).expect("it waits");
                    return Work::Over;
                }
                Event::Accepted { .. } | Event::Sent { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.group.end(cx)
    }

    fn name(&self) -> &str {
        "server"
    }
}

fn serve_bytes(received: &mut Received<'_>, len: u32, awaited: &mut u32) {
    while let Some(head) = received.bytes().get(..REQUEST) {
        let (writes, number) = decode(head);
        received.consume(REQUEST);
        if writes && received.payload(Payload::whole(payload(len), 0)).is_none() {
            *awaited = number;
            return;
        }
        answer(received.stream(), writes, len, number);
    }
}

fn answer(stream: &mut Stream<'_>, writes: bool, len: u32, number: u32) {
    let mut head = [0; ANSWER];
    encode(&mut head, writes, number);
    if writes {
        stream.send(&head).expect("room");
    } else {
        stream.send_with(&head, Payload::whole(payload(len), 0)).expect("room");
    }
}

/// Loads a server.
pub(crate) fn drive(address: SocketAddr, setting: &Setting, load: Load) -> Outcome {
    let reactors = reactor(setting);
    let (len, hot_time) = (setting.payload, setting.hot_time);
    let to = ConnectTo { socket: socket(&setting.congestion), ..ConnectTo::new(address) };
    let (done, outcome) = channel();
    let make = move |reactor: &mut tgt_reactor::Reactor| {
        let mut group = Group::new(reactor.cx(), options(hot_time)).expect("a group");
        let stream = group.connect(&to).expect("an attempt");
        let buffers = (0..load.depth).map(|_| Some(payload(len))).collect();
        Client {
            group,
            stream,
            load,
            buffers,
            start: None,
            waited: 0,
            count: 0,
            under_way: 0,
            over: false,
            done,
        }
    };
    reactors.handles()[0].spawn(make).expect("an answer");
    let outcome = outcome.recv_timeout(PATIENCE).expect("the load ends");
    assert_eq!(reactors.stop(), []);
    outcome
}

struct Client {
    group: Group,
    stream: StreamId,
    load: Load,
    /// One for each number; away while it is being sent or filled.
    buffers: Vec<Option<Bufs>>,
    start: Option<Instant>,
    waited: u64,
    count: u64,
    under_way: u32,
    over: bool,
    done: Sender<Outcome>,
}

impl Poller for Client {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let before = self.count;
        self.group.begin(cx);
        while let Some(event) = self.group.next() {
            match event {
                Event::Connected(mut stream) => {
                    (self.start, self.waited) = (Some(Instant::now()), waited_ns());
                    self.under_way = self.load.depth;
                    (0..self.load.depth)
                        .for_each(|number| request(&mut stream, self.load, number, &mut self.buffers));
                }
                Event::Received(mut received) => {
                    while let Some(head) = received.bytes().get(..ANSWER) {
                        let (writes, number) = decode(head);
                        assert_eq!(writes, self.load.writes);
                        received.consume(ANSWER);
                        if !writes {
                            let bufs = self.buffers[number as usize].take().expect("here");
                            match received.payload(Payload::whole(bufs, u64::from(number))) {
                                Some(payload) => self.buffers[number as usize] = Some(payload.bufs),
                                None => break,
                            }
                        }
                        self.count += 1;
                        if self.over {
                            self.under_way -= 1;
                        } else {
                            request(received.stream(), self.load, number, &mut self.buffers);
                        }
                    }
                }
                Event::Filled { mut stream, payload } => {
                    self.buffers[payload.tag as usize] = Some(payload.bufs);
                    self.count += 1;
                    if self.over {
                        self.under_way -= 1;
                    } else {
                        request(&mut stream, self.load, payload.tag as u32, &mut self.buffers);
                    }
                }
                Event::Sent { payload, .. } => self.buffers[payload.tag as usize] = Some(payload.bufs),
                other => panic!("{other:?}"),
            }
        }
        if let Some(start) = self.start.filter(|_| self.count > before) {
            self.over |= start.elapsed() >= self.load.time;
            if self.under_way == 0 {
                return self.finish(cx, start);
            }
        }
        self.group.end(cx)
    }

    fn name(&self) -> &str {
        "client"
    }
}

impl Client {
    fn finish(&mut self, cx: &mut Cx, start: Instant) -> Work {
        let time = start.elapsed();
        let waited = (waited_ns() - self.waited) as f64 / time.as_nanos() as f64;
        let stats = self.group.stats();
        let calls = stats.reads + stats.sends;
        self.done.send(Outcome { count: self.count, time, calls, waited }).expect("it waits");
        self.group.stream(self.stream).expect("it is open").finish(PATIENCE);
        let _ = self.group.end(cx);
        self.group.close(cx);
        Work::Over
    }
}

fn request(stream: &mut Stream<'_>, load: Load, number: u32, buffers: &mut [Option<Bufs>]) {
    let mut head = [0; REQUEST];
    encode(&mut head, load.writes, number);
    if load.writes {
        let bufs = buffers[number as usize].take().expect("sent long ago");
        stream.send_with(&head, Payload::whole(bufs, u64::from(number))).expect("room");
    } else {
        stream.send(&head).expect("room");
    }
}

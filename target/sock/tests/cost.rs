//! What a message costs besides time: no allocation once queues have grown to their load.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use tgt_env::memory::DmaBuf;
use tgt_reactor::{Cx, Reactors, SleepPolicy, StartOptions};
use tgt_sock::{Event, Group, GroupOptions, Payload, SocketOptions};

#[global_allocator]
static COUNTER: test_alloc_counter::Counter = test_alloc_counter::Counter;

const MESSAGE: usize = 3000;

/// Echoes messages of 3000 bytes: the first 100 from a copy, the others from their own memory.
fn turn(group: &mut Group, cx: &mut Cx) {
    cx.refresh_now();
    if cx.uring().has_work() {
        cx.uring().pump().expect("io_uring");
    }
    group.begin(cx);
    while let Some(event) = group.next() {
        match event {
            Event::Received(mut received) => {
                while received.bytes().len() >= 100 {
                    let head = &received.bytes()[..100];
                    received.stream().send(head).expect("room");
                    received.consume(100);
                    let buf = DmaBuf::alloc(MESSAGE as u32 - 100).expect("memory");
                    match received.payload(Payload::whole(buf.into(), 0)) {
                        Some(payload) => received.stream().send_with(b"", payload).expect("room"),
                        None => break,
                    }
                }
            }
            Event::Filled { mut stream, payload } => stream.send_with(b"", payload).expect("room"),
            Event::Sent { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let _ = group.end(cx);
}

/// Writes `count` messages in two odd pieces and takes their echo.
fn exchange(group: &mut Group, cx: &mut Cx, mut peer: &TcpStream, bytes: &mut [u8]) {
    let split = bytes.len() / 2 - 7;
    peer.write_all(&bytes[..split]).expect("room in the socket");
    turn(group, cx);
    peer.write_all(&bytes[split..]).expect("room in the socket");
    let (mut got, deadline) = (0, Instant::now() + Duration::from_secs(20));
    while got < bytes.len() {
        turn(group, cx);
        match peer.read(&mut bytes[got..]) {
            Ok(count) => got += count,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(Instant::now() < deadline, "{got} bytes came back");
    }
}

#[test]
fn messages_allocate_nothing_hot_or_parked() {
    let options = StartOptions { cores: vec![0], sleep: SleepPolicy::ADAPTIVE, pin: false };
    let reactors = Reactors::start(&options).expect("reactors start where tests run");
    let body = |reactor: &mut tgt_reactor::Reactor| {
        let cx = reactor.cx();
        let mut group = Group::new(cx, GroupOptions::default()).expect("a group");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (peer, _) = listener.accept().expect("the same");
        peer.set_nonblocking(true).expect("a socket");
        group.adopt(OwnedFd::from(ours), &SocketOptions::default()).expect("a stream");
        let mut bytes = vec![7; MESSAGE * 20];
        for _ in 0..50 {
            exchange(&mut group, cx, &peer, &mut bytes);
        }
        let before = test_alloc_counter::allocations();
        for round in 0..500 {
            exchange(&mut group, cx, &peer, &mut bytes);
            let parked = group.stats().parked;
            let deadline = Instant::now() + Duration::from_secs(20);
            while round % 5 == 0 && group.stats().parked == parked {
                turn(&mut group, cx);
                assert!(Instant::now() < deadline, "it is not parked");
            }
        }
        let allocated = test_alloc_counter::allocations() - before;
        group.abort_all();
        while group.next().is_some() {}
        group.close(cx);
        allocated
    };
    assert_eq!(reactors.handles()[0].call_within(Duration::from_secs(60), body), Ok(0));
    assert_eq!(reactors.stop(), []);
}

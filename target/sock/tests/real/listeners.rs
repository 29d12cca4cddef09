//! Listeners: families, bounds, ends.

use std::net::{Ipv6Addr, SocketAddr, TcpStream};

use tgt_sock::{ConnectTo, Event, Group, GroupOptions, ListenOn, SockError, SocketOptions};

use crate::rig::*;

#[test]
fn a_group_talks_to_itself_over_ipv4_and_ipv6() {
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let families: &[SocketAddr] =
        if TcpStream::connect(v6).is_err_and(|error| matches!(error.raw_os_error(), Some(97 | 99 | 101))) {
            eprintln!("skipped: IPv6, as this machine has no ::1");
            &[loopback()]
        } else {
            &[loopback(), v6]
        };
    for &family in families {
        on_reactor(move |cx| {
            let mut group = Group::new(cx, GroupOptions::default()).expect("a group");
            let listener = group.listen(&ListenOn::new(family)).expect("a listener");
            let address = group.listener_address(listener).expect("it listens");
            let to = ConnectTo { source: Some(family), ..ConnectTo::new(address) };
            let near = group.connect(&to).expect("an attempt");
            group.stream(near).expect("it tries").send(b"over here").expect("room");
            let (mut far, mut heard) = (None, Vec::<u8>::new());
            turn_until("it is heard", &mut group, cx, |event| match event {
                Event::Accepted { listener: at, stream } => {
                    assert!(at == listener && stream.local().expect("bound") == address);
                    far = Some((stream.id(), stream.peer()));
                    false
                }
                Event::Received(mut received) => {
                    assert_eq!(Some(received.stream().id()), far.map(|(id, _)| id));
                    heard.extend(received.bytes());
                    received.consume(received.bytes().len());
                    heard == b"over here"
                }
                other => {
                    assert_eq!(Seen::of(other), Seen::Connected(near));
                    false
                }
            });
            let own = group.stream(near).expect("open").local().expect("bound");
            assert_eq!(far.map(|(_, peer)| peer), Some(own));
            leave(group, cx);
        });
    }
}

#[test]
fn connections_beyond_the_bound_wait_until_a_stream_has_gone() {
    let (rig, log) = Rig::logging(GroupOptions { streams_max: 3, ..GroupOptions::default() });
    let listener = rig.with(|group, _| group.listen(&ListenOn::new(loopback())).expect("a listener"));
    let address = rig.with(move |group, _| group.listener_address(listener).expect("it listens"));
    let accepted = || log.all().iter().filter(|seen| matches!(seen, Seen::Accepted(_))).count();
    let mut peers: Vec<_> = (0..5).map(|_| TcpStream::connect(address).expect("a backlog")).collect();
    wait_until("three are in", || accepted() == 3);
    rig.wait_asleep();
    assert_eq!(accepted(), 3);
    let refused = rig.with(move |group, _| group.connect(&ConnectTo::new(address)).err());
    assert!(matches!(refused, Some(SockError::TooMany { limit: 3 })));
    for more in 4..=5 {
        drop(peers.remove(0));
        wait_until("the next is in", || accepted() == more);
    }
}

#[test]
fn a_crowd_is_accepted_in_turns() {
    let (rig, log) = Rig::logging(GroupOptions::default());
    let listener = rig.with(|group, _| group.listen(&ListenOn::new(loopback())).expect("a listener"));
    let address = rig.with(move |group, _| group.listener_address(listener).expect("it listens"));
    let peers: Vec<_> = (0..100).map(|_| TcpStream::connect(address).expect("a backlog")).collect();
    wait_until("all are in", || log.all().len() == peers.len());
    assert!(rig.with(move |group, _| group.close_listener(listener)));
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(rig.with(|group, _| group.stream_count()), 100, "its streams stay");
}

#[test]
fn errors_name_the_address_the_option_and_the_remedy() {
    on_reactor(|cx| {
        let mut group = Group::new(cx, GroupOptions::default()).expect("a group");
        let mut refused = |to: ConnectTo| group.connect(&to).expect_err("refused").to_string();
        let to = |socket| ConnectTo { socket, ..ConnectTo::new(([127, 0, 0, 1], 9).into()) };
        let none = SocketOptions::default;
        let congestion = refused(to(SocketOptions { congestion: Some("nosuch".into()), ..none() }));
        for part in ["TCP_CONGESTION = nosuch", "127.0.0.1:9", "available here: ", "modprobe tcp_nosuch"] {
            assert!(congestion.contains(part), "{part} in {congestion}");
        }
        let timeout = refused(to(SocketOptions { user_timeout: Some(std::time::Duration::ZERO), ..none() }));
        assert!(
            timeout.contains("TCP_USER_TIMEOUT = 0ns") && timeout.contains("1 ms to 24 days"),
            "{timeout}"
        );
        let buffer = refused(to(SocketOptions { send_buffer: Some(0), ..none() }));
        assert!(buffer.contains("SO_SNDBUF = 0") && buffer.contains("1 to 1073741823"), "{buffer}");
        let families = ConnectTo { source: Some((Ipv6Addr::LOCALHOST, 0).into()), ..to(none()) };
        assert!(refused(families).contains("not of one family"));
        let foreign = ConnectTo { source: Some(([192, 0, 2, 1], 0).into()), ..to(none()) };
        let foreign = refused(foreign);
        assert!(foreign.contains("192.0.2.1:0") && foreign.contains("ip address"), "{foreign}");
        let held = std::net::TcpListener::bind(loopback()).expect("loopback");
        let taken = ListenOn::new(held.local_addr().expect("bound"));
        let error = group.listen(&taken).expect_err("in use").to_string();
        assert!(error.contains(&taken.address.to_string()) && error.contains("choose another"), "{error}");
        let small = GroupOptions { frame_max: 1, ..GroupOptions::default() };
        let small = Group::new(cx, small).map(drop).expect_err("too small").to_string();
        assert!(small.contains("frame_max is 1; 512 to"), "{small}");
        leave(group, cx);
    });
}

#[test]
fn a_link_local_address_needs_its_scope_and_works_with_it() {
    let net = match test_net::Net::new(&["a"]) {
        Ok(net) => net,
        Err(why) => return test_net::tell_skipped(&why),
    };
    let found = net.node("a").run(|| {
        // Duplicate address detection takes a second or two: an address with the flag 40 is not usable yet.
        let mut found = None;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while found.is_none() && std::time::Instant::now() < deadline {
            let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
            found = text.lines().find_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let usable =
                    fields[0].starts_with("fe80") && u32::from_str_radix(fields[4], 16).ok()? & 0x40 == 0;
                let address = Ipv6Addr::from(u128::from_str_radix(fields[0], 16).ok()?);
                usable.then_some((address, u32::from_str_radix(fields[1], 16).ok()?))
            });
            std::thread::yield_now();
        }
        found.map(|found| {
            let options = tgt_reactor::StartOptions {
                cores: vec![0],
                sleep: tgt_reactor::SleepPolicy::ADAPTIVE,
                pin: false,
            };
            (found, tgt_reactor::Reactors::start(&options).expect("a reactor"))
        })
    });
    let Some(((ip, scope), reactors)) = found.expect("the node") else {
        eprintln!("skipped: link-local addresses, as IPv6 is off in new network namespaces here");
        return;
    };
    let body = move |reactor: &mut tgt_reactor::Reactor| {
        let cx = reactor.cx();
        let mut group = Group::new(cx, GroupOptions::default()).expect("a group");
        let scoped = |scope| SocketAddr::V6(std::net::SocketAddrV6::new(ip, 0, 0, scope));
        let error = group.listen(&ListenOn::new(scoped(0))).expect_err("no scope").to_string();
        assert!(error.contains("scope (%eth0)"), "{error}");
        let listener = group.listen(&ListenOn::new(scoped(scope))).expect("a listener");
        let address = group.listener_address(listener).expect("it listens");
        let id = group.connect(&ConnectTo::new(address)).expect("an attempt");
        turn_until("it connects", &mut group, cx, |event| Seen::of(event) == Seen::Connected(id));
        leave(group, cx);
    };
    reactors.handles()[0].call_within(PATIENCE, body).expect("no panic");
    assert_eq!(reactors.stop(), []);
}

//! Real sockets over nets that break. Skipped in one line without root.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use test_net::{Net, Node};

/// The bound of every wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long is waited for what must not happen. A broken test may pass by it; a good one never fails.
const A_WHILE: Duration = Duration::from_millis(300);

/// A connection from `client` to `server`, both ends.
fn connect(client: &Node, server: &Node) -> (TcpStream, TcpStream) {
    connect_by((client, client.address().into()), (server, server.address().into()))
}

/// The same between these addresses.
fn connect_by((client, own): (&Node, IpAddr), (server, to): (&Node, IpAddr)) -> (TcpStream, TcpStream) {
    let listener = server.run(|| TcpListener::bind((to, 0))).expect("the node").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let near = client
        .run(|| TcpStream::connect_timeout(&address, PATIENCE))
        .expect("the node")
        .expect("a connection");
    let (far, peer) = listener.accept().expect("the same connection");
    assert_eq!(peer.ip(), own, "it comes from the client's own address");
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
        stream.set_nodelay(true).expect("a socket");
    }
    (near, far)
}

/// Sends `text` one way and wants it at the other end.
fn pass(from: &mut TcpStream, to: &mut TcpStream, text: &str) {
    from.write_all(text.as_bytes()).expect("room in the socket");
    let mut heard = vec![0; text.len()];
    to.read_exact(&mut heard).expect("it arrives");
    assert_eq!(heard, text.as_bytes());
}

/// How a read fails that must not find anything.
fn read_error(at: &mut TcpStream) -> std::io::Error {
    loop {
        let error = at.read(&mut [0]).expect_err("nothing is to arrive");
        // A wait with a bound is not begun again by the kernel when a signal comes.
        if error.kind() != ErrorKind::Interrupted {
            return error;
        }
    }
}

/// Wants that nothing arrives for a while.
fn nothing_arrives(at: &mut TcpStream) {
    at.set_read_timeout(Some(A_WHILE)).expect("a bound");
    let error = read_error(at);
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    at.set_read_timeout(Some(PATIENCE)).expect("a bound");
}

#[test]
fn nodes_reach_each_other_and_nothing_else() {
    let Some(net) = Net::or_skip(&["a", "b", "c"]) else { return };
    let (mut at_a, mut at_c) = connect(net.node("a"), net.node("c"));
    pass(&mut at_a, &mut at_c, "there");
    pass(&mut at_c, &mut at_a, "and back");
    let elsewhere = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9));
    let refused = net.node("b").run(|| TcpStream::connect_timeout(&elsewhere, A_WHILE)).expect("the node");
    assert_eq!(refused.expect_err("no way out").kind(), ErrorKind::NetworkUnreachable);
}

#[test]
fn a_cut_is_noticed_by_a_connection_and_healing_lets_new_ones_through() {
    let Some(net) = Net::or_skip(&["a", "b"]) else { return };
    let (mut at_a, mut at_b) = connect(net.node("a"), net.node("b"));
    pass(&mut at_a, &mut at_b, "whole");
    rustix::net::sockopt::set_tcp_user_timeout(&at_a, 500).expect("a socket");
    net.cut("a", "b").expect("a cut");
    at_a.write_all(b"into the void").expect("room in the socket");
    let error = read_error(&mut at_a);
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    net.heal("a", "b").expect("healed");
    let (mut at_a, mut at_b) = connect(net.node("a"), net.node("b"));
    pass(&mut at_a, &mut at_b, "whole again");
}

#[test]
fn a_cut_one_way_passes_the_other_way_only_and_spares_other_nodes() {
    let Some(net) = Net::or_skip(&["a", "b", "c"]) else { return };
    let (mut at_a, mut at_b) = connect(net.node("a"), net.node("b"));
    let (mut at_c, mut also_at_a) = connect(net.node("c"), net.node("a"));
    net.cut_one_way("b", "a").expect("a cut");
    pass(&mut at_a, &mut at_b, "this way");
    at_b.write_all(b"that way").expect("room in the socket");
    nothing_arrives(&mut at_a);
    pass(&mut at_c, &mut also_at_a, "not concerned");
    pass(&mut also_at_a, &mut at_c, "at all");
    net.heal_all().expect("healed");
    let mut heard = [0; 8];
    at_a.read_exact(&mut heard).expect("it is sent again");
    assert_eq!(&heard, b"that way");
}

#[test]
fn an_unplugged_node_is_cut_off_and_comes_back() {
    let Some(net) = Net::or_skip(&["a", "b"]) else { return };
    let (mut at_a, mut at_b) = connect(net.node("a"), net.node("b"));
    net.unplug("b").expect("unplugged");
    let carrier = || net.node("b").run(carrier).expect("the node");
    until("the card sees it", || (!carrier()).then_some(()));
    at_a.write_all(b"late").expect("room in the socket");
    nothing_arrives(&mut at_b);
    net.plug("b").expect("plugged");
    until("the card sees it", || carrier().then_some(()));
    let mut heard = [0; 4];
    at_b.read_exact(&mut heard).expect("it is sent again");
    assert_eq!(&heard, b"late");
}

/// Whether the card of the node this thread is on sees a cable: `ip` says NO-CARRIER if not.
fn carrier() -> bool {
    let said = Command::new("ip").args(["link", "show", "eth0"]).output().expect("ip starts").stdout;
    let said = String::from_utf8(said).expect("text");
    assert!(said.contains("eth0"), "{said}");
    !said.contains("NO-CARRIER")
}

#[test]
fn with_loss_some_datagrams_arrive_and_some_do_not_but_a_stream_is_whole() {
    const DATAGRAMS: u32 = 400;
    let Some(net) = Net::or_skip(&["a", "b"]) else { return };
    let (mut at_a, mut at_b) = connect(net.node("a"), net.node("b"));
    let bind =
        |node: &Node| node.run(|| UdpSocket::bind((node.address(), 0))).expect("the node").expect("a socket");
    let (from, to) = (bind(net.node("a")), bind(net.node("b")));
    let address = to.local_addr().expect("its address");
    net.lose("a", "b", 50).expect("loss");
    for _ in 0..DATAGRAMS {
        from.send_to(b"x", address).expect("it is sent");
    }
    net.heal_all().expect("healed");
    // What arrives after this has no part in the count; loopback of one kernel keeps the order.
    from.send_to(b"end", address).expect("it is sent");
    to.set_read_timeout(Some(PATIENCE)).expect("a bound");
    let mut buffer = [0; 8];
    let arrived = std::iter::repeat_with(|| to.recv(&mut buffer));
    let arrived =
        arrived.filter(|got| !got.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted));
    let arrived = arrived.take_while(|got| *got.as_ref().expect("the end at least") == 1).count();
    // Each bound is missed by chance in one of 2^100 runs.
    assert!((50..350).contains(&arrived), "{arrived} of {DATAGRAMS}");

    // Few enough that TCP, which waits longer after each loss of the same segment, comes through in time.
    net.lose("a", "b", 10).expect("loss");
    let text = "0123456789abcdef".repeat(64);
    until("a segment is sent again", || {
        pass(&mut at_a, &mut at_b, &text);
        (net.node("a").run(retransmitted).expect("the node") > 0).then_some(())
    });
    net.heal_all().expect("healed");
    pass(&mut at_b, &mut at_a, "whole");
}

/// Segments that the node this thread is on has sent again.
fn retransmitted() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("the counters");
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut pairs = names.zip(values);
    pairs.find(|(name, _)| *name == "RetransSegs").and_then(|(_, value)| value.parse().ok()).expect("a count")
}

#[test]
fn a_stream_survives_a_connection_that_comes_and_goes() {
    let Some(net) = Net::or_skip(&["a", "b"]) else { return };
    let (mut at_a, mut at_b) = connect(net.node("a"), net.node("b"));
    // What is written during each cut arrives in the end. Nothing is waited for meanwhile: TCP waits longer after each
    // loss, and might find a cut each time it tries.
    let written = net.while_flapping("a", "b", Duration::from_millis(20), |cuts| {
        let write = |number| {
            until("the next cut", || (cuts.load(Relaxed) >= number).then_some(()));
            at_a.write_all(&number.to_le_bytes()).expect("room in the socket");
            number
        };
        (1..=5_u32).map(write).collect::<Vec<u32>>()
    });
    for number in written.expect("flapped") {
        let mut heard = [0; 4];
        at_b.read_exact(&mut heard).expect("it arrives");
        assert_eq!(u32::from_le_bytes(heard), number);
    }
    pass(&mut at_b, &mut at_a, "whole at the end");
}

#[test]
fn a_reset_or_a_cut_of_one_card_spares_the_other_and_both_know_ipv6() {
    let Some(net) = Net::with_cards_or_skip(&["a", "b"], 2) else { return };
    let (a, b) = (net.node("a"), net.node("b"));
    for v6 in [false, true] {
        let address = |node: &Node, card| match v6 {
            false => Some(IpAddr::from(node.address_on(card))),
            true => node.address6_on(card).map(IpAddr::from),
        };
        let connect = |card| Some(connect_by((a, address(a, card)?), (b, address(b, card)?)));
        let (Some((mut at_a, mut at_b)), Some((mut other_a, mut other_b))) = (connect(0), connect(1)) else {
            let (what, remedy) = ("no IPv6 in this kernel", "boot without ipv6.disable=1");
            return test_net::tell_skipped(&test_net::Error::Missing { what, remedy });
        };
        net.card(1).reset("a", "b").expect("a reset");
        other_a.write_all(b"gone").expect("room in the socket");
        assert_eq!(read_error(&mut other_a).kind(), ErrorKind::ConnectionReset);
        net.card(1).heal("a", "b").expect("healed");
        other_b.write_all(b"nobody").expect("room in the socket");
        assert_eq!(read_error(&mut other_b).kind(), ErrorKind::ConnectionReset);
        let (mut other_a, mut other_b) = connect(1).expect("as before");
        net.card(1).cut("a", "b").expect("a cut");
        other_a.write_all(b"late").expect("room in the socket");
        nothing_arrives(&mut other_b);
        pass(&mut at_a, &mut at_b, "not concerned");
        net.card(1).heal("a", "b").expect("healed");
        let mut heard = [0; 4];
        other_b.read_exact(&mut heard).expect("it is sent again");
        assert_eq!(&heard, b"late");
    }
}

#[test]
fn an_address_that_is_taken_is_not_heard_of_until_it_is_given_back() {
    let Some(net) = Net::with_cards_or_skip(&["a", "b"], 2) else { return };
    let (a, b) = (net.node("a"), net.node("b"));
    let connect = |card| connect_by((a, a.address_on(card).into()), (b, b.address_on(card).into()));
    let (mut at_a, mut at_b) = connect(0);
    let (mut other_a, mut other_b) = connect(1);
    net.card(1).take_address("a").expect("taken");
    other_b.write_all(b"late").expect("room in the socket");
    nothing_arrives(&mut other_a);
    pass(&mut at_a, &mut at_b, "not concerned");
    net.card(1).give_address("a").expect("given");
    let mut heard = [0; 4];
    other_a.read_exact(&mut heard).expect("it is sent again");
    assert_eq!(&heard, b"late");
}

#[test]
fn a_process_on_a_node_is_there_and_is_killed_with_its_net() {
    let Some(net) = Net::or_skip(&["a", "b"]) else { return };
    let mut command = Command::new("sleep");
    let mut process = net.node("b").spawn(command.arg("600")).expect("it starts");
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).expect("a namespace");
    let pid = process.0.id().to_string();
    let inside = net.node("b").run(|| namespace("thread-self")).expect("the node");
    assert_eq!(namespace(&pid), inside);
    assert_ne!(namespace("self"), inside);
    drop(net);
    let status = until("it has ended", || process.0.try_wait().expect("our child"));
    assert!(!status.success());
}

#[test]
fn nothing_is_left_after_a_panic_nor_after_a_run_that_was_killed() {
    let dead = || {
        let mut child = Command::new("true").spawn().expect("it starts");
        child.wait().expect("our child");
        child.id()
    };
    let leftover = format!("rmr-net-{}-1-0-a", dead());
    let Some(other) = Net::or_skip(&["stays"]) else { return };
    let added = Command::new("ip").args(["netns", "add", &leftover]).status().expect("ip starts");
    assert!(added.success());
    let broken = std::panic::catch_unwind(|| {
        let _net = Net::new(&["unlucky"]).expect("a net");
        assert!(!namespaces().contains(&leftover), "the leftover is gone");
        assert!(namespaces().iter().any(|name| name.ends_with("-unlucky")));
        panic!("as tests do");
    });
    let said = *broken.expect_err("it panics").downcast::<&str>().expect("what it said");
    assert_eq!(said, "as tests do");
    assert!(!namespaces().iter().any(|name| name.ends_with("-unlucky")), "{:?}", namespaces());
    assert!(namespaces().iter().any(|name| name.ends_with("-stays")), "a living net was removed");
    drop(other);
}

fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").expect("there is one");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Waits until `look` finds something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

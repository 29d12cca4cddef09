//! Delays, under a kernel that has netem: this file's own program runs again in a guest.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use test_net::Net;
use test_vm::{Guest, tell_skipped};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn what_a_delayed_node_sends_is_late() {
    let Some(guest) = Guest::or_skip() else { return };
    if !["ip", "nft", "tc"].iter().all(|tool| std::path::Path::new("/usr/sbin").join(tool).exists()) {
        let remedy = "apt-get install iproute2 nftables".to_owned();
        return tell_skipped(&test_vm::Error::Missing { what: "no ip, nft or tc".to_owned(), remedy });
    }
    let guest =
        ["veth", "bridge", "sch_netem", "nf_tables"].iter().fold(guest, |guest, name| guest.module(name));
    let program = std::env::current_exe().expect("this program");
    let command = format!("{} --ignored --exact in_a_guest_a_delay_is_kept --nocapture", program.display());
    let outcome = guest.run(&command).expect("an outcome").expect_success();
    assert!(outcome.stdout.contains("1 passed"), "{outcome:?}");
    assert!(!outcome.stderr.contains("skipped"), "{outcome:?}");
}

#[test]
#[ignore = "run by what_a_delayed_node_sends_is_late, in a guest"]
fn in_a_guest_a_delay_is_kept() {
    const DELAY: Duration = Duration::from_millis(200);
    let net = Net::new(&["a", "b"]).expect("a net");
    let b = net.node("b");
    let listener = b.run(|| TcpListener::bind((b.address(), 0))).expect("the node").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let mut near =
        net.node("a").run(|| TcpStream::connect(address)).expect("the node").expect("a connection");
    let (mut far, _) = listener.accept().expect("the same connection");
    near.set_read_timeout(Some(PATIENCE)).expect("a bound");
    net.delay("b", DELAY).expect("netem");
    let start = Instant::now();
    far.write_all(b"late").expect("room in the socket");
    let mut heard = [0; 4];
    near.read_exact(&mut heard).expect("it arrives");
    assert!(start.elapsed() >= DELAY, "after {:?}", start.elapsed());
    net.cut("a", "b").expect("a cut is made with a delay as well");
    net.heal("a", "b").expect("and healed");
    far.write_all(b"more").expect("room in the socket");
    near.read_exact(&mut heard).expect("it arrives");
    assert_eq!(&heard, b"more");
}

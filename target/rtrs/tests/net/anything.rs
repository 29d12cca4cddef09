//! Anything that can break, in any order, with too little memory: for five seconds, or `RTRS_NET_SECONDS=n`.

use crate::bed::{CLIENT, Family, Hosts, SERVER, go_on, own_files, tell};
use crate::common::{ClientRig, Load, ServerRig, executed, figure, wait_until};
use fastrand::Rng;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tgt_rtrs::tcp::PathAddress;
use tgt_rtrs::{Id, PathNo};

fn seconds() -> u64 {
    std::env::var("RTRS_NET_SECONDS")
        .map_or(5, |seconds| seconds.parse().expect("RTRS_NET_SECONDS: a number"))
}

/// One thing breaks, or is whole again.
fn step(random: &mut Rng, hosts: &Hosts, server: &ServerRig, client: &ClientRig) {
    if random.u32(..8) == 0 {
        server.stuck.store(false, SeqCst);
    }
    let (net, number) = (&hosts.net, random.usize(..2));
    let card = net.card(number);
    let done = match random.u32(..14) {
        0 => card.cut(CLIENT, SERVER),
        1 => card.cut_one_way(CLIENT, SERVER),
        2 => card.cut_one_way(SERVER, CLIENT),
        3 | 4 => card.reset(CLIENT, SERVER),
        5 => net.lose(CLIENT, SERVER, random.u8(1..20)),
        6 => {
            client.with(|port, cx, lane, _| port.end_life(cx, lane));
            Ok(())
        }
        7 => {
            client.with(|port, cx, lane, _| port.reconnect(cx, lane));
            Ok(())
        }
        8 => {
            server.stuck.store(true, SeqCst);
            Ok(())
        }
        9 => net.heal_all(),
        10 => {
            let to = PathAddress::new(hosts.paths(server.address.port())[number]);
            let id = Id(random.u128(..).to_le_bytes());
            client.with(move |port, cx, lane, _| {
                port.remove_path(cx, lane, PathNo(number as u16));
                port.add_path(cx, lane, id, to).expect("one less than before");
            });
            Ok(())
        }
        _ => card.heal(CLIENT, SERVER),
    };
    done.expect("the net does what it is told");
}

#[test]
fn whatever_breaks_each_request_ends_once_and_is_executed_at_most_once() {
    let Some(hosts) = Hosts::or_skip(Family::V4) else { return };
    let seed = fastrand::u64(..);
    figure(&format!("faults of seed {seed}; the same seed breaks the same things, not at the same requests"));
    let mut random = Rng::with_seed(seed);
    let server = hosts.start_server_with(512 << 10);
    let client = hosts.start_client(server.address.port());
    let files = own_files();
    let (load, since) = (Load { requests: u64::MAX, depth: 48, bytes_max: 100_000 }, Instant::now());
    client.load(load);
    while since.elapsed() < Duration::from_secs(seconds()) {
        step(&mut random, &hosts, &server, &client);
        let (began, pause) = (Instant::now(), Duration::from_millis(random.u64(1..700)));
        wait_until("the next fault", || began.elapsed() > pause);
    }
    hosts.net.heal_all().expect("healed");
    server.stuck.store(false, SeqCst);
    client.wait_for("both paths are up", |log| log.up.len() == 2);
    go_on(&client);
    client.finish();
    wait_until("all is as at the start", || server.figures() == (1, 2, 0) && own_files() == files);
    let late = executed::check(&hosts.record(), &client.log.lock().expect("a log"));
    let lives = client.log.lock().expect("a log").links.iter().filter(|link| is_up(link)).count();
    tell(&format!("anything, {lives} lives, {late} requests executed late"), &client);
}

#[test]
fn whatever_happens_to_the_server_each_request_ends_once_and_is_executed_at_most_once() {
    let Some(hosts) = Hosts::or_skip(Family::V4) else { return };
    let seed = fastrand::u64(..);
    figure(&format!("a server with seed {seed}"));
    let mut random = Rng::with_seed(seed);
    let (mut server, address) = hosts.spawn_server(hosts.anywhere());
    let client = hosts.start_client(address.port());
    client.load(Load { requests: u64::MAX, depth: 48, bytes_max: 100_000 });
    let (since, mut stopped) = (Instant::now(), None);
    while since.elapsed() < Duration::from_secs(seconds()) {
        match random.u32(..8) {
            0 | 1 => stopped = Some(server.stop()),
            2..=4 => stopped = None,
            5 => {
                stopped = None;
                server.kill();
                (server, _) = hosts.spawn_server(address);
            }
            6 => hosts.net.card(random.usize(..2)).cut(CLIENT, SERVER).expect("a cut"),
            _ => hosts.net.heal_all().expect("healed"),
        }
        let (began, pause) = (Instant::now(), Duration::from_millis(random.u64(1..2000)));
        wait_until("the next", || began.elapsed() > pause);
    }
    hosts.net.heal_all().expect("healed");
    drop(stopped);
    client.wait_for("both paths are up", |log| log.up.len() == 2);
    go_on(&client);
    client.finish();
    wait_until("all is as at the start", || server.ask() == "(1, 2, 0)");
    let late = executed::check(&hosts.record(), &client.log.lock().expect("a log"));
    let lives = client.log.lock().expect("a log").links.iter().filter(|link| is_up(link)).count();
    tell(&format!("a server stopped and killed, {lives} lives, {late} requests executed late"), &client);
}

fn is_up(link: &tgt_rtrs::client::Link) -> bool {
    matches!(link, tgt_rtrs::client::Link::Up { .. })
}

//! The service of sessions: two processes' worth in one, with two reactors on the client's side.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tgt_keyring::Keyring;
use tgt_reactor::{Reactor, Reactors, SleepPolicy, StartOptions};
use tgt_rtrs::client::Policy;
use tgt_rtrs::hub::{Hub, HubUser, SessionRef};
use tgt_rtrs::sessions::{
    ListenerSpec, News, NewsKind, PathSpec, PeerSpec, Sessions, SessionsError, SessionsOptions,
};
use tgt_rtrs::{Id, UserId};

const PATIENCE: Duration = Duration::from_secs(30);

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// A process's worth.
struct Host {
    reactors: Option<Reactors>,
    keyring: Arc<Keyring>,
    sessions: Arc<Sessions>,
    news: Arc<Mutex<Vec<News>>>,
}

impl Host {
    fn start(id: u8, reactors: u32) -> Self {
        let options =
            StartOptions { cores: (0..reactors).collect(), sleep: SleepPolicy::ADAPTIVE, pin: false };
        let reactors = Reactors::start(&options).expect("reactors start where tests run");
        let (keyring, news) = (Keyring::new(), Arc::<Mutex<Vec<News>>>::default());
        let told = news.clone();
        let sessions = Sessions::start(SessionsOptions {
            reactors: reactors.handles().clone(),
            keyring: keyring.clone(),
            host: Id([id; 16]),
            insecure: false,
            tell: Box::new(move |news| told.lock().expect("news").push(news)),
        });
        let sessions = sessions.expect("a thread");
        Self { reactors: Some(reactors), keyring, sessions, news }
    }

    fn listen(&self, key: Option<&str>) -> SocketAddr {
        self.listen_on(key, None)
    }

    fn listen_on(&self, key: Option<&str>, reactor: Option<u32>) -> SocketAddr {
        // Found free, and let go again: the port of a listener is named.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let spec = ListenerSpec { address, key: key.map(str::to_owned), digest: true, reactor };
        self.sessions.add_listener(&spec).expect("it listens");
        address
    }

    fn attach(&self, reactor: usize, session: &SessionRef) -> HubUser {
        let session = session.clone();
        let attach = move |reactor: &mut Reactor| {
            let hub = Hub::of(reactor.cx());
            hub.attach(reactor.cx(), &session, UserId(7)).expect("a lane")
        };
        self.reactors.as_ref().expect("running").handles()[reactor].call(attach).expect("an answer")
    }

    fn detach(&self, reactor: usize, user: HubUser) {
        let detach = move |reactor: &mut Reactor| Hub::of(reactor.cx()).detach(reactor.cx(), user);
        self.reactors.as_ref().expect("running").handles()[reactor].call(detach).expect("an answer");
    }

    fn count(&self, kind: NewsKind) -> usize {
        self.news.lock().expect("news").iter().filter(|news| news.kind == kind).count()
    }

    /// Lanes with a life, of all sessions.
    fn lanes_up(&self) -> usize {
        let sessions = self.sessions.sessions().expect("answers");
        sessions.iter().flat_map(|session| &session.lanes).filter(|lane| lane.up.is_some()).count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.sessions.stop();
        let stuck = self.reactors.take().map(Reactors::stop);
        if !std::thread::panicking() {
            assert_eq!(stuck, Some(vec![]));
        }
    }
}

fn to(addresses: &[SocketAddr]) -> PeerSpec {
    PeerSpec::new(addresses.iter().map(|address| PathSpec::to(*address)).collect())
}

#[test]
fn who_names_the_same_paths_gets_the_same_session_and_lanes_are_made_where_it_is_used() {
    let (server, client) = (Host::start(2, 1), Host::start(1, 2));
    let (one, two) = (server.listen(None), server.listen(None));
    let session = client.sessions.open(&to(&[one, two])).expect("a session");
    let again = client.sessions.open(&to(&[two, one])).expect("the same");
    assert!(Arc::ptr_eq(&session, &again));
    assert_eq!(client.sessions.sessions().expect("answers")[0].lanes.len(), 0, "nobody uses it yet");
    let users = [client.attach(0, &session), client.attach(1, &again)];
    wait_until("a lane on each reactor", || client.lanes_up() == 2);
    wait_until("the server has both", || {
        server.sessions.served().expect("answers").first().is_some_and(|served| served.lanes.len() == 2)
    });
    let info = &client.sessions.sessions().expect("answers")[0];
    assert_eq!((info.peer, info.paths.len()), (Some(Id([2; 16])), 2));
    // Told once, whatever the number of lanes.
    wait_until("both paths are told", || client.count(NewsKind::PathUp) == 2);
    assert_eq!(client.count(NewsKind::SessionUp), 1, "{:?}", client.news);
    // Another way to the same host is another session, and is shown to lead there.
    let other = client.sessions.open(&to(&[one])).expect("another");
    let third = client.attach(0, &other);
    wait_until("it is seen to be the same host", || {
        let all = client.sessions.sessions().expect("answers");
        all.iter().any(|info| info.id == other.id() && info.same_peer == [session.id()])
    });
    client.detach(0, third);
    // It lives while a user is there, and ends with the last holder.
    drop((session, again, other));
    client.detach(0, users[0]);
    wait_until("one session is left", || client.sessions.sessions().expect("answers").len() == 1);
    client.detach(1, users[1]);
    wait_until("nothing is left", || client.sessions.sessions().expect("answers").is_empty());
    wait_until("nor at the server", || server.sessions.served().expect("answers").is_empty());
    assert_eq!(client.count(NewsKind::SessionDown), 2, "{:?}", client.news);
}

#[test]
fn a_policy_set_and_a_path_added_reach_lanes_that_are_there_and_those_to_come() {
    let (server, client) = (Host::start(2, 1), Host::start(1, 2));
    let (one, two) = (server.listen(None), server.listen(None));
    let session = client.sessions.open(&to(&[one])).expect("a session");
    let name = session.id().to_string();
    let _first = client.attach(0, &session);
    client.sessions.set_policy(&name, Policy::MinLatency).expect("it is there");
    client.sessions.add_path(&name, PathSpec::to(two)).expect("a new one");
    let _second = client.attach(1, &session);
    wait_until("both paths are up in both lanes", || {
        let info = &client.sessions.sessions().expect("answers")[0];
        info.paths.len() == 2 && info.paths.iter().all(|path| path.up() == 2)
    });
    let info = &client.sessions.sessions().expect("answers")[0];
    assert!(info.lanes.iter().all(|lane| lane.policy == Policy::MinLatency), "{info:?}");
    client.sessions.remove_path(&name, PathSpec::to(one)).expect("one is left");
    wait_until("gone from both", || {
        let info = &client.sessions.sessions().expect("answers")[0];
        info.lanes.iter().all(|lane| lane.paths.len() == 1 && lane.up.is_some_and(|up| up.stalled.is_none()))
    });
    let error = client.sessions.remove_path(&name, PathSpec::to(two)).expect_err("the last");
    assert!(matches!(error, SessionsError::LastPath { .. }));
}

#[test]
fn a_removed_key_opens_nothing_new_and_leaves_what_is_up() {
    let (server, client) = (Host::start(2, 1), Host::start(1, 1));
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("key");
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(&file);
    std::io::Write::write_all(&mut made.expect("a file"), b"0123456789abcdef").expect("written");
    for host in [&server, &client] {
        host.keyring.add_file("rack", file.to_str().expect("a path")).expect("a key");
    }
    let address = server.listen(Some("rack"));
    let with_key = PeerSpec { key: Some("rack".to_owned()), ..to(&[address]) };
    let session = client.sessions.open(&with_key).expect("a session");
    let _user = client.attach(0, &session);
    wait_until("it is up", || client.lanes_up() == 1);
    server.keyring.remove("rack").expect("it was there");
    wait_until("the listener says so", || {
        server.sessions.listeners().expect("answers")[0].key_fault.is_some()
    });
    assert_eq!(client.lanes_up(), 1, "what is up stays");
    let late = Host::start(3, 1);
    late.keyring.add_file("rack", file.to_str().expect("a path")).expect("a key");
    let refused = late.sessions.open(&with_key).expect("a session");
    let _late_user = late.attach(0, &refused);
    wait_until("it is refused", || {
        server.sessions.listeners().expect("answers")[0].figures.is_some_and(|f| f.refused > 0)
    });
    assert_eq!(late.lanes_up(), 0);
}

#[test]
fn a_servers_lanes_are_spread_over_its_reactors_whichever_listener_they_came_through() {
    let (server, client) = (Host::start(2, 2), Host::start(1, 2));
    let (one, two) = (server.listen_on(None, Some(0)), server.listen_on(None, Some(1)));
    let session = client.sessions.open(&to(&[one, two])).expect("a session");
    let _users = [client.attach(0, &session), client.attach(1, &session)];
    wait_until("both lanes have both paths", || {
        let served = server.sessions.served().expect("answers");
        let lanes = served.iter().flat_map(|served| &served.lanes);
        lanes.filter(|lane| lane.connections.len() == 2).count() == 2
    });
    let served = server.sessions.served().expect("answers");
    let mut reactors: Vec<u32> = served[0].lanes.iter().map(|lane| lane.reactor.0).collect();
    reactors.sort_unstable();
    assert_eq!(reactors, [0, 1], "neighbouring lanes are neighbours");
    let connections = |server: &Host| -> Vec<usize> {
        server.sessions.listeners().expect("answers").iter().map(|listener| listener.connections).collect()
    };
    assert_eq!(connections(&server), [2, 2]);
    // A listener that goes takes its connections along, on whichever reactor they are.
    server.sessions.remove_listener(two).expect("it is there");
    wait_until("each lane has one path left", || {
        let info = &client.sessions.sessions().expect("answers")[0];
        info.paths[1].up() == 0 && info.paths[0].up() == 2
    });
    assert_eq!(connections(&server), [2]);
    assert_eq!(client.lanes_up(), 2);
}

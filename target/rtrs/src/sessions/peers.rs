//! Sessions to peers: opened, shared by all who name the same, changed, looked at.

use super::keys::HeldKey;
use super::news::Seen;
use super::path::{PathError, PathSpec};
use super::{Sessions, SessionsError, State, policy_name};
use crate::client::{PATHS_MAX, Policy};
use crate::hub::{ClientLane, Hub, PathFigures, PathKey, ServerLane, Session, SessionRef, SessionSetup};
use crate::{Fault, Id};
use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::SystemTime;
use uuid::Uuid;

/// A peer that a session is to lead to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerSpec {
    /// Ways to it.
    pub paths: Vec<PathSpec>,
    /// The name of the key that both hosts have.
    pub key: Option<String>,
    /// How a path is chosen; `None`: as it is chosen already, else `min_inflight`.
    pub policy: Option<Policy>,
    /// Digests of data wanted. A session that is there already keeps what it has.
    pub digest: bool,
}

impl PeerSpec {
    /// By these paths, with digests.
    #[must_use]
    pub fn new(paths: Vec<PathSpec>) -> Self {
        Self { paths, key: None, policy: None, digest: true }
    }
}

/// What is kept of a session.
pub(super) struct Peer {
    pub(super) id: Id,
    session: Weak<Session>,
    /// Made by RPC: held here.
    pinned: Option<SessionRef>,
    pub(super) paths: Vec<(PathKey, PathSpec)>,
    next_path: u32,
    pub(super) key: Option<HeldKey>,
    policy: Policy,
    digest: bool,
    pub(super) seen: Seen,
}

/// What is known of a session, at its client.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Its name.
    pub id: Id,
    /// As it was opened, with the paths it has now.
    pub spec: PeerSpec,
    /// Made by RPC.
    pub pinned: bool,
    /// Why its key cannot be read now.
    pub key_fault: Option<String>,
    /// The peer, once it has proved itself.
    pub peer: Option<Id>,
    /// Other sessions that lead to the same peer.
    pub same_peer: Vec<Id>,
    /// Its lanes.
    pub lanes: Vec<LaneInfo>,
    /// Its paths, over all lanes.
    pub paths: Vec<PathInfo>,
}

/// A lane: see there.
pub type LaneInfo = ClientLane;

/// A path over all lanes.
#[derive(Clone, Debug)]
pub struct PathInfo {
    /// Where it leads.
    pub spec: PathSpec,
    /// In each lane that there is.
    pub lanes: Vec<PathFigures>,
}

impl PathInfo {
    /// Lanes in which it is up.
    #[must_use]
    pub fn up(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.state == crate::client::PathState::Up).count()
    }

    /// When it changed last, in any lane, and the newest reason; none while it is up everywhere and never fell.
    #[must_use]
    pub fn last_change(&self) -> Option<(SystemTime, Option<Fault>)> {
        let newest = self.lanes.iter().max_by_key(|lane| lane.since)?;
        let down = self.lanes.iter().filter(|lane| lane.state != crate::client::PathState::Up);
        let fault = down.filter_map(|lane| lane.fault).next_back().or(newest.fault);
        Some((newest.since, fault))
    }

    /// Smoothed round trip of its beats, the mean over lanes, ns; 0: none yet.
    #[must_use]
    pub fn latency_ns(&self) -> u64 {
        let known: Vec<u64> =
            self.lanes.iter().map(|lane| lane.stats.round_trip_ns).filter(|ns| *ns > 0).collect();
        known.iter().sum::<u64>().checked_div(known.len() as u64).unwrap_or(0)
    }

    /// The sum of a counter over lanes.
    #[must_use]
    pub fn sum(&self, counter: impl Fn(&crate::client::PathStats) -> u64) -> u64 {
        self.lanes.iter().map(|lane| counter(&lane.stats)).sum()
    }
}

/// A client's session, at its server.
#[derive(Clone, Debug)]
pub struct ServedInfo {
    /// Its name, given by the client.
    pub id: Id,
    /// The client.
    pub peer: Id,
    /// Its lanes.
    pub lanes: Vec<ServerLane>,
}

impl Peer {
    pub(super) fn session(&self) -> Option<SessionRef> {
        self.session.upgrade()
    }

    fn key_name(&self) -> Option<&str> {
        self.key.as_ref().map(HeldKey::name)
    }

    /// Do they name the same ways, in whatever order?
    fn has_paths(&self, paths: &[PathSpec]) -> bool {
        self.paths.len() == paths.len() && self.paths.iter().all(|(_, path)| paths.contains(path))
    }

    fn spec(&self) -> PeerSpec {
        PeerSpec {
            paths: self.paths.iter().map(|(_, path)| *path).collect(),
            key: self.key_name().map(str::to_owned),
            policy: Some(self.policy),
            digest: self.digest,
        }
    }

    fn path_names(&self) -> String {
        self.paths.iter().map(|(_, path)| path.to_string()).collect::<Vec<_>>().join(", ")
    }
}

fn in_words(key: Option<&str>) -> String {
    key.map_or_else(|| "no key".to_owned(), |key| format!("the key {key:?}"))
}

impl Sessions {
    /// The session to this peer: the one that is there on the same paths, else a new one. It lives while anybody holds
    /// what this gives. Nothing is connected before the first user attaches, on the reactor where he does.
    ///
    /// # Errors
    /// Wrong paths or key; the same paths with another key or policy.
    pub fn open(&self, spec: &PeerSpec) -> Result<SessionRef, SessionsError> {
        let _change = self.change();
        self.open_locked(spec)
    }

    fn open_locked(&self, spec: &PeerSpec) -> Result<SessionRef, SessionsError> {
        self.check(spec)?;
        if let Some(found) = self.find_same(spec)? {
            return Ok(found);
        }
        let (key, secret) = self.key(spec.key.as_deref())?;
        let policy = spec.policy.unwrap_or_default();
        let numbered: Vec<(PathKey, PathSpec)> =
            spec.paths.iter().enumerate().map(|(no, path)| (PathKey(no as u32), *path)).collect();
        let setup = SessionSetup {
            host: self.host,
            key: secret,
            digest: spec.digest,
            insecure: self.insecure,
            policy,
            paths: numbered.iter().map(|(key, path)| (*key, path.address())).collect(),
        };
        let id = Id(*Uuid::new_v4().as_bytes());
        let session = Session::new(id, setup, Some(self.notes.clone()));
        self.state().peers.push(Peer {
            id,
            session: std::sync::Arc::downgrade(&session),
            pinned: None,
            next_path: numbered.len() as u32,
            paths: numbered,
            key,
            policy,
            digest: spec.digest,
            seen: Seen::default(),
        });
        Ok(session)
    }

    /// [`Self::open`], held here until [`Self::delete`], and connected at once, on the first reactor.
    ///
    /// # Errors
    /// As there; the reactor cannot have it.
    pub fn create(&self, spec: &PeerSpec) -> Result<Id, SessionsError> {
        let _change = self.change();
        let session = self.open_locked(spec)?;
        let opened = session.clone();
        self.reactors[0].call(move |reactor| {
            let hub = Hub::of(reactor.cx());
            hub.open_lane(reactor.cx(), &opened)
        })??;
        let id = session.id();
        if let Some(peer) = self.state().peers.iter_mut().find(|peer| peer.id == id) {
            peer.pinned = Some(session);
        }
        Ok(id)
    }

    /// Lets a session go that [`Self::create`] has made.
    ///
    /// # Errors
    /// There is none; others use it; it was made by others.
    pub fn delete(&self, name: &str) -> Result<(), SessionsError> {
        let _change = self.change();
        let mut state = self.state();
        let peer = state.find(name)?;
        let session = peer.id.to_string();
        let Some(pinned) = &peer.pinned else { return Err(SessionsError::NotOurs { session }) };
        // Ours is one.
        let holders = std::sync::Arc::strong_count(pinned) - 1;
        if holders > 0 {
            return Err(SessionsError::InUse { session, holders });
        }
        let gone = peer.pinned.take();
        drop(state);
        drop(gone);
        Ok(())
    }

    /// Adds a path to a session, in all its lanes.
    ///
    /// # Errors
    /// No such session; a path that it has.
    pub fn add_path(&self, name: &str, path: PathSpec) -> Result<(), SessionsError> {
        let _change = self.change();
        let (session, key) = {
            let mut state = self.state();
            let peer = state.find(name)?;
            if peer.paths.iter().any(|(_, there)| *there == path) {
                return Err(SessionsError::PathTwice { path: path.to_string() });
            }
            if peer.paths.len() == PATHS_MAX {
                return Err(SessionsError::TooManyPaths { count: PATHS_MAX + 1 });
            }
            self.check_way(&path, peer.key_name())?;
            let key = PathKey(peer.next_path);
            let Some(session) = peer.session() else { return Err(no_such(name, "it is about to end")) };
            peer.next_path += 1;
            peer.paths.push((key, path));
            session.change(|setup| setup.paths.push((key, path.address())));
            (session.id(), key)
        };
        let address = path.address();
        self.ask_hubs(move |hub, cx| hub.add_path(cx, session, key, address.clone())).map(drop)
    }

    /// Takes a path away from a session, in all its lanes. What was under way on it goes to the others.
    ///
    /// # Errors
    /// No such session or path; its last one.
    pub fn remove_path(&self, name: &str, path: PathSpec) -> Result<(), SessionsError> {
        let _change = self.change();
        let (session, key) = {
            let mut state = self.state();
            let peer = state.find(name)?;
            let (id, text) = (peer.id.to_string(), path.to_string());
            let Some(at) = peer.paths.iter().position(|(_, there)| *there == path) else {
                return Err(SessionsError::NoSuchPath { session: id, path: text, have: peer.path_names() });
            };
            if peer.paths.len() == 1 {
                return Err(SessionsError::LastPath { session: id, path: text });
            }
            let Some(session) = peer.session() else { return Err(no_such(name, "it is about to end")) };
            let (key, _) = peer.paths.remove(at);
            peer.seen.forget(key);
            session.change(|setup| setup.paths.retain(|(there, _)| *there != key));
            (session.id(), key)
        };
        self.ask_hubs(move |hub, cx| hub.remove_path(cx, session, key)).map(drop)
    }

    /// Tries all paths of a session that are not up at once, with its key as the file has it now.
    ///
    /// # Errors
    /// No such session.
    pub fn reconnect(&self, name: &str) -> Result<(), SessionsError> {
        let _change = self.change();
        let session = self.state().find(name)?.id;
        self.refresh_keys();
        self.ask_hubs(move |hub, cx| hub.reconnect(cx, session)).map(drop)
    }

    /// Changes how a session chooses paths.
    ///
    /// # Errors
    /// No such session.
    pub fn set_policy(&self, name: &str, policy: Policy) -> Result<(), SessionsError> {
        let _change = self.change();
        let session = {
            let mut state = self.state();
            let peer = state.find(name)?;
            peer.policy = policy;
            if let Some(session) = peer.session() {
                session.change(|setup| setup.policy = policy);
            }
            peer.id
        };
        self.ask_hubs(move |hub, cx| hub.set_policy(cx, session, policy)).map(drop)
    }

    /// The session that is called so: by its UUID, or by a path that no other has.
    ///
    /// # Errors
    /// There is none; there are several.
    pub fn id_of(&self, name: &str) -> Result<Id, SessionsError> {
        Ok(self.state().find(name)?.id)
    }

    /// What [`Self::create`] has made and would make again.
    #[must_use]
    pub fn created(&self) -> Vec<PeerSpec> {
        self.state().peers.iter().filter(|peer| peer.pinned.is_some()).map(Peer::spec).collect()
    }

    /// All sessions that lead from here, in the order in which they were opened.
    ///
    /// # Errors
    /// A reactor does not answer.
    pub fn sessions(&self) -> Result<Vec<SessionInfo>, SessionsError> {
        let lanes: Vec<ClientLane> =
            self.ask_hubs(|hub, cx| hub.client_lanes(cx))?.into_iter().flatten().collect();
        Ok(self.infos(&lanes))
    }

    pub(super) fn infos(&self, lanes: &[ClientLane]) -> Vec<SessionInfo> {
        let state = self.state();
        let alive = state.peers.iter().filter(|peer| peer.session.strong_count() > 0);
        let mut all: Vec<SessionInfo> = alive.map(|peer| peer.info(lanes)).collect();
        let peers: Vec<(Id, Option<Id>)> = all.iter().map(|info| (info.id, info.peer)).collect();
        for info in &mut all {
            let same =
                peers.iter().filter(|(id, peer)| *id != info.id && peer.is_some() && *peer == info.peer);
            info.same_peer = same.map(|(id, _)| *id).collect();
        }
        all
    }

    /// All sessions of others that lead here.
    ///
    /// # Errors
    /// A reactor does not answer.
    pub fn served(&self) -> Result<Vec<ServedInfo>, SessionsError> {
        Ok(served(self.ask_hubs(|hub, cx| hub.server_lanes(cx))?.concat()))
    }

    fn check(&self, spec: &PeerSpec) -> Result<(), SessionsError> {
        let paths = &spec.paths;
        if paths.is_empty() {
            return Err(SessionsError::NoPaths);
        }
        if paths.len() > PATHS_MAX {
            return Err(SessionsError::TooManyPaths { count: paths.len() });
        }
        if let Some((_, path)) = paths.iter().enumerate().find(|(at, path)| paths[..*at].contains(path)) {
            return Err(SessionsError::PathTwice { path: path.to_string() });
        }
        paths.iter().try_for_each(|path| self.check_way(path, spec.key.as_deref()))
    }

    fn check_way(&self, path: &PathSpec, key: Option<&str>) -> Result<(), SessionsError> {
        if key.is_none() && !self.insecure && !path.to.ip().to_canonical().is_loopback() {
            return Err(SessionsError::KeyNeeded { address: path.to });
        }
        Ok(())
    }

    fn find_same(&self, spec: &PeerSpec) -> Result<Option<SessionRef>, SessionsError> {
        let state = self.state();
        let same = state.peers.iter().filter(|peer| peer.has_paths(&spec.paths));
        let Some((peer, session)) = same.filter_map(|peer| Some((peer, peer.session()?))).next() else {
            return Ok(None);
        };
        let wanted = spec.key.as_deref().map(|name| name.strip_prefix(':').unwrap_or(name));
        if peer.key_name() != wanted {
            let (have, wanted) = (in_words(peer.key_name()), in_words(wanted));
            return Err(SessionsError::OtherKey { session: peer.id.to_string(), have, wanted });
        }
        if let Some(policy) = spec.policy.filter(|policy| *policy != peer.policy) {
            let (have, wanted) = (policy_name(peer.policy), policy_name(policy));
            return Err(SessionsError::OtherPolicy { session: peer.id.to_string(), have, wanted });
        }
        Ok(Some(session))
    }
}

/// The lanes of each session of others.
pub(super) fn served(lanes: Vec<ServerLane>) -> Vec<ServedInfo> {
    let mut by_session = BTreeMap::<(Id, Id), Vec<ServerLane>>::new();
    for lane in lanes {
        by_session.entry((lane.session, lane.host)).or_default().push(lane);
    }
    by_session.into_iter().map(|((id, peer), lanes)| ServedInfo { id, peer, lanes }).collect()
}

fn no_such(name: &str, have: &str) -> SessionsError {
    SessionsError::NoSuchSession { session: name.to_owned(), have: have.to_owned() }
}

impl State {
    /// The session of this UUID, or the only one with this path.
    pub(super) fn find(&mut self, name: &str) -> Result<&mut Peer, SessionsError> {
        let alive = |peer: &&mut Peer| peer.session.strong_count() > 0;
        let names: Vec<String> = self
            .peers
            .iter_mut()
            .filter(alive)
            .map(|peer| format!("{} ({})", peer.id, peer.path_names()))
            .collect();
        let have = if names.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there are {}", names.join("; "))
        };
        if let Ok(uuid) = Uuid::parse_str(name) {
            let id = Id(*uuid.as_bytes());
            let found = self.peers.iter_mut().filter(alive).find(|peer| peer.id == id);
            return found.ok_or_else(|| no_such(name, &have));
        }
        let path: PathSpec = name.parse().map_err(|_: PathError| no_such(name, &have))?;
        let mut with_it: Vec<&mut Peer> = self
            .peers
            .iter_mut()
            .filter(alive)
            .filter(|peer| peer.paths.iter().any(|(_, there)| *there == path))
            .collect();
        match with_it.len() {
            0 => Err(no_such(name, &have)),
            1 => Ok(with_it.swap_remove(0)),
            count => Err(SessionsError::Ambiguous { path: path.to_string(), count }),
        }
    }
}

impl Peer {
    fn info(&self, lanes: &[ClientLane]) -> SessionInfo {
        let lanes: Vec<ClientLane> = lanes.iter().filter(|lane| lane.session == self.id).cloned().collect();
        let paths = self.paths.iter().map(|(key, spec)| PathInfo {
            spec: *spec,
            lanes: lanes
                .iter()
                .flat_map(|lane| &lane.paths)
                .filter(|path| path.key == *key)
                .cloned()
                .collect(),
        });
        SessionInfo {
            id: self.id,
            spec: self.spec(),
            pinned: self.pinned.is_some(),
            key_fault: self.key.as_ref().and_then(|key| key.fault.clone()),
            peer: lanes.iter().find_map(|lane| lane.peer),
            same_peer: Vec::new(),
            paths: paths.collect(),
            lanes,
        }
    }
}

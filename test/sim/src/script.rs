//! The scenario language: a quiet world driven by hand, one sentence a call.
//!
//! Every call that waits is bounded in virtual time and panics with the state of the world when the bound passes. The
//! checkers run all along; [`Script::end`] heals everything and demands that the pool becomes whole.

use crate::options::Options;
use crate::world::{DiskWork, Envelope, Ev, MS, World};
use rmr_engine::client::{
    ClientEvent, Command, CommandError, Phase, ResizeError, Scrub, ScrubState, StartOptions, Status, Why,
};
use rmr_proto::{BlockRange, IoOp, MemberId, MemberSet};

/// Member A, B, … by place.
pub const A: usize = 0;
/// Second member.
pub const B: usize = 1;
/// Third member.
pub const C: usize = 2;
/// The client's place among endpoints.
pub const CLIENT: usize = 8;

/// `RMR_MUTANT=Name cargo test --features mutants` shows which scenarios notice an old mistake.
#[cfg(feature = "mutants")]
fn activate_from_environment() {
    use rmr_engine::mutant::Mutant;
    if let Ok(name) = std::env::var("RMR_MUTANT") {
        Mutant::activate(Mutant::ALL.iter().find(|m| format!("{m:?}") == name).copied());
    }
}

/// What blocks may hold.
#[derive(Clone)]
pub struct History(crate::oracle::Oracle);

/// A world and a client in it.
pub struct Script {
    /// The world, for what the language has no word for.
    pub world: World,
    host: usize,
    tag: u64,
}

impl Script {
    /// `members` stores and one client, active with all of them, the initial copies done.
    pub fn pool(members: usize) -> Self {
        Self::with(Options::quiet(members))
    }

    /// A pool with these options, active, the initial copies done and their entries cleared: a store that dies with such
    /// an entry copies the region again, whatever else is wrong.
    pub fn with(options: Options) -> Self {
        let mut script = Self::started(options);
        script.until("the pool is whole", World::is_whole);
        script.until_no_entries();
        script
    }

    /// A pool with these options whose processes have just been started.
    pub fn started(options: Options) -> Self {
        #[cfg(feature = "mutants")]
        activate_from_environment();
        let mut world = World::new(options, 1);
        // `RMR_TRACE=1 cargo test NAME -- --nocapture` prints every event.
        world.trace = std::env::var_os("RMR_TRACE").is_some();
        for node in 0..world.nodes.len() {
            world.start_node(node);
        }
        world.start_host(0, false);
        world.at(MS, Ev::Check);
        Self { world, host: 0, tag: 0 }
    }

    fn check(&self) {
        if let Some(breach) = self.world.breach() {
            panic!("{breach}");
        }
    }

    /// Runs for so many milliseconds.
    pub fn run(&mut self, ms: u64) {
        self.world.run_until(self.world.now + ms * MS);
        self.check();
    }

    /// Runs until `what` holds, at most a minute.
    pub fn until(&mut self, name: &str, what: impl Fn(&World) -> bool) {
        let end = self.world.now + 60_000 * MS;
        while !what(&self.world) {
            assert!(self.world.now < end, "never came true: {name}{}", self.world.describe());
            self.world.run_until(self.world.now + MS);
            self.check();
        }
    }

    /// Hands a request over; it may take its time.
    pub fn submit(&mut self, op: IoOp, first: u64, count: u32) -> u64 {
        let range = BlockRange { first, count };
        self.world.submit(self.host, op, range).expect("the client runs and has room")
    }

    /// Hands a request over if the client has room for it.
    pub fn offer(&mut self, op: IoOp, first: u64, count: u32) {
        self.world.submit(self.host, op, BlockRange { first, count });
    }

    /// Waits until no store has a live intent entry.
    pub fn until_entries_clear(&mut self) {
        self.flush();
        self.until_no_entries();
    }

    fn until_no_entries(&mut self) {
        self.until("all entries are cleared", |world| {
            world.nodes.iter().filter_map(|n| n.store.as_ref()).all(|store| store.live_entries() == 0)
        });
    }

    /// Waits until a request ends, and says how.
    pub fn wait(&mut self, user: u64) -> Result<(), rmr_engine::IoError> {
        self.until("the request ends", |world| world.results.contains_key(&user));
        self.world.results[&user].0
    }

    /// A write of one block, acknowledged.
    pub fn write(&mut self, block: u64) {
        let user = self.submit(IoOp::Write, block, 1);
        self.wait(user).unwrap_or_else(|error| panic!("write of {block}: {error}"));
    }

    /// Zeroes, acknowledged.
    pub fn zero(&mut self, block: u64) {
        let user = self.submit(IoOp::Zero { unmap: true }, block, 1);
        self.wait(user).unwrap_or_else(|error| panic!("zeroes on {block}: {error}"));
    }

    /// A flush, acknowledged.
    pub fn flush(&mut self) {
        let user = self.submit(IoOp::Flush, 0, 1);
        self.wait(user).unwrap_or_else(|error| panic!("flush: {error}"));
    }

    /// Reads the block often enough to ask every leg; the oracle judges what comes back.
    pub fn read(&mut self, block: u64) {
        for _ in 0..8 {
            let user = self.submit(IoOp::Read, block, 1);
            self.wait(user).unwrap_or_else(|error| panic!("read of {block}: {error}"));
        }
    }

    /// A read of the block that has to fail in one of these ways.
    pub fn fails_to_read(&mut self, block: u64, errors: &[rmr_engine::IoError]) {
        let user = self.submit(IoOp::Read, block, 1);
        match self.wait(user) {
            Err(error) if errors.contains(&error) => {}
            other => panic!("read of {block} ended with {other:?}, expected is one of {errors:?}"),
        }
    }

    /// A block of a leg cannot be read until it is written again.
    pub fn unreadable(&mut self, node: usize, block: u64) {
        self.world.nodes[node].disk.bad.insert(block);
    }

    /// Starts a scrub of the whole device.
    pub fn start_scrub(&mut self) {
        self.world.start_scrub(self.host, 0, 0);
    }

    /// How the scrub stands.
    pub fn scrubbed(&self) -> Scrub {
        self.world.scrub_of(self.host)
    }

    /// Virtual time, ms.
    pub fn now_ms(&self) -> u64 {
        self.world.now / MS
    }

    /// Waits until it is through.
    pub fn until_scrubbed(&mut self) -> Scrub {
        let host = self.host;
        self.until("the scrub is through", |w| w.scrub_of(host).state == ScrubState::Done);
        self.world.scrub_of(host)
    }

    /// Scrubs the whole device, believing one leg whatever the others hold.
    pub fn scrub(&mut self, believe: Option<usize>) -> Scrub {
        self.world.scrub_believing(self.host, 0, 0, believe.map(MemberId::at));
        self.until_scrubbed()
    }

    /// From now on metadata writes of `node` fail, or of nobody.
    pub fn metadata_fails_on(&mut self, node: Option<usize>) {
        self.world.meta_fails = node;
    }

    /// From now on flushes of `node` fail and lose what they were to make durable, or of nobody.
    pub fn flushes_fail_on(&mut self, node: Option<usize>) {
        self.world.flush_fails = node;
    }

    /// Compares what stores take for durable with their disks.
    pub fn check_disks(&mut self) {
        self.world.check_disks();
        self.check();
    }

    /// kill -9 of a storage process.
    pub fn kill(&mut self, node: usize) {
        self.world.kill(node);
    }

    /// Power loss of a storage node.
    pub fn power_off(&mut self, node: usize) {
        self.world.power_off(node);
    }

    /// Starts a storage process.
    pub fn start(&mut self, node: usize) {
        self.world.start_node(node);
        self.run(5);
    }

    /// kill -9 of the client.
    pub fn crash_client(&mut self) {
        self.world.crash_host(self.host);
    }

    /// Starts a client on the other host and makes it the one that the script speaks to.
    pub fn other_client(&mut self) {
        self.host = 1 - self.host;
        self.world.start_host(self.host, true);
    }

    /// Starts the client again, taking over.
    pub fn restart_client(&mut self) {
        self.world.start_host(self.host, true);
    }

    /// kill -9 of a storage process, which the client hears of at once.
    pub fn kill_loudly(&mut self, node: usize) {
        self.world.kill(node);
        self.world.client_event(self.host, rmr_engine::client::ClientEvent::Down(MemberId::at(node)));
    }

    /// Asks for a device of so many blocks; it may take its time.
    pub fn ask_resize(&mut self, blocks: u64) {
        self.world.resized = None;
        self.world.client_event(self.host, ClientEvent::Resize { blocks });
    }

    /// Makes the device so many blocks large, or says why not.
    pub fn resize(&mut self, blocks: u64) -> Result<u64, ResizeError> {
        self.ask_resize(blocks);
        self.until_resized()
    }

    /// Waits until the growth asked for last has ended, and says how.
    pub fn until_resized(&mut self) -> Result<u64, ResizeError> {
        self.until("the growth ends", |world| world.resized.is_some());
        self.world.resized.expect("just seen")
    }

    /// Cuts one direction of a link.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.world.net.cut(from, to, true);
    }

    /// The client's session with a node ends; the node knows nothing of it.
    pub fn session_ends(&mut self, node: usize) {
        self.world.client_event(self.host, ClientEvent::Down(MemberId::at(node)));
    }

    /// Mends all links.
    pub fn mend(&mut self) {
        self.world.net.heal();
    }

    /// Holds back messages for which `filter` is true.
    pub fn hold(&mut self, filter: impl Fn(&Envelope<'_>) -> bool + 'static) {
        self.world.hold(Box::new(filter));
    }

    /// Delivers those of the messages held back for which `which` is true; the others wait on.
    pub fn let_go(&mut self, which: impl Fn(&Envelope<'_>) -> bool) {
        self.world.let_go(&which);
    }

    /// Waits until a message for which `which` is true is held back.
    pub fn until_held(&mut self, which: impl Fn(&Envelope<'_>) -> bool) {
        self.until("a message is held back", |world| world.holds(&which));
    }

    /// Waits until `node` copies something, then until it does not: an attempt came to nothing, the next comes later.
    pub fn until_copy_fails(&mut self, node: usize) {
        let copying =
            move |world: &World| world.nodes[node].store.as_ref().map_or(0, |store| store.copying());
        self.until("a copy is under way", |world| copying(world) > 0);
        self.until("no copy is under way", |world| copying(world) == 0);
    }

    /// The disk of `node` does not finish operations for which `filter` is true.
    pub fn hold_disk(&mut self, node: usize, filter: impl Fn(DiskWork) -> bool + 'static) {
        self.world.hold_disk(node, Box::new(filter));
    }

    /// Waits until so many operations of the disk are held back.
    pub fn until_disk_holds(&mut self, count: usize) {
        self.until("the disk holds operations back", |world| world.disk_held() >= count);
    }

    /// kill -9 of a storage process that the client notices at once.
    pub fn kill_seen(&mut self, node: usize) {
        self.world.kill(node);
        self.world.session_down(self.host, node);
        self.check();
    }

    /// Power loss of a storage node: nothing that is queued lands, nothing that is not durable survives.
    pub fn power_off_losing_all(&mut self, node: usize) {
        self.world.power_off_exactly(node, true);
    }

    /// Power loss of a storage node: nothing that is queued lands, but the cache reaches the medium.
    pub fn power_off_keeping_cache(&mut self, node: usize) {
        self.world.power_off_exactly(node, false);
    }

    /// Delivers those of the messages held back that `wanted` names, forgets the others, and holds nothing back any more.
    pub fn release_if(&mut self, wanted: impl Fn(&rmr_proto::Msg) -> bool) {
        self.world.release_if(wanted);
    }

    /// Keeps a copy of what is durable on a node's disk.
    pub fn keep_image(&mut self, node: usize) {
        self.world.nodes[node].image = Some(self.world.nodes[node].disk.image());
    }

    /// Puts the copy back: the disk goes back in time.
    pub fn restore_image(&mut self, node: usize) {
        self.power_off(node);
        let image = self.world.nodes[node].image.take().expect("an image was kept");
        self.world.nodes[node].disk.restore(&image);
    }

    /// Waits until the client is active with exactly this set.
    pub fn until_set(&mut self, members: &[usize]) {
        let set = members.iter().fold(MemberSet::EMPTY, |set, m| set.with(MemberId::at(*m)));
        let host = self.host;
        self.until("the set is active", |world| {
            let client = world.hosts[host].client.as_ref();
            client.is_some_and(|client| client.phase() == Phase::Active && client.set() == set)
        });
    }

    /// Virtual time, ns.
    pub fn now(&self) -> u64 {
        self.world.now
    }

    /// Blocks of the device, as the client knows it.
    pub fn blocks(&self) -> u64 {
        self.world.hosts[self.host].client.as_ref().map_or(0, |client| client.geometry().blocks())
    }

    /// The epoch that the client serves in, or served in last.
    pub fn epoch(&self) -> rmr_proto::Epoch {
        self.world.hosts[self.host].client.as_ref().map_or_else(Default::default, |client| client.epoch())
    }

    /// Where the client stands, if it runs.
    pub fn phase(&self) -> Option<Phase> {
        self.world.hosts[self.host].client.as_ref().map(|client| client.phase())
    }

    /// Most live intent entries of any store.
    pub fn live_entries(&self) -> usize {
        let stores = self.world.nodes.iter().filter_map(|node| node.store.as_ref());
        stores.map(|store| store.live_entries()).max().unwrap_or(0)
    }

    /// Waits until every member is in the set and nothing is missed anywhere.
    pub fn until_whole(&mut self) {
        self.until("the pool is whole", World::is_whole);
    }

    /// Gives a command and waits until it ends.
    pub fn command(&mut self, command: Command) -> Result<(), CommandError> {
        let tag = self.give(command);
        self.ended(tag)
    }

    /// Gives a command; it may take its time.
    pub fn give(&mut self, command: Command) -> u64 {
        self.tag += 1;
        self.world.command(self.host, self.tag, command);
        self.tag
    }

    /// Waits until a command ends.
    pub fn ended(&mut self, tag: u64) -> Result<(), CommandError> {
        self.until("the command ends", |world| world.commanded.contains_key(&tag));
        self.world.commanded[&tag]
    }

    /// What the client says of itself and of every member.
    pub fn status(&self) -> Status {
        let client = self.world.hosts[self.host].client.as_ref().expect("the client runs");
        client.status(self.world.now)
    }

    /// What the client says of one member.
    pub fn why(&self, node: usize) -> Option<Why> {
        self.status().legs.iter().find(|(member, _)| member.index() == node).map(|(_, why)| *why)
    }

    /// Puts another, empty disk in place of a node's.
    pub fn wipe(&mut self, node: usize) {
        self.world.wipe(node);
        self.run(20);
    }

    /// Starts the client again with these options.
    pub fn restart_client_with(&mut self, options: StartOptions) {
        self.world.forced |= !options.force.is_empty() || options.accept.is_some();
        self.world.start_host_with(self.host, options);
    }

    /// What blocks may hold now: a history to come back to.
    pub fn history(&self) -> History {
        History(self.world.oracle.clone())
    }

    /// From now on only what `history` allows is right: the operator gave up what was written since it was taken.
    pub fn choose(&mut self, history: &History) {
        self.world.oracle = history.0.clone();
    }

    /// Starts a client on the other host with these options and makes it the one that the script speaks to.
    pub fn other_client_with(&mut self, options: StartOptions) {
        self.host = 1 - self.host;
        self.world.start_host_with(self.host, options);
    }

    /// Mends, starts whatever is down, and demands a whole pool whose legs hold the same.
    pub fn end(mut self) {
        self.mend();
        self.world.release();
        for node in 0..self.world.nodes.len() {
            self.world.start_node(node);
        }
        self.until_whole();
        self.world.compare_legs();
        self.check();
    }
}

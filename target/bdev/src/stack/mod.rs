//! Bdevs on a named base: wait for it, claim it, go with it, come back with it.
//!
//! A module that stacks bdevs on others keeps a [`Stack`] of *entries*, one for each create call. The base need not
//! exist when the call is made; saved configurations count on that.
//!
//! ```text
//!            base appears                base is removed
//! Waiting ───────────────► Busy ─► Up ───────────────────► Busy ─► Waiting
//!    │ delete                │ cannot be built: the create call fails, or (later) Waiting, with the reason
//!    ▼                       │
//!  gone ◄── delete ── Busy ◄─┴─ Up
//! ```
//! `Busy` is held by the one thread that moves the entry; others wait for its end. Everything else is under one lock,
//! which is never held while bdevs are registered or removed: those calls come back here.

mod error;
mod relay;

pub use error::StackError;
pub use relay::{Relay, open_relay};

use crate::{Bdev, BdevSpec, Bdevs, Claim, Desc, Device, Limits, Mode, Module};
use rpc_registry::ConfigEntry;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a call waits for another that moves the same entry: longer than a removal takes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// What one create call asked for.
pub trait Layer: Send + Sync + 'static {
    /// The bdevs on this base; each device keeps the desc. Nothing is registered yet. On an error: why.
    fn build(&self, base: &Arc<Desc>) -> Result<Vec<BdevSpec>, String>;

    /// The call that makes it again.
    fn config(&self) -> ConfigEntry;

    /// The base has another size; `ours` are the bdevs on it.
    fn resized(&self, base: &Bdev, ours: &[Arc<Bdev>]) {
        ours.iter().for_each(|bdev| bdev.resize(base.num_blocks()));
    }
}

/// The entries of one module. Control threads.
pub struct Stack<L> {
    bdevs: Weak<Bdevs>,
    entries: Mutex<Vec<Entry<L>>>,
    settled: Condvar,
}

struct Entry<L> {
    /// Unique in this stack; the opener's name on the base.
    key: String,
    /// Name, alias or UUID.
    base: String,
    layer: Arc<L>,
    state: State,
}

enum State {
    Waiting,
    Busy,
    Up { base: Arc<Bdev>, ours: Vec<Arc<Bdev>> },
}

impl<L: Layer> Stack<L> {
    /// An empty one, which hears of all bdevs from now on.
    #[must_use]
    pub fn new(bdevs: &Arc<Bdevs>) -> Arc<Stack<L>> {
        let (entries, settled) = (Mutex::default(), Condvar::new());
        let stack = Arc::new(Stack { bdevs: Arc::downgrade(bdevs), entries, settled });
        bdevs.add_module(stack.clone());
        stack
    }

    /// Adds an entry. Its bdevs, if the base is there; none if they will appear with it. `names` are those that its
    /// bdevs will have, as far as that is known without the base: none of them may be taken.
    pub fn create(
        &self,
        key: &str,
        base: &str,
        names: &[&str],
        layer: L,
    ) -> Result<Vec<Arc<Bdev>>, StackError> {
        let bdevs = self.bdevs.upgrade().ok_or(StackError::Ending)?;
        if let Some(own) = names.iter().find(|name| **name == base) {
            return Err(StackError::OnItself((*own).to_owned()));
        }
        let layer = Arc::new(layer);
        let there = {
            let mut entries = self.lock();
            if entries.iter().any(|entry| entry.key == key) {
                return Err(StackError::Exists(key.to_owned()));
            }
            if let Some(taken) = names.iter().find_map(|name| bdevs.get(name).map(|_| (*name).to_owned())) {
                return Err(StackError::Exists(taken));
            }
            let there = bdevs.get(base);
            let state = if there.is_some() { State::Busy } else { State::Waiting };
            let (key, base) = (key.to_owned(), base.to_owned());
            entries.push(Entry { key, base, layer: layer.clone(), state });
            there
        };
        let Some(base) = there else { return Ok(Vec::new()) };
        let built = attach(&bdevs, key, &base, &*layer);
        let mut entries = self.lock();
        let at = entries
            .iter()
            .position(|entry| entry.key == key)
            .expect("nobody else touches it while it is busy");
        let outcome = match built {
            Ok(ours) => {
                entries[at].state = State::Up { base, ours: ours.clone() };
                Ok(ours)
            }
            Err(error) => {
                entries.remove(at);
                Err(error)
            }
        };
        self.settled.notify_all();
        outcome
    }

    /// Removes an entry and its bdevs.
    pub fn delete(&self, key: &str) -> Result<(), StackError> {
        let bdevs = self.bdevs.upgrade().ok_or(StackError::Ending)?;
        let ours = {
            let mut entries = self.lock_settled(key)?;
            let at = entries.iter().position(|entry| entry.key == key);
            let at = at.ok_or_else(|| StackError::NotFound(key.to_owned()))?;
            match std::mem::replace(&mut entries[at].state, State::Busy) {
                State::Up { ours, .. } => ours,
                State::Waiting | State::Busy => Vec::new(),
            }
        };
        let removed = take_down(&bdevs, ours);
        self.lock().retain(|entry| entry.key != key);
        self.settled.notify_all();
        removed
    }

    /// The layer of an entry, and its bdevs while they are there.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<(Arc<L>, Vec<Arc<Bdev>>)> {
        let entries = self.lock();
        let entry = entries.iter().find(|entry| entry.key == key)?;
        let ours = match &entry.state {
            State::Up { ours, .. } => ours.clone(),
            State::Waiting | State::Busy => Vec::new(),
        };
        Some((entry.layer.clone(), ours))
    }

    /// The keys, in the order they were made.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.lock().iter().map(|entry| entry.key.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry<L>>> {
        self.entries.lock().expect("no thread panics while it holds this lock")
    }

    /// The lock, as soon as nobody moves the entry `key`.
    fn lock_settled(&self, key: &str) -> Result<MutexGuard<'_, Vec<Entry<L>>>, StackError> {
        let deadline = Instant::now() + BUSY_TIMEOUT;
        let mut entries = self.lock();
        while entries.iter().any(|entry| entry.key == key && matches!(entry.state, State::Busy)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StackError::Busy(key.to_owned()));
            }
            let waited = self.settled.wait_timeout(entries, left);
            entries = waited.expect("no thread panics while it holds this lock").0;
        }
        Ok(entries)
    }

    /// Back to waiting, `gone` being the base it had or could not have. Another may have taken that name while the
    /// entry was busy and did not look.
    fn wait_again(&self, bdevs: &Bdevs, key: &str, gone: &Arc<Bdev>) {
        self.settle(key, State::Waiting);
        let base = self.lock().iter().find(|entry| entry.key == key).map(|entry| entry.base.clone());
        if let Some(other) = base.and_then(|base| bdevs.get(&base)).filter(|other| !Arc::ptr_eq(other, gone))
        {
            self.appeared(bdevs, &other);
        }
    }

    fn settle(&self, key: &str, state: State) {
        let mut entries = self.lock();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) {
            entry.state = state;
        }
        self.settled.notify_all();
    }
}

impl<L: Layer> Module for Stack<L> {
    fn appeared(&self, bdevs: &Bdevs, bdev: &Arc<Bdev>) {
        let waiting: Vec<(String, Arc<L>)> = {
            let mut entries = self.lock();
            let theirs = entries
                .iter_mut()
                .filter(|entry| matches!(entry.state, State::Waiting) && bdev.is_named(&entry.base));
            theirs
                .map(|entry| {
                    entry.state = State::Busy;
                    (entry.key.clone(), entry.layer.clone())
                })
                .collect()
        };
        for (key, layer) in waiting {
            match attach(bdevs, &key, bdev, &*layer) {
                Ok(ours) => self.settle(&key, State::Up { base: bdev.clone(), ours }),
                Err(error) => {
                    tracing::error!(
                        base = bdev.name(),
                        "{key:?} cannot be made now that its base is there: {error}"
                    );
                    self.wait_again(bdevs, &key, bdev);
                }
            }
        }
    }

    fn removing(&self, bdevs: &Bdevs, bdev: &Arc<Bdev>) {
        let keys: Vec<String> = self
            .lock()
            .iter()
            .filter(|entry| bdev.is_named(&entry.base))
            .map(|entry| entry.key.clone())
            .collect();
        for key in keys {
            let ours = match self.lock_settled(&key) {
                Ok(mut entries) => {
                    entries.iter_mut().find(|entry| entry.key == key).and_then(|entry| entry.leave(bdev))
                }
                Err(error) => {
                    tracing::error!(
                        base = bdev.name(),
                        "the removal of its base goes on without it: {error}"
                    );
                    None
                }
            };
            let Some(ours) = ours else { continue };
            if let Err(error) = take_down(bdevs, ours) {
                tracing::error!(base = bdev.name(), "{key:?} goes with its base, but: {error}");
            }
            self.wait_again(bdevs, &key, bdev);
        }
    }

    fn resized(&self, bdev: &Bdev) {
        let of_it = |entry: &Entry<L>| match &entry.state {
            State::Up { base, ours } if std::ptr::eq(&raw const **base, bdev) => {
                Some((entry.layer.clone(), ours.clone()))
            }
            _ => None,
        };
        let stacked: Vec<_> = self.lock().iter().filter_map(of_it).collect();
        stacked.iter().for_each(|(layer, ours)| layer.resized(bdev, ours));
    }

    fn config(&self) -> Vec<ConfigEntry> {
        self.lock().iter().map(|entry| entry.layer.config()).collect()
    }
}

impl<L> Entry<L> {
    /// Becomes busy and gives its bdevs, if it stands on this very bdev.
    fn leave(&mut self, bdev: &Arc<Bdev>) -> Option<Vec<Arc<Bdev>>> {
        match &self.state {
            State::Up { base, .. } if Arc::ptr_eq(base, bdev) => {}
            _ => return None,
        }
        match std::mem::replace(&mut self.state, State::Busy) {
            State::Up { ours, .. } => Some(ours),
            State::Waiting | State::Busy => None,
        }
    }
}

/// Opens and claims the base, and registers what stands on it: all of it, or nothing.
fn attach<L: Layer>(
    bdevs: &Bdevs,
    key: &str,
    base: &Arc<Bdev>,
    layer: &L,
) -> Result<Vec<Arc<Bdev>>, StackError> {
    let desc = Desc::open(base, key, Mode::Write)?;
    desc.claim(Claim::ExclusiveWrite)?;
    let specs = layer
        .build(&Arc::new(desc))
        .map_err(|why| StackError::Build { base: base.name().to_owned(), why })?;
    // Nobody shall see one of them come and go because of another's name.
    if let Some(taken) = specs.iter().find(|spec| bdevs.get(&spec.name).is_some()) {
        return Err(StackError::Exists(taken.name.clone()));
    }
    let mut ours = Vec::new();
    for spec in specs {
        match bdevs.register(spec) {
            Ok(bdev) => ours.push(bdev),
            Err(error) => {
                take_down(bdevs, ours)?;
                return Err(error.into());
            }
        }
    }
    Ok(ours)
}

/// Removes bdevs. The first trouble is the answer; the others are removed all the same.
fn take_down(bdevs: &Bdevs, ours: Vec<Arc<Bdev>>) -> Result<(), StackError> {
    let mut outcome = Ok(());
    for bdev in ours {
        outcome = outcome.and(bdevs.remove_this(&bdev).map_err(StackError::from));
    }
    outcome
}

impl BdevSpec {
    /// A bdev as large as `base` that does what it does: a layer changes what is different of it. `uuid`: derived from
    /// the base's if absent. It has no limits, as the base's channel cuts what the base cannot take.
    #[must_use]
    pub fn over(
        base: &Bdev,
        name: String,
        product_name: &'static str,
        uuid: Option<Uuid>,
        device: Arc<dyn Device>,
    ) -> BdevSpec {
        BdevSpec {
            name,
            aliases: Vec::new(),
            product_name,
            uuid: uuid.unwrap_or_else(|| derived_uuid(base, product_name)),
            block_size: base.block_size(),
            num_blocks: base.num_blocks(),
            ops: base.ops(),
            limits: Limits::default(),
            numa_node: base.numa_node(),
            device,
        }
    }
}

/// The identity of a bdev that was not given one: the same whenever it is made on the same base.
#[must_use]
pub fn derived_uuid(base: &Bdev, kind: &str) -> Uuid {
    Uuid::new_v5(&base.uuid(), kind.as_bytes())
}

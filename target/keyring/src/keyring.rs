//! The keys by name, and who uses them.
//!
//! ```text
//! add ──► listed ── remove, nobody has a reference ──► gone
//!            └───── remove, references live ──► removed ── the last one goes ──► gone
//! ```

use crate::error::KeyringError;
use crate::file::read_key;
use crate::key::Key;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The most keys at a time: one for each of a few thousand hosts.
pub const MAX_KEYS: usize = 8192;

/// The most bytes of a name.
const MAX_NAME_BYTES: usize = 255;

/// How many names an error lists.
const NAMES_SHOWN: usize = 8;

/// One key: where it is read from. Its bytes are not here.
#[derive(Debug)]
struct Entry {
    /// As it was given; see [`plain_name`].
    name: String,
    path: String,
    removed: AtomicBool,
}

/// What is behind a [`KeyRef`] and all its clones: one user.
#[derive(Debug)]
struct User(Arc<Entry>);

/// A user's hold on a key: a listener's, a leg's, a host's. Clones of it and the keys read through it count as the same
/// one user; the last of them to go gives the key back. Going takes no lock, so it may happen on a reactor.
#[derive(Clone, Debug)]
pub struct KeyRef(Arc<User>);

impl KeyRef {
    /// The key's name, as it was added.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.0.name
    }

    /// Whether the key was removed since.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.0.0.removed.load(Ordering::Acquire)
    }

    /// Reads the key from its file as it is now; all rules are checked again. Refused once the key was removed, as a
    /// removed key must open no new session. Blocks: control threads only.
    pub fn load(&self) -> Result<Key, KeyringError> {
        if self.is_removed() {
            return Err(KeyringError::Removed { name: self.name().to_owned() });
        }
        let path = &self.0.0.path;
        let bytes = read_key(path)?;
        Key::of(self, bytes).map_err(|fault| KeyringError::Fault { path: path.clone(), fault })
    }
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name, as it was added.
    pub name: String,
    /// Its file; none once it was removed.
    pub path: Option<String>,
    /// The keyring's own reference while the key is listed, and one for each user.
    pub references: usize,
}

impl KeyInfo {
    /// Removed from the keyring, but still in use.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.path.is_none()
    }
}

#[derive(Default)]
struct Tables {
    /// In the order in which they were added.
    listed: Vec<Arc<Entry>>,
    /// In the order in which they were removed; those that nobody uses any more are swept out at the next look.
    removed: Vec<Weak<Entry>>,
}

/// The keys of a target by name. Control threads, any number at once; shared as an `Arc`.
///
/// No lock is held while a file is looked at: a file server that does not answer delays its own caller alone.
#[derive(Default)]
pub struct Keyring {
    tables: Mutex<Tables>,
}

impl Keyring {
    /// An empty keyring.
    #[must_use]
    pub fn new() -> Arc<Keyring> {
        Arc::default()
    }

    /// Adds the key that the file at `path` holds. The file is read and checked, and then forgotten: what counts is its
    /// content when the key is used ([`KeyRef::load`]).
    pub fn add_file(&self, name: &str, path: &str) -> Result<(), KeyringError> {
        let plain = plain_name(name)?;
        self.lock().room_for(plain)?;
        drop(
            Key::parse(read_key(path)?)
                .map_err(|fault| KeyringError::Fault { path: path.to_owned(), fault })?,
        );
        let mut tables = self.lock();
        // Somebody else may have been quicker.
        tables.room_for(plain)?;
        let (name, path) = (name.to_owned(), path.to_owned());
        tracing::info!(key = name, path, "key added");
        tables.listed.push(Arc::new(Entry { name, path, removed: AtomicBool::new(false) }));
        Ok(())
    }

    /// Removes a key: no one gets it any more, and its name is free. Sessions that have its bytes keep them, and the key
    /// is shown as removed until the last of its users is gone.
    pub fn remove(&self, name: &str) -> Result<(), KeyringError> {
        let plain = plain_name(name)?;
        let mut tables = self.lock();
        let at = tables.position(plain).ok_or_else(|| tables.no_such(name))?;
        let entry = tables.listed.remove(at);
        entry.removed.store(true, Ordering::Release);
        tracing::info!(key = entry.name, users = Arc::strong_count(&entry) - 1, "key removed");
        tables.removed.push(Arc::downgrade(&entry));
        drop(entry);
        tables.sweep();
        Ok(())
    }

    /// A reference to a key, for a new user of it. Nothing is read yet.
    pub fn get(&self, name: &str) -> Result<KeyRef, KeyringError> {
        let plain = plain_name(name)?;
        let tables = self.lock();
        let at = tables.position(plain).ok_or_else(|| tables.no_such(name))?;
        Ok(KeyRef(Arc::new(User(tables.listed[at].clone()))))
    }

    /// All keys in the order in which they were added, then the removed ones that are in use.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        let mut tables = self.lock();
        tables.sweep();
        let listed = tables.listed.iter().map(|entry| KeyInfo {
            name: entry.name.clone(),
            path: Some(entry.path.clone()),
            references: Arc::strong_count(entry),
        });
        // While it is looked at, there is one reference more.
        let removed = tables.removed.iter().filter_map(Weak::upgrade).map(|entry| KeyInfo {
            name: entry.name.clone(),
            path: None,
            references: Arc::strong_count(&entry) - 1,
        });
        listed.chain(removed.filter(|info| info.references > 0)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Every change of the tables is one push or one removal: they are whole whatever a thread died of.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl Tables {
    fn position(&self, plain: &str) -> Option<usize> {
        self.listed.iter().position(|entry| plain_of(&entry.name) == plain)
    }

    fn room_for(&self, plain: &str) -> Result<(), KeyringError> {
        if let Some(at) = self.position(plain) {
            let Entry { name, path, .. } = &*self.listed[at];
            return Err(KeyringError::Exists { name: name.clone(), path: path.clone() });
        }
        if self.listed.len() >= MAX_KEYS { Err(KeyringError::Full) } else { Ok(()) }
    }

    fn no_such(&self, name: &str) -> KeyringError {
        let names: Vec<_> =
            self.listed.iter().take(NAMES_SHOWN).map(|entry| format!("{:?}", entry.name)).collect();
        let have = match (names.as_slice(), self.listed.len() - names.len()) {
            ([], _) => "the keyring is empty".to_owned(),
            (names, 0) => format!("there is {}", names.join(", ")),
            (names, more) => format!("there is {} and {more} more", names.join(", ")),
        };
        KeyringError::NotFound { name: name.to_owned(), have }
    }

    fn sweep(&mut self) {
        self.removed.retain(|entry| entry.strong_count() > 0);
    }
}

/// The name within the one keyring that there is: SPDK writes `keyring:key`, and leaves out the name of the global one,
/// so that `:key0` and `key0` are the same key.
fn plain_of(name: &str) -> &str {
    name.strip_prefix(':').unwrap_or(name)
}

/// [`plain_of`] a name that a key may have.
fn plain_name(name: &str) -> Result<&str, KeyringError> {
    let plain = plain_of(name);
    let why = if plain.is_empty() {
        "is empty"
    } else if plain.len() > MAX_NAME_BYTES {
        "is too long"
    } else if plain.contains(char::is_control) {
        "holds a control character"
    } else if plain.contains(':') {
        "names another keyring before its \":\", and there is only the global one"
    } else {
        return Ok(plain);
    };
    Err(KeyringError::Name { name: name.chars().take(MAX_NAME_BYTES).collect(), why })
}

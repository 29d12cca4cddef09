//! Names, references, removal, and all of it at once from several threads.

use super::{Folder, key_bytes};
use crate::{KeyInfo, KeyRef, Keyring, KeyringError, MAX_KEYS};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const ENOKEY: i32 = 126;

fn with_key(folder: &Folder) -> (Arc<Keyring>, String) {
    let (keyring, path) = (Keyring::new(), folder.file("key", &key_bytes(32)));
    keyring.add_file("key0", &path).expect("added");
    (keyring, path)
}

fn listed(keyring: &Keyring) -> Vec<(String, bool, usize)> {
    keyring.list().into_iter().map(|info| (info.name.clone(), info.is_removed(), info.references)).collect()
}

#[test]
fn a_name_is_taken_once_and_a_colon_in_front_is_the_same_name() {
    let folder = Folder::new();
    let (keyring, path) = with_key(&folder);
    for name in ["key0", ":key0"] {
        let error = keyring.add_file(name, &path).expect_err("taken");
        assert!(error.errno() == EEXIST && error.to_string().contains(&path), "{error}");
    }
    assert_eq!(keyring.get(":key0").expect("the same").name(), "key0");
    // Who asks for a name that is taken is told so first, whatever the file.
    assert_eq!(keyring.add_file("key0", "nowhere").expect_err("taken").errno(), EEXIST);
    keyring.add_file(":key1", &path).expect("two names of one file");
    assert_eq!(listed(&keyring), [("key0".to_owned(), false, 1), (":key1".to_owned(), false, 1)]);
    keyring.remove("key1").expect("the same as :key1");
}

#[test]
fn names_that_cannot_be_are_refused_in_every_call() {
    let folder = Folder::new();
    let (keyring, path) = with_key(&folder);
    let long = "n".repeat(256);
    for (name, why) in
        [("", "empty"), (":", "empty"), ("ring:key0", "keyring"), ("a\nb", "control"), (&long, "long")]
    {
        let calls = [keyring.add_file(name, &path), keyring.remove(name), keyring.get(name).map(drop)];
        for error in calls.map(|call| call.expect_err("no name")) {
            assert!(error.errno() == EINVAL && error.to_string().contains(why), "{error}");
        }
    }
    keyring.add_file(&long[1..], &path).expect("255 bytes");
}

#[test]
fn a_name_that_is_not_there_is_answered_with_those_that_are() {
    let folder = Folder::new();
    let (keyring, path) = with_key(&folder);
    let text = |error: KeyringError| (error.errno(), error.to_string());
    let expect = (ENOKEY, "there is no key \"other\"; there is \"key0\"".to_owned());
    assert_eq!(keyring.remove("other").map_err(text), Err(expect.clone()));
    assert_eq!(keyring.get("other").map(drop).map_err(text), Err(expect));
    for at in 1..10 {
        keyring.add_file(&format!("key{at}"), &path).expect("added");
    }
    assert!(text(keyring.remove("other").expect_err("not there")).1.ends_with("\"key7\" and 2 more"));
    let empty = Keyring::new();
    assert!(text(empty.remove("other").expect_err("not there")).1.ends_with("the keyring is empty"));
}

#[test]
fn each_user_counts_once_with_all_its_clones_and_keys() {
    let folder = Folder::new();
    let (keyring, _) = with_key(&folder);
    let count = || keyring.list()[0].references;
    let (one, two) = (keyring.get("key0").expect("there"), keyring.get("key0").expect("there"));
    assert_eq!(count(), 3);
    let (clone, key) = (one.clone(), one.load().expect("read"));
    let keys = [key.clone(), key];
    assert_eq!(count(), 3);
    drop((one, clone));
    assert_eq!(count(), 3, "its key is still in use");
    drop(keys);
    assert_eq!(count(), 2);
    drop(two);
    assert_eq!(count(), 1);
}

#[test]
fn a_key_removed_in_use_stays_with_its_users_and_opens_nothing_new() {
    let folder = Folder::new();
    let (keyring, path) = with_key(&folder);
    let user = keyring.get("key0").expect("there");
    let key = user.load().expect("read");
    let mac = key.hmac_sha256(&[b"challenge"]);
    keyring.remove("key0").expect("removed");
    let shown = KeyInfo { name: "key0".to_owned(), path: None, references: 1 };
    assert_eq!(keyring.list(), [shown]);
    assert!(user.is_removed());
    let error = user.load().expect_err("removed");
    assert!(error.errno() == ENOKEY && error.to_string().contains("was removed"), "{error}");
    assert_eq!(keyring.get("key0").expect_err("removed").errno(), ENOKEY);
    assert_eq!(keyring.remove("key0").expect_err("removed").errno(), ENOKEY);
    assert!(key.verify_hmac_sha256(&[b"challenge"], &mac), "who has it goes on");
    // The name is free, for another key that has nothing to do with the first.
    keyring.add_file("key0", &path).expect("added again");
    assert_eq!(listed(&keyring), [("key0".to_owned(), false, 1), ("key0".to_owned(), true, 1)]);
    assert!(user.load().is_err(), "a reference to the old one is none to the new one");
    drop(user);
    assert_eq!(listed(&keyring).len(), 2, "the key that was read is in use");
    drop(key);
    assert_eq!(listed(&keyring), [("key0".to_owned(), false, 1)]);
}

#[test]
fn a_key_removed_out_of_use_is_gone_at_once() {
    let folder = Folder::new();
    let (keyring, _) = with_key(&folder);
    drop(keyring.get("key0").expect("there").load().expect("read"));
    keyring.remove("key0").expect("removed");
    assert_eq!(listed(&keyring), []);
}

#[test]
fn a_full_keyring_refuses_one_more() {
    let folder = Folder::new();
    let (keyring, path) = with_key(&folder);
    for at in 1..MAX_KEYS {
        keyring.add_file(&format!("key{at}"), &path).expect("there is room");
    }
    assert_eq!(keyring.add_file("more", &path).expect_err("full").errno(), ENOSPC);
    keyring.remove("key7").expect("there");
    keyring.add_file("more", &path).expect("room again");
}

/// A key of so many bytes, which stand in no other of these.
fn marked(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8).collect()
}

/// Threads that add, use and remove the same few names, while the files behind them are replaced.
#[test]
fn threads_that_add_use_and_remove_the_same_names_see_whole_keys_and_lose_none() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 300;
    let folder = Folder::new();
    let paths = [folder.file("a", &marked(32)), folder.file("b", &marked(64))];
    let (keyring, start) = (Keyring::new(), Barrier::new(THREADS));
    let [added, removed, read] = [(); 3].map(|()| AtomicUsize::new(0));
    let round = |random: &mut fastrand::Rng| {
        let name = ["key0", "key1", "key2"][random.usize(..3)];
        match random.usize(..6) {
            0 | 1 => match keyring.add_file(name, &paths[random.usize(..2)]) {
                Ok(()) => drop(added.fetch_add(1, Ordering::Relaxed)),
                Err(error) => assert_eq!(error.errno(), EEXIST, "{error}"),
            },
            2 => match keyring.remove(name) {
                Ok(()) => drop(removed.fetch_add(1, Ordering::Relaxed)),
                Err(error) => assert_eq!(error.errno(), ENOKEY, "{error}"),
            },
            3 => drop(folder.file(["a", "b"][random.usize(..2)], &marked(random.usize(32..4096)))),
            _ => match keyring.get(name).and_then(|user: KeyRef| user.load()) {
                Ok(key) => {
                    assert_eq!(key.expose(), marked(key.expose().len()));
                    read.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => assert_eq!(error.errno(), ENOKEY, "{error}"),
            },
        }
        assert!(keyring.list().iter().filter(|info| !info.is_removed()).count() <= 3);
    };
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            let (round, start) = (&round, &start);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed as u64);
                start.wait();
                (0..ROUNDS).for_each(|_| round(&mut random));
            });
        }
    });
    let left = listed(&keyring);
    let (added, removed) = (added.into_inner(), removed.into_inner());
    assert_eq!(left.len(), added - removed, "added {added}, removed {removed}, left {left:?}");
    assert!(
        left.iter().all(|(_, is_removed, references)| (*is_removed, *references) == (false, 1)),
        "{left:?}"
    );
    assert!(added > 10 && removed > 10 && read.into_inner() > 10, "they met");
}

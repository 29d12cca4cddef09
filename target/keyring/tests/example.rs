//! The commands of the operator's page make keys that are taken.

#![allow(clippy::expect_used, missing_docs)]

use std::fs;
use std::process::{Command, Output};
use tgt_keyring::Keyring;

/// The folder that the page speaks of.
const FOLDER: &str = "/etc/rmr_tgt/keys";

/// The page's blocks of shell commands, with `folder` in the place of its own.
fn blocks(folder: &str) -> Vec<String> {
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/112-keys.md")).expect("the page");
    let blocks = page.split("```sh\n").skip(1);
    let blocks = blocks.map(|rest| rest.split_once("```").expect("an end").0.replace(FOLDER, folder));
    blocks.collect()
}

/// As a user types it, who has never thought of permissions.
fn run(commands: &str) -> Output {
    let commands = format!("umask 022\n{commands}");
    Command::new("sh").args(["-e", "-c", &commands]).output().expect("a shell")
}

#[test]
fn the_commands_of_the_page_make_and_exchange_a_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("keys").into_os_string().into_string().expect("a path");
    let blocks = blocks(&folder);
    let [make, exchange] = blocks.as_slice() else { panic!("not two blocks: {blocks:?}") };
    let made = run(make);
    assert!(made.status.success(), "{made:?}");
    let keyring = Keyring::new();
    keyring.add_file("key0", &format!("{folder}/key0")).expect("a good key");
    let user = keyring.get("key0").expect("there");
    let first = user.load().expect("read");
    assert_eq!(first.expose().len(), 32);
    let again = run(make);
    assert!(!again.status.success(), "it must not write over a key: {again:?}");
    assert_eq!(user.load().expect("read").expose(), first.expose());
    let exchanged = run(exchange);
    assert!(exchanged.status.success(), "{exchanged:?}");
    assert_ne!(user.load().expect("read").expose(), first.expose());
}

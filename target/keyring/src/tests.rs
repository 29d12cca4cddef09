//! Files, names, references, and what is never shown.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod bytes;
mod files;
mod methods;
mod names;

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use tempfile::TempDir;

/// A folder for key files.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).into_os_string().into_string().expect("a path in UTF-8")
    }

    /// A file of mode 0600 with these bytes, in place of one of that name that was there.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let beside = format!("{name}.{:?}", std::thread::current().id());
        let (path, beside) = (self.path(name), PathBuf::from(self.path(&beside)));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).expect("a file");
        file.write_all(bytes).expect("written");
        fs::rename(beside, &path).expect("renamed");
        path
    }
}

fn set_mode(path: &str, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the mode");
}

/// A key of so many bytes, no two neighbours alike.
fn key_bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + 1) as u8).collect()
}

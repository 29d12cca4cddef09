//! What a key file must be.

use super::{Folder, key_bytes, set_mode};
use crate::file::read_whole;
use crate::{KeyFault, Keyring, KeyringError, MAX_BYTES, MIN_BYTES};
use rustix::fs::{CWD, FileType, Mode, fstat, mknodat};
use rustix::process::geteuid;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::time::{Duration, SystemTime};

/// What adding it says.
fn added(path: &str) -> Result<(), KeyringError> {
    let keyring = Keyring::new();
    let result = keyring.add_file("key0", path);
    assert_eq!(keyring.list().len(), usize::from(result.is_ok()), "done or not done");
    result
}

/// The refusal of a file: its errno and its text.
fn refused(path: &str) -> (i32, String) {
    let error = added(path).expect_err(path);
    let text = error.to_string();
    assert!(text.contains(path), "{text:?} does not name {path}");
    (error.errno(), text)
}

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EINVAL: i32 = 22;

#[test]
fn any_bit_of_group_or_others_is_refused_with_the_mode_and_the_command_that_mends_it() {
    let folder = Folder::new();
    let path = folder.file("key", &key_bytes(32));
    for bit in 0..6 {
        set_mode(&path, 0o600 | 1 << bit);
        let (errno, text) = refused(&path);
        let mode = format!("mode {:04o}", 0o600 | 1 << bit);
        assert!(errno == EPERM && text.contains(&mode), "{text}");
        assert!(text.contains(&format!("`chmod 600 {path:?}`")), "{text}");
    }
    for mode in [0o600, 0o400, 0o700] {
        set_mode(&path, mode);
        assert_eq!(added(&path), Ok(()), "{mode:o}");
    }
}

#[test]
fn a_file_of_another_user_is_refused_with_both_users() {
    let folder = Folder::new();
    let path = if geteuid().is_root() {
        let path = folder.file("key", &key_bytes(32));
        chown(&path, Some(1), None).expect("root may");
        path
    } else {
        "/etc/passwd".to_owned()
    };
    let (errno, text) = refused(&path);
    let user = geteuid().as_raw();
    assert!(
        errno == EPERM && text.contains("belongs to uid") && text.contains(&format!("runs as uid {user}"))
    );
    assert!(text.contains(&format!("`chown {user} {path:?}`")), "{text}");
}

#[test]
fn a_link_is_followed_and_what_it_leads_to_is_what_counts() {
    let folder = Folder::new();
    let (path, link) = (folder.file("key", &key_bytes(32)), folder.path("link"));
    symlink(&path, &link).expect("a link");
    assert_eq!(added(&link), Ok(()));
    set_mode(&path, 0o644);
    assert_eq!(refused(&link).0, EPERM);
    fs::remove_file(&path).expect("it was there");
    assert_eq!(refused(&link).0, ENOENT);
    symlink(&link, &path).expect("a link in a circle");
    assert!(refused(&link).1.contains("cannot find"), "{}", refused(&link).1);
}

#[test]
fn what_is_no_regular_file_is_refused_by_kind_and_nothing_waits_for_it() {
    let folder = Folder::new();
    let (dir, pipe, socket) = (folder.path("dir"), folder.path("pipe"), folder.path("socket"));
    fs::create_dir(&dir).expect("a directory");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    for (path, kind) in [
        (dir.as_str(), "a directory"),
        (&pipe, "a pipe"),
        (&socket, "a socket"),
        ("/dev/zero", "a character device"),
    ] {
        let (errno, text) = refused(path);
        assert!(errno == EINVAL && text.contains(&format!("is {kind}; accepted: a regular file")), "{text}");
    }
}

#[test]
fn paths_that_lead_nowhere_are_refused() {
    let folder = Folder::new();
    assert_eq!(refused(&folder.path("missing")).0, ENOENT);
    for relative in ["key0", "./key0", "~/key0"] {
        let (errno, text) = refused(relative);
        assert!(errno == EPERM && text.contains("relative"), "{text}");
    }
    assert_eq!(added("/a\0b").expect_err("no path").errno(), EINVAL);
    let long = format!("/{}", "a".repeat(5000));
    assert_eq!(refused(&long).0, 36, "ENAMETOOLONG");
}

#[test]
fn sixteen_to_4096_bytes_are_a_key() {
    let folder = Folder::new();
    for len in [MIN_BYTES, 32, MAX_BYTES] {
        assert_eq!(added(&folder.file("key", &key_bytes(len))), Ok(()), "{len}");
    }
    for len in [0, 1, MIN_BYTES - 1] {
        let (errno, text) = refused(&folder.file("key", &key_bytes(len)));
        assert!(errno == EINVAL && text.contains(&format!("{len} bytes of key")), "{text}");
    }
    let (errno, text) = refused(&folder.file("key", &key_bytes(MAX_BYTES + 1)));
    assert!(errno == EINVAL && text.contains("4097 bytes; accepted: 16 to 4096"), "{text}");
    let path = folder.file("key", b"");
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(1 << 40))
        .expect("a huge one");
    assert!(refused(&path).1.contains("1099511627776 bytes"), "not read at all");
}

#[test]
fn a_file_of_zeros_is_refused_as_what_a_crash_leaves() {
    let folder = Folder::new();
    for byte in [0, 0xff, b'a'] {
        let path = folder.file("key", &[byte; 32]);
        let fault = KeyFault::Uniform;
        assert_eq!(added(&path), Err(KeyringError::Fault { path, fault }));
    }
}

#[test]
fn a_file_that_is_not_as_long_as_it_says_is_refused() {
    // The system tells a length of 0 of it, and lets it be read.
    let path = "/proc/self/environ";
    let (errno, text) = refused(path);
    assert!(errno == EIO && text.contains("changed while it was read"), "{text}");
}

#[test]
fn a_file_that_is_written_to_in_place_while_it_is_read_is_refused_and_one_that_is_exchanged_is_not() {
    let folder = Folder::new();
    let path = folder.file("key", &key_bytes(32));
    let file = File::options().read(true).write(true).open(&path).expect("it is there");
    let before = fstat(&file).expect("a look");
    folder.file("key", &key_bytes(48));
    let read = read_whole(&path, &file, &before).expect("the one that was opened");
    assert_eq!(*read, key_bytes(32));
    for (len, seconds) in [(32, 1), (31, 0), (33, 0)] {
        file.write_all_at(&key_bytes(len), 0).and_then(|()| file.set_len(len as u64)).expect("written");
        // Whatever the file system's clock: it was written to then.
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(before.st_mtime as u64 + seconds);
        file.set_modified(written + Duration::from_nanos(before.st_mtime_nsec as u64)).expect("its time");
        (&file).seek(SeekFrom::Start(0)).expect("a file");
        let error = read_whole(&path, &file, &before).expect_err("changed");
        assert_eq!(error, KeyringError::Changed { path: path.clone() }, "{len} bytes, {seconds} s later");
    }
}

#[test]
fn each_use_reads_the_file_as_it_is_then_and_a_key_stays_what_it_was() {
    let folder = Folder::new();
    let (first, second) = (key_bytes(32), key_bytes(48));
    let path = folder.file("key", &first);
    let keyring = Keyring::new();
    keyring.add_file("key0", &path).expect("added");
    let user = keyring.get("key0").expect("it is there");
    let old = user.load().expect("read");
    folder.file("key", &second);
    let new = user.load().expect("read again");
    assert_eq!((old.expose(), new.expose()), (&first[..], &second[..]));
    set_mode(&path, 0o640);
    assert_eq!(user.load().expect_err("readable for others by now").errno(), EPERM);
    folder.file("key", b"short");
    assert!(user.load().expect_err("no key any more").to_string().contains("5 bytes of key"));
    fs::remove_file(&path).expect("it was there");
    assert_eq!(user.load().expect_err("gone").errno(), ENOENT);
    assert_eq!(keyring.list()[0].path.as_deref(), Some(path.as_str()), "it is still listed");
    assert_eq!(old.expose(), first);
}

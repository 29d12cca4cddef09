//! On real files in a folder of their own (`/tmp`), on tmpfs (`/dev/shm`) and on loop devices where this may make them.

use crate::backing::direct_or_buffered;
use crate::{CreateError, Flavour, RescanError, UringSpec, create, delete, rescan};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use test_bdevs::world::{World, all_done, bytes, do_io, filled};
use tgt_bdev::{Bufs, Io, IoStatus, Mode, Op, Tag};

const BLOCK: u32 = 512;
const AIO: Flavour = Flavour::Aio { readonly: false, fallocate: true, nowait: false };
const READONLY: Flavour = Flavour::Aio { readonly: true, fallocate: false, nowait: false };

fn spec(path: &Path, flavour: Flavour) -> UringSpec {
    UringSpec { name: "U0".into(), filename: path.to_owned(), block_size: Some(BLOCK), uuid: None, flavour }
}

fn file(dir: &TempDir, blocks: u64) -> PathBuf {
    let path = dir.path().join("disk");
    let file = File::create(&path).expect("a file");
    file.set_len(blocks * u64::from(BLOCK)).expect("room");
    path
}

/// Folders on different file systems.
fn folders() -> Vec<TempDir> {
    let shm = tempfile::tempdir_in("/dev/shm");
    if shm.is_err() {
        println!("skipped: there is no tmpfs at /dev/shm");
    }
    [tempfile::tempdir(), shm].into_iter().flatten().collect()
}

/// A loop device on a file; gone when dropped.
struct Loop(String);

impl Loop {
    fn on(path: &Path) -> Option<Loop> {
        Loop::with(&[], path)
    }

    fn with(options: &[&str], path: &Path) -> Option<Loop> {
        let made = Command::new("losetup").args(options).args(["--find", "--show"]).arg(path).output();
        let Some(made) = made.ok().filter(|made| made.status.success()) else {
            println!(
                "skipped: no loop device can be made here (root, losetup and /dev/loop-control are needed)"
            );
            return None;
        };
        Some(Loop(String::from_utf8(made.stdout).expect("a path").trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let done = Command::new("losetup").args(["--detach", &self.0]).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking(), "{} stays", self.0);
    }
}

/// Writes, reads, zeroes, discards and flushes on `path`; `there` is the file to look into.
fn every_operation(path: &Path, there: &Path, flavour: Flavour) {
    let world = World::new(1);
    let bdev = create(&world.bdevs, spec(path, flavour)).expect("made");
    let ops = bdev.ops();
    world.with_channel("U0", move |cx, channel| {
        let fua = |mut io: Io| {
            io.fua = true;
            io
        };
        let write = do_io(cx, channel, Io::new(Op::Write, Tag(1), 8, 16, filled(16 * BLOCK, 7)));
        assert_eq!(write.status, IoStatus::SUCCESS);
        let write = do_io(cx, channel, fua(Io::new(Op::Write, Tag(1), 24, 8, filled(8 * BLOCK, 8))));
        assert_eq!(write.status, IoStatus::SUCCESS);
        assert_eq!(
            do_io(cx, channel, Io::new(Op::Flush, Tag(2), 0, 0, Bufs::none())).status,
            IoStatus::SUCCESS
        );
        let zeroes = fua(Io::new(Op::WriteZeroes, Tag(3), 10, 2, Bufs::none()));
        assert_eq!(do_io(cx, channel, zeroes).status, IoStatus::SUCCESS);
        if ops.contains(Op::Unmap) {
            let unmap = do_io(cx, channel, Io::new(Op::Unmap, Tag(4), 16, 8, Bufs::none()));
            assert_eq!(unmap.status, IoStatus::SUCCESS);
        }
        // Memory that no direct IO can use: a bounce.
        let odd = [100, 24 * BLOCK - 100].map(|len| filled(len, 1));
        let odd = cx.lender().gather(odd);
        let read = do_io(cx, channel, Io::new(Op::Read, Tag(5), 8, 24, odd));
        assert_eq!(read.status, IoStatus::SUCCESS);
        let block = |at: usize| bytes(&read.bufs)[at * BLOCK as usize];
        let unmapped = if ops.contains(Op::Unmap) { 0 } else { 7 };
        assert_eq!(
            [0, 1, 2, 3, 4, 7, 8, 15, 16, 23].map(block),
            [7, 7, 0, 0, 7, 7, unmapped, unmapped, 8, 8]
        );
        let last = do_io(cx, channel, Io::new(Op::Write, Tag(6), 127, 1, filled(BLOCK, 6)));
        assert_eq!(last.status, IoStatus::SUCCESS);
        assert_eq!(
            do_io(cx, channel, Io::new(Op::Flush, Tag(2), 0, 0, Bufs::none())).status,
            IoStatus::SUCCESS
        );
    });
    let mut last = [0];
    File::open(there).expect("the file").read_exact_at(&mut last, 127 * u64::from(BLOCK)).expect("its bytes");
    assert_eq!(last, [6]);
    delete(&world.bdevs, bdev).expect("deleted");
}

#[test]
fn every_operation_does_what_it_says_on_files_of_every_file_system_here() {
    for dir in folders() {
        let path = file(&dir, 128);
        for flavour in
            [Flavour::Uring, AIO, Flavour::Aio { readonly: false, fallocate: false, nowait: false }]
        {
            every_operation(&path, &path, flavour);
        }
    }
}

#[test]
fn every_operation_does_what_it_says_on_a_block_device() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = file(&dir, 128);
    let Some(device) = Loop::on(&path) else { return };
    for flavour in [Flavour::Uring, AIO, Flavour::Aio { readonly: false, fallocate: false, nowait: true }] {
        every_operation(Path::new(&device.0), &path, flavour);
    }
}

#[test]
fn a_read_of_what_was_cut_off_fails_and_a_write_puts_it_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = file(&dir, 128);
    let world = World::new(1);
    create(&world.bdevs, spec(&path, Flavour::Uring)).expect("made");
    let cut = OpenOptions::new().write(true).open(&path).expect("the file");
    cut.set_len(20 * u64::from(BLOCK) + 100).expect("cut");
    world.with_channel("U0", |cx, channel| {
        let mut read = |lba, blocks| {
            do_io(cx, channel, Io::new(Op::Read, Tag(1), lba, blocks, filled(blocks * BLOCK, 1))).status
        };
        assert_eq!(read(0, 20), IoStatus::SUCCESS);
        for (lba, blocks) in [(0, 32), (18, 8), (20, 1), (21, 1), (100, 8)] {
            assert_eq!(read(lba, blocks), IoStatus::UNRECOVERED_READ_ERROR, "{blocks} blocks at {lba}");
        }
        let write = do_io(cx, channel, Io::new(Op::Write, Tag(1), 120, 8, filled(8 * BLOCK, 4)));
        assert_eq!(write.status, IoStatus::SUCCESS);
        let read = do_io(cx, channel, Io::new(Op::Read, Tag(1), 120, 8, filled(8 * BLOCK, 1)));
        assert_eq!(bytes(&read.bufs), vec![4; 8 * BLOCK as usize]);
    });
}

#[test]
fn more_io_than_there_are_slots_all_ends() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = file(&dir, 4096);
    let world = World::new(1);
    create(&world.bdevs, spec(&path, Flavour::Uring)).expect("made");
    world.with_channel("U0", |cx, channel| {
        for tag in 0..1500 {
            channel
                .submit(cx, Io::new(Op::Write, Tag(tag), tag, 1, filled(BLOCK, tag as u8)))
                .expect("room to wait");
        }
        let ended = all_done(cx, channel, 1500);
        assert!(ended.iter().zip(0..).all(|(ended, tag)| *ended == (tag, IoStatus::SUCCESS)), "{ended:?}");
        for lba in [0, 700, 1499] {
            let read = do_io(cx, channel, Io::new(Op::Read, Tag(1), lba, 1, filled(BLOCK, 1)));
            assert_eq!(bytes(&read.bufs), vec![lba as u8; BLOCK as usize]);
        }
    });
}

#[test]
fn a_reset_ends_after_everything_before_it_and_an_abort_that_is_too_late_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = file(&dir, 4096);
    let world = World::new(1);
    create(&world.bdevs, spec(&path, Flavour::Uring)).expect("made");
    world.with_channel("U0", |cx, channel| {
        let end = |cx: &mut _, channel: &mut _| {
            do_io(cx, channel, Io::new(Op::Reset, Tag(1), 0, 0, Bufs::none())).status
        };
        assert_eq!(end(cx, channel), IoStatus::SUCCESS);
        for tag in 10..20 {
            channel.submit(cx, Io::new(Op::Write, Tag(tag), tag, 1, filled(BLOCK, 1))).expect("room");
        }
        channel.submit(cx, Io::new(Op::Reset, Tag(20), 0, 0, Bufs::none())).expect("room");
        channel.submit(cx, Io::new(Op::Read, Tag(21), 10, 1, filled(BLOCK, 0))).expect("room");
        assert!(all_done(cx, channel, 12).iter().all(|(_, status)| status.is_ok()));
        channel.submit_abort(cx, Tag(30), Tag(10)).expect("room");
        assert_eq!(all_done(cx, channel, 1), [(30, IoStatus::INVALID_FIELD)]);
        channel.submit(cx, Io::new(Op::Write, Tag(40), 0, 1, filled(BLOCK, 1))).expect("room");
        channel.submit_abort(cx, Tag(41), Tag(40)).expect("room");
        let ended = all_done(cx, channel, 2);
        let stopped = [(40, IoStatus::ABORTED), (41, IoStatus::SUCCESS)];
        let too_late = [(40, IoStatus::SUCCESS), (41, IoStatus::INVALID_FIELD)];
        assert!(ended == stopped || ended == too_late, "{ended:?}");
    });
}

fn refused(path: &Path, flavour: Flavour) -> CreateError {
    let world = World::new(1);
    let error = create(&world.bdevs, spec(path, flavour)).expect_err("refused");
    assert!(world.bdevs.all().is_empty());
    error
}

#[test]
fn what_cannot_be_a_disk_is_refused_in_clear_words() {
    let dir = tempfile::tempdir().expect("a folder");
    let of = |name: &str, bytes: u64| {
        let path = dir.path().join(name);
        File::create(&path).and_then(|file| file.set_len(bytes)).expect("a file");
        path
    };
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    for (path, flavour, words) in [
        (dir.path().join("none"), Flavour::Uring, ["none", "No such file"]),
        (
            dir.path().to_owned(),
            Flavour::Uring,
            ["a directory", "accepted: a regular file or a block device"],
        ),
        (PathBuf::from("/dev/null"), Flavour::Uring, ["/dev/null", "a character device"]),
        (pipe, Flavour::Uring, ["a pipe", "accepted"]),
        (of("empty", 0), Flavour::Uring, ["0 bytes", "not 0"]),
        (of("odd", 1000), AIO, ["1000 bytes", "multiple of its block size 512"]),
        (
            of("nowait", 512),
            Flavour::Aio { readonly: false, fallocate: false, nowait: true },
            ["nowait", "block devices only"],
        ),
    ] {
        let error = refused(&path, flavour).to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    let path = of("sizes", 65536);
    for size in [1, 256, 1000, 131_072] {
        let world = World::new(1);
        let error = create(&world.bdevs, UringSpec { block_size: Some(size), ..spec(&path, AIO) });
        let error = error.expect_err("refused").to_string();
        assert!(error.contains(&format!("block_size {size}")) && error.contains("power of two"), "{error}");
    }
}

#[test]
fn a_file_has_one_bdev_and_one_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = file(&dir, 128);
    let link = dir.path().join("link");
    fs::hard_link(&path, &link).expect("a link");
    let world = World::new(1);
    let bdev = create(&world.bdevs, spec(&path, Flavour::Uring)).expect("made");
    for again in [&path, &link] {
        let error = create(&world.bdevs, UringSpec { name: "U1".into(), ..spec(again, READONLY) });
        assert!(matches!(error, Err(CreateError::AlreadyOpen { bdev, .. }) if bdev == "U0"));
    }
    world.with_channel("U0", |cx, channel| {
        do_io(cx, channel, Io::new(Op::Flush, Tag(1), 0, 0, Bufs::none()));
    });
    delete(&world.bdevs, bdev).expect("deleted");
    // Free at once: nobody has to ask twice.
    let again = create(&world.bdevs, spec(&link, Flavour::Uring)).expect("the file is free");
    delete(&world.bdevs, again).expect("deleted");
    // `flock` holds the lock as long as its child lives: until its input is closed.
    let mut other = Command::new("flock");
    other.arg(&path).args(["sh", "-c", "echo locked; read never"]);
    let Ok(mut other) = other.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        println!("skipped: there is no flock command");
        return;
    };
    let mut said = String::new();
    let out = other.stdout.take().expect("a pipe");
    io::BufRead::read_line(&mut io::BufReader::new(out), &mut said).expect("a line");
    let error = refused(&path, Flavour::Uring).to_string();
    drop(other.stdin.take());
    other.wait().expect("it ends");
    assert!(error.contains("is in use: process") && error.contains("has locked it"), "{error}");
    assert!(create(&world.bdevs, spec(&path, Flavour::Uring)).is_ok(), "it is free again");
}

#[test]
fn a_device_and_a_file_that_others_use_are_refused_with_their_users() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = file(&dir, 16384);
    let Some(device) = Loop::on(&path) else { return };
    let error = refused(&path, Flavour::Uring).to_string();
    let name = device.0.trim_start_matches("/dev/");
    assert!(error.contains(&format!("the loop device {name} stands on it")), "{error}");
    let place = dir.path().join("mounted");
    fs::create_dir(&place).expect("a folder");
    let made = Command::new("mkfs.ext4").arg("-q").arg(&device.0).status();
    let mounted = Command::new("mount").arg(&device.0).arg(&place).status();
    if !made.is_ok_and(|done| done.success()) || !mounted.is_ok_and(|done| done.success()) {
        println!("skipped: no ext4 can be made and mounted here");
        return;
    }
    let error = refused(Path::new(&device.0), Flavour::Uring).to_string();
    assert!(Command::new("umount").arg(&place).status().expect("umount").success());
    assert!(error.contains(&format!("is in use: mounted at {}", place.display())), "{error}");
    let world = World::new(1);
    create(&world.bdevs, spec(Path::new(&device.0), Flavour::Uring)).expect("it is free now");
    let mounted = Command::new("mount").arg(&device.0).arg(&place).output().expect("mount");
    assert!(!mounted.status.success(), "nobody mounts a device that is a bdev");
}

#[test]
fn a_read_only_file_needs_readonly_and_takes_no_writes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = file(&dir, 16384);
    let Some(device) = Loop::with(&["--read-only"], &path) else { return };
    let error = refused(Path::new(&device.0), Flavour::Uring);
    assert!(error.to_string().contains("readonly=true"), "{error}");
    let world = World::new(1);
    let bdev = create(&world.bdevs, spec(Path::new(&device.0), READONLY)).expect("made");
    assert!(!bdev.ops().contains(Op::Write) && !bdev.ops().contains(Op::WriteZeroes));
    let desc = world.bdevs.open("U0", "test", Mode::Read).expect("opens");
    let statuses = world.reactors()[0].call(move |reactor| {
        let mut channel = desc.open_channel(reactor.cx()).expect("opens");
        let write = Io::new(Op::Write, Tag(1), 0, 1, filled(BLOCK, 1));
        let write = do_io(reactor.cx(), &mut channel, write).status;
        (write, do_io(reactor.cx(), &mut channel, Io::new(Op::Read, Tag(1), 0, 1, filled(BLOCK, 1))).status)
    });
    assert_eq!(statuses.expect("an answer"), (IoStatus::INVALID_OPCODE, IoStatus::SUCCESS));
}

#[test]
fn growth_is_taken_over_and_shrinking_only_while_nobody_looks() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = file(&dir, 128);
    let world = World::new(1);
    let bdev = create(&world.bdevs, spec(&path, Flavour::Uring)).expect("made");
    let handle = OpenOptions::new().write(true).open(&path).expect("the file");
    let resize = |bytes: u64| handle.set_len(bytes).expect("resized");
    resize(200 * u64::from(BLOCK) + 17);
    rescan(&bdev).expect("larger");
    assert_eq!(bdev.num_blocks(), 200);
    let opened = world.bdevs.open("U0", "test", Mode::Read).expect("opens");
    resize(100 * u64::from(BLOCK));
    assert!(matches!(rescan(&bdev), Err(RescanError::Shrunk { now: 100, then: 200, .. })));
    assert_eq!(bdev.num_blocks(), 200);
    drop(opened);
    rescan(&bdev).expect("smaller");
    assert_eq!(bdev.num_blocks(), 100);
    resize(100);
    assert!(matches!(rescan(&bdev), Err(RescanError::Empty { bytes: 100, .. })));
    assert_eq!(bdev.num_blocks(), 100);
}

#[test]
fn a_file_system_without_direct_io_is_used_through_the_page_cache() {
    let only_buffered = |direct| if direct { Err(io::Error::from_raw_os_error(22)) } else { Ok(7) };
    assert!(matches!(direct_or_buffered(only_buffered), Ok((7, false))));
    assert!(matches!(direct_or_buffered(|_| Ok(7)), Ok((7, true))));
    let missing = |_| Err::<i32, _>(io::Error::from_raw_os_error(2));
    assert_eq!(direct_or_buffered(missing).expect_err("missing").raw_os_error(), Some(2));
}

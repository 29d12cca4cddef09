//! A target in a process of its own, which may be killed: this test binary, started again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bdev_uring::{Flavour, UringSpec};
use test_bdevs::world::World;
use tgt_vhost::{BlkSpec, Controllers};

/// Tells the process that it is the target, and where its files are.
const KEY: &str = "RMR_VHOST_TEST_TARGET";
/// Bytes of the disk.
pub(crate) const DISK_BYTES: u64 = 32 << 20;

/// A target with a disk that outlives it. Dropping this kills it.
pub(crate) struct Target {
    child: Option<Child>,
    dir: PathBuf,
}

impl Target {
    /// Starts one on `dir`, where the disk is made if there is none yet.
    pub(crate) fn start(dir: &Path) -> Target {
        let mut target = Target { child: None, dir: dir.to_owned() };
        let disk = std::fs::File::options().create(true).truncate(false).write(true).open(dir.join("disk"));
        disk.and_then(|file| file.set_len(DISK_BYTES)).expect("a disk");
        target.start_again();
        target
    }

    /// Where front ends connect.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("c")
    }

    /// Starts it after it was killed.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "process::the_target", "--nocapture"]).env(KEY, &self.dir);
        // Its end of the pipe tells it that we have gone.
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        self.child = Some(command.spawn().expect("this binary runs"));
    }

    /// Makes the disk larger.
    #[allow(dead_code, reason = "not every test that starts a target does")]
    pub(crate) fn grow(&mut self, bytes: u64) {
        let disk = std::fs::File::options().write(true).open(self.dir.join("disk"));
        disk.and_then(|file| file.set_len(bytes)).expect("a disk");
        let pipe = self.child.as_mut().and_then(|child| child.stdin.as_mut()).expect("it runs");
        std::io::Write::write_all(pipe, b"!").expect("it reads");
    }

    /// Ends it at once, whatever it does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our child");
            child.wait().expect("our child");
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The target's side; nothing to test without a [`Target`] that starts it.
#[test]
fn the_target() {
    let Some(dir) = std::env::var_os(KEY).map(PathBuf::from) else { return };
    let world = World::new(2);
    let spec = UringSpec {
        name: "D".to_owned(),
        filename: dir.join("disk"),
        block_size: Some(512),
        uuid: None,
        flavour: Flavour::Uring,
    };
    let bdev = bdev_uring::create(&world.bdevs, spec).expect("a bdev");
    let reactors = std::sync::Arc::new(world.reactors().to_vec());
    let controllers = Controllers::new(&world.bdevs, &reactors, dir);
    let spec =
        BlkSpec { name: "c".to_owned(), bdev: "D".to_owned(), packed_ring: true, ..BlkSpec::default() };
    controllers.create(&spec).expect("a controller");
    // Each byte says that the disk has grown; the end is that of whoever started us.
    let mut byte = [0];
    while std::io::Read::read(&mut std::io::stdin(), &mut byte).expect("a pipe") > 0 {
        bdev_uring::rescan(&bdev).expect("it only grows");
    }
}

//! A front end of our own against controllers on real reactors: unix sockets, memory in files, malloc bdevs.

mod hostile;
mod io;
mod memory;
mod mutated;
mod protocol;
mod rust_vmm;

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use test_bdevs::world::{World, disk};
use test_vhost::front::Setup;

use crate::{BlkSpec, Controllers};

const KIB: u32 = 1024;
/// Sectors of the disks here, which are their blocks.
const SECTORS: u64 = 16 << 10;
/// Statuses of requests.
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// Reactors, a bdev `D`, and controllers. What is stopped first comes first.
struct Rig {
    world: World,
    controllers: Arc<Controllers>,
    dir: TempDir,
}

impl Rig {
    /// With `reactors` reactors, and a controller `c` on `D`.
    fn new(reactors: u32) -> Rig {
        let rig = Rig::bare(reactors);
        disk(&rig.world.bdevs, "D", SECTORS);
        rig.create("c", "D", |spec| spec);
        rig
    }

    fn bare(reactors: u32) -> Rig {
        let world = World::new(reactors);
        let dir = tempfile::tempdir().expect("a directory");
        let handles = Arc::new(world.reactors().to_vec());
        let controllers = Controllers::new(&world.bdevs, &handles, dir.path().to_owned());
        Rig { world, controllers, dir }
    }

    fn create(&self, name: &str, bdev: &str, change: impl FnOnce(BlkSpec) -> BlkSpec) {
        let spec =
            BlkSpec { name: name.to_owned(), bdev: bdev.to_owned(), packed_ring: true, ..BlkSpec::default() };
        self.controllers.create(&change(spec)).expect("a controller");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Split and packed rings, with event indices and without.
fn each_kind(test: impl Fn(Setup)) {
    for packed in [false, true] {
        for event_idx in [false, true] {
            test(Setup { packed, event_idx, ..Setup::default() });
        }
    }
}

/// Bytes that tell sector and version.
fn pattern(sector: u64, version: u8, bytes: u32) -> Vec<u8> {
    (0..bytes).map(|at| (sector as u8) ^ (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ version).collect()
}

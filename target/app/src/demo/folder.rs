//! What a demo has on disk: a temporary folder, or one of the user's that is kept.
//!
//! | file | what |
//! |---|---|
//! | demo.json | pool, bytes of the device, and whether the device was made: then nothing here is begun anew |
//! | demo.lock | held by the keeper |
//! | nodeN.disk | the disk of a storage node, sparse; none with --ram |
//! | load.state | what checked load knows of what it wrote; made by the first load |
//! | nodeN.json, compute.json | the configuration that the node was started with last |
//! | nodeN.log, compute.log, nodeN.sock | of the processes |

use super::args::DemoArgs;
use super::error::DemoError;
use super::{NODES, Name};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use uuid::Uuid;

const MIB: u64 = 1 << 20;
/// Of the device, unless it is said.
const SIZE_MIB: u64 = 128;
/// The block size of disks.
const BLOCK: u64 = 4096;
const PLAN: &str = "demo.json";
const LOCK: &str = "demo.lock";

const FILE_NODE_NEW: &str = include_str!("../../../../config/demo/file-node-new.json");
const FILE_NODE: &str = include_str!("../../../../config/demo/file-node.json");
const RAM_NODE: &str = include_str!("../../../../config/demo/ram-node.json");
const COMPUTE: &str = include_str!("../../../../config/demo/compute.json");

/// What a second run has to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    pool: Uuid,
    /// Bytes of the device.
    size: u64,
    /// Set, durably, before anybody is told of the device.
    made: bool,
}

/// The folder of one keeper.
pub(super) struct Folder {
    path: PathBuf,
    plan: Plan,
    ram: bool,
    /// Removes it.
    temporary: Option<TempDir>,
    _lock: File,
}

impl Folder {
    /// The folder that the arguments ask for. Nothing that a demo made is changed yet.
    pub(super) fn open(args: &DemoArgs) -> Result<Folder, DemoError> {
        let (path, temporary) = match &args.dir {
            Some(dir) => (kept(dir)?, None),
            None => {
                let made = tempfile::Builder::new().prefix("rmr-demo-").tempdir();
                let made = made.map_err(DemoError::file(&std::env::temp_dir()))?;
                (made.path().to_owned(), Some(made))
            }
        };
        let lock = lock(&path)?;
        let plan = match read(&path)? {
            Some(plan) => plan,
            None if is_empty(&path)? => {
                Plan { pool: Uuid::new_v4(), size: args.size.unwrap_or(SIZE_MIB) * MIB, made: false }
            }
            None => return Err(DemoError::Foreign(path)),
        };
        if let Some(asked) = args.size.filter(|asked| asked * MIB != plan.size) {
            return Err(DemoError::Size { asked, kept: plan.size / MIB, folder: path });
        }
        Ok(Folder { path, plan, ram: args.ram, temporary, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn pool(&self) -> Uuid {
        self.plan.pool
    }

    /// Was the device made before?
    pub(super) fn is_made(&self) -> bool {
        self.plan.made
    }

    pub(super) fn has_disks(&self) -> bool {
        !self.ram
    }

    /// Does it stay?
    pub(super) fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// Of the process `name`, the file with this ending.
    pub(super) fn file(&self, name: Name, ending: &str) -> PathBuf {
        self.path.join(format!("{}.{ending}", name.file()))
    }

    /// Where checked load keeps what it knows.
    pub(super) fn load_state(&self) -> PathBuf {
        self.path.join("load.state")
    }

    /// Empty disks for a device that is to be made, or a look whether those of one that was made are there.
    pub(super) fn prepare_disks(&self) -> Result<(), DemoError> {
        if !self.plan.made {
            self.write_plan(&self.plan)?;
        }
        for member in 0..NODES as u8 {
            let disk = self.file(Name::Node(member), "disk");
            match (self.ram, self.plan.made) {
                (true, _) => {}
                (_, true) if !disk.is_file() => return Err(DemoError::NoDisk(disk)),
                (_, true) => {}
                (_, false) => {
                    let made = File::create(&disk).and_then(|file| file.set_len(self.disk_bytes()));
                    made.map_err(DemoError::file(&disk))?;
                }
            }
        }
        Ok(())
    }

    /// The device is made: from now on the disks are not emptied any more.
    pub(super) fn set_made(&mut self) -> Result<(), DemoError> {
        let plan = Plan { made: true, ..self.plan.clone() };
        self.write_plan(&plan)?;
        self.plan = plan;
        Ok(())
    }

    /// Writes the configuration of a process, and returns where.
    pub(super) fn configure(&self, name: Name, ports: &[u16; NODES]) -> Result<PathBuf, DemoError> {
        let template = match name {
            Name::Compute => COMPUTE,
            Name::Node(_) if self.ram => RAM_NODE,
            Name::Node(_) if self.plan.made => FILE_NODE,
            Name::Node(_) => FILE_NODE_NEW,
        };
        let mut text = template.to_owned();
        let mut fill = |field: &str, value: String| text = text.replace(&format!("${{{field}}}"), &value);
        fill("POOL", self.plan.pool.to_string());
        fill("SIZE", self.plan.size.to_string());
        fill("DISK_BLOCKS", (self.disk_bytes() / BLOCK).to_string());
        for (member, port) in ports.iter().enumerate() {
            fill(&format!("PORT{member}"), port.to_string());
        }
        if let Name::Node(member) = name {
            fill("MEMBER", member.to_string());
            fill("PORT", ports[name.index()].to_string());
            fill("DISK", quoted(&self.file(name, "disk")));
        }
        let path = self.file(name, "json");
        fs::write(&path, text).map_err(DemoError::file(&path))?;
        Ok(path)
    }

    /// Room for the device and for what a store keeps beside it.
    fn disk_bytes(&self) -> u64 {
        (self.plan.size + self.plan.size / 64 + 32 * MIB).next_multiple_of(MIB)
    }

    /// Whole or not at all, and durable.
    fn write_plan(&self, plan: &Plan) -> Result<(), DemoError> {
        let (path, new) = (self.path.join(PLAN), self.path.join(format!("{PLAN}.new")));
        let text = serde_json::to_string_pretty(plan).expect("a plan is plain data");
        let mut file = File::create(&new).map_err(DemoError::file(&new))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(DemoError::file(&new))?;
        fs::rename(&new, &path).map_err(DemoError::file(&path))?;
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(DemoError::file(&self.path))
    }

    /// Removes it if it is temporary. An error: what is left.
    pub(super) fn close(mut self) -> Result<(), DemoError> {
        let path = self.path.clone();
        self.temporary.take().map_or(Ok(()), TempDir::close).map_err(DemoError::file(&path))
    }
}

/// As a JSON string without its quotes, which the template has.
fn quoted(path: &Path) -> String {
    let text = serde_json::Value::from(path.display().to_string()).to_string();
    text[1..text.len() - 1].to_owned()
}

/// A folder of the user's, made if it is not there.
fn kept(dir: &Path) -> Result<PathBuf, DemoError> {
    fs::create_dir_all(dir).map_err(DemoError::file(dir))?;
    dir.canonicalize().map_err(DemoError::file(dir))
}

fn lock(folder: &Path) -> Result<File, DemoError> {
    // Somebody else's folder gets no file of ours, not even this one.
    if !folder.join(PLAN).exists() && !is_empty(folder)? {
        return Err(DemoError::Foreign(folder.to_owned()));
    }
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(DemoError::file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DemoError::Taken(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(DemoError::File { path, source }),
    }
}

/// Is there nothing in it that a demo would not have left before it had a plan?
fn is_empty(folder: &Path) -> Result<bool, DemoError> {
    for entry in fs::read_dir(folder).map_err(DemoError::file(folder))? {
        let name = entry.map_err(DemoError::file(folder))?.file_name();
        if name != LOCK && name.to_str() != Some(&format!("{PLAN}.new")) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read(folder: &Path) -> Result<Option<Plan>, DemoError> {
    let path = folder.join(PLAN);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DemoError::File { path, source }),
    };
    let plan = serde_json::from_str(&text);
    plan.map(Some).map_err(|why| DemoError::Plan { path, why: format!("not the plan of a demo: {why}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;

    fn args(dir: Option<&Path>) -> DemoArgs {
        DemoArgs { dir: dir.map(Path::to_owned), ..DemoArgs::default() }
    }

    fn opened(dir: &Path) -> Folder {
        Folder::open(&args(Some(dir))).unwrap_or_else(|why| panic!("{why}"))
    }

    #[test]
    fn a_folder_is_begun_anew_until_its_device_is_made_and_never_after() {
        let dir = tempdir().expect("a folder");
        let disk = dir.path().join("node1.disk");
        let first = opened(dir.path());
        first.prepare_disks().expect("disks");
        let pool = first.pool();
        fs::write(&disk, "half made").expect("a write");
        drop(first);
        let mut second = opened(dir.path());
        assert_eq!((second.pool(), second.is_made()), (pool, false));
        second.prepare_disks().expect("disks");
        assert_eq!(fs::read(&disk).expect("a disk")[..9], [0; 9], "begun anew");
        second.set_made().expect("a plan");
        fs::write(&disk, "data").expect("a write");
        drop(second);
        let third = opened(dir.path());
        third.prepare_disks().expect("disks");
        assert_eq!((third.pool(), third.is_made()), (pool, true));
        assert_eq!(fs::read(&disk).expect("a disk"), b"data");
        fs::remove_file(&disk).expect("it was there");
        assert!(
            matches!(third.prepare_disks(), Err(DemoError::NoDisk(path)) if path.ends_with("node1.disk"))
        );
        third.close().expect("nothing to remove");
        assert!(dir.path().join("node0.disk").is_file(), "it is kept");
    }

    #[test]
    fn a_folder_of_somebody_elses_or_in_use_or_of_another_size_is_refused() {
        let dir = tempdir().expect("a folder");
        fs::write(dir.path().join("thesis"), "years").expect("a write");
        assert!(matches!(Folder::open(&args(Some(dir.path()))), Err(DemoError::Foreign(_))));
        assert_eq!(fs::read_dir(dir.path()).expect("it").count(), 1, "nothing was added");
        let dir = tempdir().expect("a folder");
        let mut first = opened(dir.path());
        assert!(matches!(Folder::open(&args(Some(dir.path()))), Err(DemoError::Taken(_))));
        first.prepare_disks().and_then(|()| first.set_made()).expect("a plan");
        drop(first);
        let other = DemoArgs { size: Some(64), ..args(Some(dir.path())) };
        assert!(matches!(Folder::open(&other), Err(DemoError::Size { asked: 64, kept: 128, .. })));
        fs::write(dir.path().join(PLAN), "{}").expect("a write");
        assert!(matches!(Folder::open(&args(Some(dir.path()))), Err(DemoError::Plan { .. })));
    }

    #[test]
    fn configurations_are_filled_in_and_a_temporary_folder_goes() {
        for (ram, calls) in [
            (false, ["bdev_uring_create", "brmr_create_store"]),
            (true, ["bdev_malloc_create", "brmr_create_store"]),
        ] {
            let mut folder = Folder::open(&DemoArgs { ram, ..args(None) }).expect("a folder");
            let place = folder.path().to_owned();
            let text = |folder: &Folder, name| {
                let path = folder.configure(name, &[1001, 1002, 1003]).expect("a file");
                let config = tgt_config::load(&path).unwrap_or_else(|why| panic!("{why}"));
                let methods: Vec<String> =
                    config.subsystems.iter().flat_map(|s| &s.calls).map(|call| call.method.clone()).collect();
                (fs::read_to_string(&path).expect("text"), methods)
            };
            let (node, methods) = text(&folder, Name::Node(1));
            assert!(calls.iter().all(|call| methods.iter().any(|method| method == call)), "{methods:?}");
            assert!(node.contains("\"1002\"") && node.contains("\"member_id\": 1"), "{node}");
            let (compute, methods) = text(&folder, Name::Compute);
            assert_eq!(methods, ["bdev_brmr_create"]);
            assert!(compute.contains("127.0.0.1:1003") && compute.contains(&folder.pool().to_string()));
            folder.prepare_disks().and_then(|()| folder.set_made()).expect("a plan");
            let (again, methods) = text(&folder, Name::Node(2));
            assert_eq!(methods.contains(&"brmr_add_store".to_owned()), !ram, "{methods:?}");
            for text in [node, compute, again] {
                let code: String = text.lines().filter(|line| !line.starts_with("//")).collect();
                assert!(!code.contains("${"), "{text}");
            }
            folder.close().expect("it can be removed");
            assert!(!place.exists());
        }
    }
}

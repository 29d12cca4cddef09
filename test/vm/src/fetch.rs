//! Makes the bed from Debian's packages. Nothing is installed: they are downloaded by `apt-get`, which checks their
//! signatures, and unpacked in the bed's folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::bed::{Bed, RECIPE};
use crate::tools::{on_path, run};

/// Oldest kernel that will do: ublk, nvme-loop, NVMe authentication and TLS came with it.
const OLDEST: (u32, u32) = (6, 12);
/// Packages that depend on the newest image of a line of kernels, the best first.
const METAPACKAGES: &[&str] = &["linux-image-6.12-amd64", "linux-image-amd64"];
/// Bounds in seconds: a package of 107 MB on a slow line; anything else.
const DOWNLOAD: u32 = 600;
const WORK: u32 = 300;
/// Modules handed to one run of `unxz`.
const BATCH: usize = 200;

/// What is kept of the kernel's modules, by folder; single files in `drivers/net` and `fs` are kept as well.
const MODULES: &[&str] = &[
    "arch",
    "block",
    "crypto",
    "lib",
    "mm",
    "drivers/base",
    "drivers/block",
    "drivers/char",
    "drivers/dax",
    "drivers/dma",
    "drivers/infiniband/core",
    "drivers/infiniband/sw",
    "drivers/infiniband/ulp",
    "drivers/iommu",
    "drivers/md",
    "drivers/net/bonding",
    "drivers/nvdimm",
    "drivers/nvme",
    "drivers/pci",
    "drivers/scsi",
    "drivers/target",
    "drivers/uio",
    "drivers/vdpa",
    "drivers/vfio",
    "drivers/vhost",
    "drivers/virt",
    "drivers/virtio",
    "fs/9p",
    "fs/btrfs",
    "fs/configfs",
    "fs/ext4",
    "fs/fuse",
    "fs/jbd2",
    "fs/netfs",
    "fs/nls",
    "fs/overlayfs",
    "fs/xfs",
    "net/802",
    "net/8021q",
    "net/9p",
    "net/bridge",
    "net/core",
    "net/dns_resolver",
    "net/ipv4",
    "net/ipv6",
    "net/llc",
    "net/netfilter",
    "net/packet",
    "net/sched",
    "net/tls",
    "net/unix",
    "net/vmw_vsock",
    "net/xfrm",
    "virt",
];
const MODULE_FILES_IN: &[&str] = &["drivers/net", "fs"];

/// Makes the bed in [`Bed::folder`] unless it is there. [`Error::Missing`] where that cannot be done: no Debian, no
/// network, no such kernel. A bed is complete or absent, whenever this is cut short.
pub fn fetch() -> Result<Bed, Error> {
    let folder = Bed::folder();
    match Bed::open(&folder) {
        Err(error) if error.is_missing() => {}
        found => return found,
    }
    possible()?;
    let parent = folder.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(Error::file(parent))?;
    let new = tempfile::Builder::new().prefix("new-bed-").tempdir_in(parent).map_err(Error::file(parent))?;
    make(new.path())?;
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Error::file(&folder))?;
    }
    fs::rename(new.keep(), &folder).map_err(Error::file(&folder))?;
    Bed::open(&folder)
}

/// Whether this is a machine for it.
fn possible() -> Result<(), Error> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Error::missing("the guest is an x86-64 machine, this one is not", "use one that is"));
    }
    match ["apt-get", "apt-cache", "dpkg-deb", "timeout"].into_iter().find(|tool| on_path(tool).is_none()) {
        Some(tool) => {
            Err(Error::missing(format!("no {tool} on PATH"), "guests are made from Debian's packages"))
        }
        None => Ok(()),
    }
}

fn make(bed: &Path) -> Result<(), Error> {
    let kernel = kernel_package()?;
    let debs = bed.join("debs");
    let unpacked = bed.join("unpacked");
    let packages = unpack(&debs, &[kernel, "busybox-static".to_owned()], &unpacked)?;
    move_to(&merged(&unpacked, "bin/busybox"), &bed.join("busybox"))?;
    let image = only_entry(&unpacked.join("boot"), "vmlinuz-")?;
    move_to(&image, &bed.join("boot/vmlinuz"))?;
    move_to(&merged(&unpacked, "lib/modules"), &bed.join("lib/modules"))?;
    prepare_modules(bed)?;
    let mut made_of = packages;
    if on_path("qemu-system-x86_64").is_none() {
        made_of.extend(unpack(&debs, &qemu_packages()?, &bed.join("qemu"))?);
    }
    for scrap in [&debs, &unpacked] {
        fs::remove_dir_all(scrap).map_err(Error::file(scrap))?;
    }
    let stamp = bed.join("bed.txt");
    fs::write(&stamp, format!("{RECIPE}\n{}\n", made_of.join("\n"))).map_err(Error::file(&stamp))
}

/// The newest image that apt knows, after a look at the archive's lists if the ones here are too old.
fn kernel_package() -> Result<String, Error> {
    if let Some(name) = known_kernel() {
        return Ok(name);
    }
    if rustix::process::geteuid().is_root() {
        run(WORK, Path::new("/"), "apt-get", ["-q", "update"]).map_err(no_network)?;
    }
    let what = format!("apt knows no kernel {}.{} or newer", OLDEST.0, OLDEST.1);
    known_kernel().ok_or_else(|| Error::missing(what, "on Debian 12 or newer, run `apt-get update` as root"))
}

fn known_kernel() -> Option<String> {
    METAPACKAGES.iter().find_map(|meta| {
        // An unknown package fails: then the next one.
        let text = run(WORK, Path::new("/"), "apt-cache", ["depends", "--important", meta]).ok()?;
        text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).find_map(new_enough)
    })
}

/// `name` if it is an image of a kernel that will do.
fn new_enough(name: &str) -> Option<String> {
    let version = name.strip_prefix("linux-image-")?;
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    let found = (numbers.next()??, numbers.next()??);
    (found >= OLDEST).then(|| name.to_owned())
}

/// QEMU and what it needs beyond what is installed here.
fn qemu_packages() -> Result<Vec<String>, Error> {
    let args = ["-s", "install", "--no-install-recommends", "qemu-system-x86"];
    let plan = run(WORK, Path::new("/"), "apt-get", args).map_err(no_network)?;
    let names = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    Ok(names.map(str::to_owned).collect())
}

/// Downloads `packages` into `debs` and unpacks them into `root`. Returns their files' names.
fn unpack(debs: &Path, packages: &[String], root: &Path) -> Result<Vec<String>, Error> {
    for dir in [debs, root] {
        fs::create_dir_all(dir).map_err(Error::file(dir))?;
    }
    let before = names_in(debs)?;
    run(DOWNLOAD, debs, "apt-get", ["-q", "download"].into_iter().chain(packages.iter().map(String::as_str)))
        .map_err(no_network)?;
    let mut new = names_in(debs)?;
    new.retain(|name| !before.contains(name));
    for deb in &new {
        run(WORK, debs, "dpkg-deb", [OsStr::new("-x"), OsStr::new(deb), root.as_os_str()])?;
    }
    Ok(new)
}

fn no_network(error: Error) -> Error {
    Error::missing(format!("the packages cannot be had: {error}"), "try again with a network")
}

/// Removes what no test wants, uncompresses the rest (older kmods read no compressed modules) and lists what depends on
/// what.
fn prepare_modules(bed: &Path) -> Result<(), Error> {
    let modules = bed.join("lib/modules");
    let release = only_entry(&modules, "")?;
    let (mut kept, mut queue) = (Vec::new(), vec![release.join("kernel")]);
    let top = queue[0].clone();
    while let Some(dir) = queue.pop() {
        for entry in fs::read_dir(&dir).map_err(Error::file(&dir))? {
            let path = entry.map_err(Error::file(&dir))?.path();
            let inside = path.strip_prefix(&top).unwrap_or(&path);
            if path.is_dir() {
                queue.push(path);
            } else if is_kept(inside) {
                kept.push(path);
            } else {
                fs::remove_file(&path).map_err(Error::file(&path))?;
            }
        }
    }
    let busybox = bed.join("busybox");
    let packed: Vec<&PathBuf> =
        kept.iter().filter(|path| path.extension().is_some_and(|e| e == "xz")).collect();
    for batch in packed.chunks(BATCH) {
        let args = std::iter::once(OsStr::new("unxz")).chain(batch.iter().map(|path| path.as_os_str()));
        run(WORK, bed, &busybox, args)?;
    }
    let name = release.file_name().unwrap_or_default();
    run(WORK, bed, &busybox, [OsStr::new("depmod"), OsStr::new("-b"), bed.as_os_str(), name])?;
    Ok(())
}

/// Whether a module is kept; `inside` is its path below `kernel`.
fn is_kept(inside: &Path) -> bool {
    let single = inside.parent().is_some_and(|dir| MODULE_FILES_IN.iter().any(|kept| dir == Path::new(kept)));
    single || MODULES.iter().any(|kept| inside.starts_with(kept))
}

fn names_in(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(dir).map_err(Error::file(dir))?;
    entries
        .map(|entry| Ok(entry.map_err(Error::file(dir))?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// The one entry of `dir` that begins with `start`.
fn only_entry(dir: &Path, start: &str) -> Result<PathBuf, Error> {
    let names = names_in(dir)?;
    match names.iter().find(|name| name.starts_with(start)) {
        Some(name) => Ok(dir.join(name)),
        None => {
            Err(Error::missing(format!("nothing in {} begins with `{start}`", dir.display()), "report it"))
        }
    }
}

/// `path` below `root`, or below its `usr`, where newer packages have it.
fn merged(root: &Path, path: &str) -> PathBuf {
    let newer = root.join("usr").join(path);
    if newer.exists() { newer } else { root.join(path) }
}

fn move_to(from: &Path, to: &Path) -> Result<(), Error> {
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(Error::file(parent))?;
    fs::rename(from, to).map_err(Error::file(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_new_kernels_are_taken_and_others_are_not() {
        for good in
            ["linux-image-6.12.117+deb12-amd64", "linux-image-6.100.1-amd64", "linux-image-7.0.1-1-amd64"]
        {
            assert_eq!(new_enough(good).as_deref(), Some(good));
        }
        for bad in ["linux-image-6.1.0-56-amd64", "linux-image-amd64", "linux-headers-6.12.1-amd64", ""] {
            assert_eq!(new_enough(bad), None, "{bad}");
        }
    }

    #[test]
    fn modules_are_kept_by_folder_and_not_by_the_beginning_of_a_name() {
        for kept in ["drivers/md/dm-flakey.ko.xz", "fs/mbcache.ko.xz", "drivers/net/virtio_net.ko.xz"] {
            assert!(is_kept(Path::new(kept)), "{kept}");
        }
        for gone in ["drivers/mdio/x.ko.xz", "fs/ocfs2/ocfs2.ko.xz", "sound/core/snd.ko.xz"] {
            assert!(!is_kept(Path::new(gone)), "{gone}");
        }
    }
}

//! What the machine offers: hugepages, lock limit, nodes, physical addresses. Read from /proc and /sys.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::config::{Numa, PageKind};

/// Hugepages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hugepages {
    pub(super) total: u64,
    /// Free and promised to nobody.
    pub(super) free: u64,
}

impl Hugepages {
    /// Reads the kernel's counters; a size the kernel does not know has none.
    pub(super) fn read(kind: PageKind) -> Self {
        let counter = |name| hugepage_counter(kind, name).unwrap_or(0);
        Self {
            total: counter("nr_hugepages"),
            free: counter("free_hugepages").saturating_sub(counter("resv_hugepages")),
        }
    }

    /// Bytes the kernel can give now, with pages it may still make (overcommit); `None` where it does not tell.
    pub(super) fn available_bytes(kind: PageKind) -> Option<u64> {
        let counter = |name| hugepage_counter(kind, name);
        let free = counter("free_hugepages")?.saturating_sub(counter("resv_hugepages")?);
        let more = counter("nr_overcommit_hugepages")?.saturating_sub(counter("surplus_hugepages")?);
        Some((free + more).saturating_mul(kind.bytes()))
    }
}

fn hugepage_counter(kind: PageKind, name: &str) -> Option<u64> {
    let size = match kind {
        PageKind::Ordinary => return None,
        PageKind::Huge2M => "2048kB",
        PageKind::Huge1G => "1048576kB",
    };
    let folder = Path::new("/sys/kernel/mm/hugepages").join(format!("hugepages-{size}"));
    fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
}

/// The command that would make `pages` hugepages of `kind` exist.
pub(super) fn hugepage_remedy(kind: PageKind, pages: u64) -> String {
    match kind {
        PageKind::Huge1G => format!(
            "try `echo {pages} > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages`, or boot with `hugepagesz=1G hugepages={pages}`"
        ),
        _ => format!("try `echo {pages} > /proc/sys/vm/nr_hugepages`"),
    }
}

/// Bytes this process may lock; `None`: no limit (none set, or CAP_IPC_LOCK).
pub(crate) fn lock_limit() -> Option<u64> {
    if has_ipc_lock() { None } else { getrlimit(Resource::Memlock).current }
}

fn has_ipc_lock() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let Ok(status) = fs::read_to_string("/proc/self/status") else {
        return false;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok())
        .is_some_and(|caps| caps >> CAP_IPC_LOCK & 1 == 1)
}

/// Numbers of the NUMA nodes that have memory, ascending; `[0]` where NUMA is absent or ignored.
pub(super) fn nodes(numa: Numa) -> Vec<u32> {
    let listed = match numa {
        Numa::Ignore => None,
        Numa::Local => fs::read_to_string("/sys/devices/system/node/has_memory").ok(),
    };
    let nodes: Vec<u32> = listed.as_deref().and_then(crate::cores::parse_kernel_list).unwrap_or_default();
    // Nodes are numbered by a byte in the granule records; no Linux machine comes near that.
    if nodes.is_empty() || nodes.len() > usize::from(u8::MAX) { vec![0] } else { nodes }
}

/// /proc/self/pagemap, where this process may see physical addresses in it (CAP_SYS_ADMIN).
#[derive(Debug)]
pub(super) struct PageMap {
    file: Option<File>,
    page_bytes: u64,
}

impl PageMap {
    pub(super) fn open() -> Self {
        Self { file: File::open("/proc/self/pagemap").ok(), page_bytes: rustix::param::page_size() as u64 }
    }

    /// Physical address of a present page; `None` where the kernel does not tell.
    pub(super) fn phys(&self, address: *const u8) -> Option<u64> {
        const PRESENT: u64 = 1 << 63;
        const FRAME: u64 = (1 << 55) - 1;
        let mut entry = [0; 8];
        let offset = address.addr() as u64 / self.page_bytes * 8;
        self.file.as_ref()?.read_exact_at(&mut entry, offset).ok()?;
        let entry = u64::from_ne_bytes(entry);
        // Without the capability the kernel shows frame 0.
        let frame = entry & FRAME;
        (entry & PRESENT != 0 && frame != 0).then(|| frame * self.page_bytes)
    }
}

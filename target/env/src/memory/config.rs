//! What the operator may choose about DMA memory, and the kinds of page it can stand on.

use std::fmt;

/// Size of a granule, the unit in which memory is mapped and given back: one 2 MiB hugepage.
pub const GRANULE_BYTES: usize = 1 << GRANULE_SHIFT;
pub(super) const GRANULE_SHIFT: u32 = 21;

/// Which pages DMA memory is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PageSize {
    /// 2 MiB hugepages while there are any, ordinary pages after that: never fails for want of hugepages.
    #[default]
    Auto,
    /// 2 MiB hugepages or an error: for operators who prefer a refusal to slower memory.
    Huge2M,
    /// 1 GiB hugepages or an error. Memory is taken from the kernel a whole 1 GiB page at a time.
    Huge1G,
    /// Ordinary pages only, even where there are hugepages.
    Ordinary,
}

/// How NUMA nodes are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numa {
    /// Memory is taken from the node on which the asking thread runs.
    #[default]
    Local,
    /// The kernel chooses; everything is accounted to one node.
    Ignore,
}

/// Whether the memory of IO buffers is registered with the io_urings that read and write files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registration {
    /// Wherever the kernel takes it.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// The choices made once, before the first allocation. See [`super::Memory::init`].
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryConfig {
    /// Pages to use.
    pub page_size: PageSize,
    /// Upper bound, in bytes, of what is mapped at any time; `None`: what the machine has.
    pub limit_bytes: Option<u64>,
    /// NUMA policy.
    pub numa: Numa,
    /// Registered buffers.
    pub registration: Registration,
}

impl MemoryConfig {
    /// What a process gets that never chose: ordinary pages, no limit (unit tests, small tools).
    #[must_use]
    pub fn ordinary() -> Self {
        Self { page_size: PageSize::Ordinary, ..Self::default() }
    }
}

/// The kind of page a piece of memory stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PageKind {
    /// Pages of the machine's base size (4 KiB on x86-64).
    Ordinary = 0,
    /// 2 MiB hugepages.
    Huge2M = 1,
    /// 1 GiB hugepages.
    Huge1G = 2,
}

impl PageKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Ordinary, Self::Huge2M, Self::Huge1G];

    /// Granules the kernel gives and takes back at once.
    pub(super) fn unit(self) -> u32 {
        match self {
            Self::Ordinary | Self::Huge2M => 1,
            Self::Huge1G => 512,
        }
    }

    /// Bytes the kernel gives and takes back at once.
    pub(super) fn bytes(self) -> u64 {
        u64::from(self.unit()) << GRANULE_SHIFT
    }

    pub(super) fn is_huge(self) -> bool {
        self != Self::Ordinary
    }

    pub(super) fn from_number(number: u8) -> Self {
        Self::ALL[usize::from(number)]
    }
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ordinary => "ordinary pages",
            Self::Huge2M => "2 MiB hugepages",
            Self::Huge1G => "1 GiB hugepages",
        })
    }
}

impl PageSize {
    /// The kinds to try, best first.
    pub(super) fn candidates(self) -> &'static [PageKind] {
        match self {
            Self::Auto => &[PageKind::Huge2M, PageKind::Ordinary],
            Self::Huge2M => &[PageKind::Huge2M],
            Self::Huge1G => &[PageKind::Huge1G],
            Self::Ordinary => &[PageKind::Ordinary],
        }
    }
}

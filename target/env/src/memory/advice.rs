//! One line for the operator: what was found, what is lost, how to get it.

use super::config::{PageKind, PageSize};
use super::machine::{self, Hugepages};

const MIB: u64 = 1 << 20;
/// Pages suggested on top of those there are: 1 GiB of 2 MiB pages.
const SUGGESTED_PAGES: u64 = 512;

/// Pages that could not be had when they were wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortfall {
    kind: PageKind,
    asked_bytes: u64,
    /// As counted just after the refusal.
    pages: Hugepages,
}

impl Shortfall {
    pub(super) fn of(kind: PageKind, asked_bytes: u64) -> Self {
        Self { kind, asked_bytes, pages: Hugepages::read(kind) }
    }

    pub(super) fn pages(&self) -> Hugepages {
        self.pages
    }

    /// What to type.
    pub(super) fn remedy(&self) -> String {
        if self.is_withheld() {
            return "raise the limit of the container or cgroup (hugetlb.*.max; hugepages-* in Kubernetes)"
                .to_owned();
        }
        let more = match self.kind {
            PageKind::Huge1G => self.missing(),
            _ => self.missing().max(SUGGESTED_PAGES),
        };
        machine::hugepage_remedy(self.kind, self.pages.total + more)
    }

    /// Enough pages are free and the kernel still said no: a limit of the container or cgroup.
    fn is_withheld(&self) -> bool {
        self.missing() == 0
    }

    fn missing(&self) -> u64 {
        self.asked_bytes.div_ceil(self.kind.bytes()).saturating_sub(self.pages.free)
    }
}

/// All the line depends on.
#[derive(Debug, Clone)]
pub(super) struct Findings {
    pub(super) page_size: PageSize,
    pub(super) huge_2m: Hugepages,
    /// Bytes mapped as hugepages.
    pub(super) huge_mapped: u64,
    /// `None`: no limit.
    pub(super) lock_limit: Option<u64>,
    pub(super) shortfall: Option<Shortfall>,
}

/// The line, or nothing when nothing is lost.
pub(super) fn line(findings: &Findings) -> Option<String> {
    let locking = findings.lock_limit.map(lock_clause);
    match findings.page_size {
        PageSize::Huge2M | PageSize::Huge1G => None,
        PageSize::Ordinary => {
            locking.map(|clause| format!("DMA memory is on ordinary pages as configured; {clause}"))
        }
        PageSize::Auto => {
            let (found, remedy) = shortage(findings)?;
            let unlocked = locking.map_or(String::new(), |clause| format!("; {clause}"));
            Some(format!(
                "{found} on ordinary pages, which costs speed (more TLB misses) and direct access by NVMe devices{unlocked}; for hugepages {remedy}"
            ))
        }
    }
}

/// What was found and what it concerns, and what to type.
fn shortage(findings: &Findings) -> Option<(String, String)> {
    let Hugepages { total, free } = findings.huge_2m;
    let in_use = findings.huge_mapped / MIB;
    if free == 0 && in_use == 0 {
        let found = format!("no 2 MiB hugepage is free (0 of {total}): DMA memory is");
        return Some((found, machine::hugepage_remedy(PageKind::Huge2M, total + SUGGESTED_PAGES)));
    }
    findings.shortfall.as_ref().map(|short| shortage_midway(short, in_use))
}

fn shortage_midway(short: &Shortfall, in_use: u64) -> (String, String) {
    let Hugepages { total, free } = short.pages;
    let asked = short.asked_bytes / MIB;
    let found = if short.is_withheld() {
        format!("{asked} MiB of hugepages were refused although {free} of {total} pages are free")
    } else {
        format!(
            "{asked} MiB of hugepages were wanted with {free} of {total} pages free and {in_use} MiB in use here"
        )
    };
    (format!("{found}: that memory is"), short.remedy())
}

fn lock_clause(limit: u64) -> String {
    let amount =
        if limit.is_multiple_of(MIB) { format!("{} MiB", limit / MIB) } else { format!("{limit} bytes") };
    format!(
        "RLIMIT_MEMLOCK lets {amount} of it be locked, the rest cannot be registered with io_uring or RDMA (raise it with `ulimit -l unlimited` or LimitMEMLOCK=infinity)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(page_size: PageSize) -> Findings {
        Findings {
            page_size,
            huge_2m: Hugepages { total: 0, free: 0 },
            huge_mapped: 0,
            lock_limit: Some(8 * MIB),
            shortfall: None,
        }
    }

    #[test]
    fn without_hugepages_one_line_names_what_is_found_lost_and_typed() {
        let line = line(&findings(PageSize::Auto)).expect("something is lost");
        for part in ["(0 of 0)", "TLB", "8 MiB", "echo 512 > /proc/sys/vm/nr_hugepages", "ulimit -l"] {
            assert!(line.contains(part), "{part:?} in {line:?}");
        }
        assert!(!line.contains('\n'));
    }

    #[test]
    fn with_hugepages_free_or_demanded_there_is_nothing_to_say() {
        let plenty = Findings { huge_2m: Hugepages { total: 64, free: 64 }, ..findings(PageSize::Auto) };
        assert_eq!(line(&plenty), None);
        let all_ours = Findings {
            huge_2m: Hugepages { total: 64, free: 0 },
            huge_mapped: 128 * MIB,
            ..findings(PageSize::Auto)
        };
        assert_eq!(line(&all_ours), None);
        assert_eq!(line(&findings(PageSize::Huge2M)), None);
    }

    #[test]
    fn ordinary_pages_by_choice_are_only_remarked_on_where_locking_is_limited() {
        let limited = line(&findings(PageSize::Ordinary)).expect("the lock limit");
        assert!(limited.contains("8 MiB") && !limited.contains("nr_hugepages"), "{limited}");
        assert_eq!(line(&Findings { lock_limit: None, ..findings(PageSize::Ordinary) }), None);
    }

    #[test]
    fn a_shortage_midway_asks_for_what_is_there_plus_what_was_missing() {
        let short =
            |kind, free| Shortfall { kind, asked_bytes: 4096 * MIB, pages: Hugepages { total: 3000, free } };
        let line_for = |free| {
            line(&Findings {
                huge_mapped: 128 * MIB,
                lock_limit: None,
                shortfall: Some(short(PageKind::Huge2M, free)),
                ..findings(PageSize::Auto)
            })
        };
        let out = line_for(10).expect("short");
        assert!(out.contains("10 of 3000 pages") && out.contains("echo 5038 >"), "{out}");
        let withheld = line_for(2500).expect("withheld");
        assert!(withheld.contains("cgroup") && !withheld.contains("echo"), "{withheld}");
        let large = short(PageKind::Huge1G, 1).remedy();
        assert!(large.contains("echo 3003 >") && large.contains("1048576kB"), "{large}");
    }
}

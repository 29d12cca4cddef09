//! Cores: masks as SPDK and DPDK write them, which cores may be used, their NUMA nodes, pinning.

mod error;
mod lcores;
mod mask;

use std::fs;
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

pub use error::CoresError;
pub use lcores::{LcoreBinding, parse_lcores};
pub use mask::CpuMask;

/// Cores are numbered below this, as in the kernel's own CPU sets of that size.
pub const MAX_CORES: u32 = CpuSet::MAX_CPU as u32;

/// Cores this process may use: its affinity at the first call, which must come before threads are pinned.
///
/// # Errors
/// [`CoresError::Affinity`].
pub fn usable_cores() -> Result<CpuMask, CoresError> {
    static USABLE: OnceLock<CpuMask> = OnceLock::new();
    if let Some(mask) = USABLE.get() {
        return Ok(*mask);
    }
    let set = sched_getaffinity(None).map_err(|source| CoresError::Affinity { source: source.into() })?;
    let mask = (0..MAX_CORES).filter(|&core| set.is_set(core as usize)).collect();
    Ok(*USABLE.get_or_init(|| mask))
}

/// Checks that every core of `mask` exists and may be used by this process, and that there is one.
///
/// # Errors
/// [`CoresError::NoCore`], [`CoresError::Absent`], [`CoresError::Forbidden`].
pub fn check_usable(mask: &CpuMask) -> Result<(), CoresError> {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").ok();
    // A machine that does not list its cores is left to the affinity check.
    let online = online.as_deref().and_then(parse_kernel_list).map(CpuMask::from_iter);
    check_against(mask, online.as_ref(), &usable_cores()?)
}

fn check_against(mask: &CpuMask, online: Option<&CpuMask>, usable: &CpuMask) -> Result<(), CoresError> {
    if mask.is_empty() {
        return Err(CoresError::NoCore { usable: Box::new(*usable) });
    }
    if let Some(online) = online {
        let absent = mask.without(online);
        if !absent.is_empty() {
            return Err(CoresError::Absent {
                asked: Box::new(*mask),
                absent: Box::new(absent),
                online: Box::new(*online),
            });
        }
    }
    let forbidden = mask.without(usable);
    if !forbidden.is_empty() {
        return Err(CoresError::Forbidden {
            asked: Box::new(*mask),
            forbidden: Box::new(forbidden),
            usable: Box::new(*usable),
        });
    }
    Ok(())
}

/// Binds the calling thread to one core.
///
/// # Errors
/// [`CoresError::Pin`].
pub fn pin_current_thread(core: u32) -> Result<(), CoresError> {
    if core >= MAX_CORES {
        return Err(CoresError::TooLarge { text: core.to_string(), core: u64::from(core) });
    }
    let mut set = CpuSet::new();
    set.set(core as usize);
    sched_setaffinity(None, &set).map_err(|source| CoresError::Pin { core, source: source.into() })
}

/// NUMA node of a core; `None` if the core does not exist or the machine does not say. Read once per process.
#[must_use]
pub fn numa_node_of(core: u32) -> Option<u32> {
    static NODES: OnceLock<Vec<Option<u32>>> = OnceLock::new();
    let nodes = NODES.get_or_init(|| (0..MAX_CORES).map(read_node).collect());
    nodes.get(core as usize).copied().flatten()
}

fn read_node(core: u32) -> Option<u32> {
    let entries = fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    entries.flatten().find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

/// Numbers of a kernel list such as `0-3,8`; `None` if it is not one.
pub(crate) fn parse_kernel_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= 1 << 16 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::alone;

    fn mask(text: &str) -> CpuMask {
        text.parse().expect("a mask")
    }

    #[test]
    fn cores_that_are_absent_or_forbidden_are_named_with_those_that_may_be_used() {
        let (online, usable) = (mask("[0-3]"), mask("[2-3]"));
        let check = |asked: &str| check_against(&mask(asked), Some(&online), &usable);
        check("[2,3]").expect("both may be used");
        let absent = check("[3,4-5]").expect_err("4 and 5 do not exist").to_string();
        assert!(absent.contains("[4-5]") && absent.contains("[0-3]") && absent.contains("0x38"), "{absent}");
        let forbidden = check("0xf").expect_err("0 and 1 are forbidden").to_string();
        assert!(forbidden.contains("[0-1]") && forbidden.contains("[2-3]"), "{forbidden}");
        let none = check("0x0").expect_err("no core").to_string();
        assert!(none.contains("[2-3]"), "{none}");
    }

    #[test]
    fn the_cores_of_this_process_may_be_used_and_a_missing_one_not() {
        let usable = usable_cores().expect("affinity");
        check_usable(&usable).expect("our own");
        let missing = CpuMask::from_iter([MAX_CORES - 1]);
        assert!(check_usable(&missing).is_err());
    }

    #[test]
    fn a_pinned_thread_runs_where_it_was_told_and_does_not_change_what_is_usable() {
        alone(
            module_path!(),
            "a_pinned_thread_runs_where_it_was_told_and_does_not_change_what_is_usable",
            || {
                let usable = usable_cores().expect("affinity");
                for core in usable.iter() {
                    pin_current_thread(core).expect("our own core");
                    assert_eq!(rustix::thread::sched_getcpu(), core as usize);
                    assert_eq!(usable_cores().expect("affinity"), usable);
                }
                let error = pin_current_thread(MAX_CORES - 1).expect_err("no such core").to_string();
                assert!(error.contains(&(MAX_CORES - 1).to_string()), "{error}");
                assert!(pin_current_thread(MAX_CORES).is_err());
            },
        );
    }

    #[test]
    fn a_core_has_a_node_where_the_machine_has_nodes() {
        let first = usable_cores().expect("affinity").iter().next().expect("a core");
        match fs::read_to_string("/sys/devices/system/node/online") {
            Ok(list) => assert!(
                parse_kernel_list(&list).expect("a list").contains(&numa_node_of(first).expect("a node"))
            ),
            Err(_) => assert_eq!(numa_node_of(first), None),
        }
        assert_eq!(numa_node_of(u32::MAX), None);
    }

    #[test]
    fn kernel_lists_are_read_and_others_refused() {
        assert_eq!(parse_kernel_list("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_kernel_list("\n"), Some(vec![]));
        for text in ["a", "3-1", "0-99999999", "-1"] {
            assert_eq!(parse_kernel_list(text), None, "{text}");
        }
    }
}

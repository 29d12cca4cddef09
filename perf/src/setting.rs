//! What makes figures comparable.

use crate::args::BdevArgs;
use serde::Serialize;
use tgt_env::clock;
use tgt_env::memory::{MemoryStats, PageKind, memory};
use tgt_reactor::{Handle, SleepPolicy};

/// Where and how a run took place. The JSON form is documented in docs/rmr-perf.md.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Setting {
    /// "release" or "debug": figures of the latter mean nothing.
    pub(crate) build: &'static str,
    /// The processor's name, where the kernel tells.
    pub(crate) processor: Option<String>,
    /// Cores, one reactor each.
    pub(crate) cores: Vec<u32>,
    /// Whether every core loaded every bdev.
    pub(crate) every_core: bool,
    /// Ticks per second of the counter that latencies are read from; not the clock of the cores.
    pub(crate) tick_rate_hz: u64,
    /// "adaptive" or "poll".
    pub(crate) sleep_policy: &'static str,
    /// Idle time before a reactor sleeps; none if it never does.
    pub(crate) spin_us: Option<u64>,
    /// DMA memory on hugepages when the run ended.
    pub(crate) hugepage_bytes: u64,
    /// DMA memory on ordinary pages when the run ended.
    pub(crate) ordinary_page_bytes: u64,
    /// Size of the pages most of it stands on.
    pub(crate) page_bytes: u64,
}

impl Setting {
    /// The setting of this process as it is now.
    pub(crate) fn now(args: &BdevArgs, reactors: &[Handle]) -> Setting {
        let stats = memory().stats();
        let spin = match args.sleep() {
            SleepPolicy::After(idle) => Some(idle.as_micros() as u64),
            SleepPolicy::Never => None,
        };
        Setting {
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            processor: processor_here(),
            cores: reactors.iter().map(Handle::core).collect(),
            every_core: args.every_core,
            tick_rate_hz: clock::tick_rate(),
            sleep_policy: if spin.is_some() { "adaptive" } else { "poll" },
            spin_us: spin,
            hugepage_bytes: stats.hugepage_bytes(),
            ordinary_page_bytes: stats.mapped_bytes() - stats.hugepage_bytes(),
            page_bytes: page_bytes(&stats),
        }
    }
}

/// Size of the pages that most memory stands on.
fn page_bytes(stats: &MemoryStats) -> u64 {
    let mapped =
        |kind| stats.pages.iter().filter(|page| page.kind == kind).map(|page| page.mapped).sum::<u64>();
    match PageKind::ALL.into_iter().max_by_key(|kind| mapped(*kind)) {
        Some(PageKind::Huge1G) => 1 << 30,
        Some(PageKind::Huge2M) => 2 << 20,
        _ => 4096,
    }
}

/// The processor's name, where the kernel tells.
pub(crate) fn processor_here() -> Option<String> {
    processor(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

/// Name of the first processor in the text of `/proc/cpuinfo`; other architectures do not give one.
fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::processor;

    #[test]
    fn the_processor_is_named_where_the_kernel_tells() {
        let text = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9B45\n\nprocessor\t: 1\n";
        assert_eq!(processor(text).as_deref(), Some("AMD EPYC 9B45"));
        assert_eq!(processor("processor : 0\nBogoMIPS : 50.00\n"), None);
    }
}

//! DMA memory and its buffers.

use crate::families::{
    BUFFERS, BUFFERS_CACHED, BUFFERS_IN_USE, MEMORY_BDEVS, MEMORY_BUFFERS, MEMORY_LIMIT, MEMORY_LOCKED,
    MEMORY_LOST, MEMORY_MAPPED,
};
use crate::text::{Samples, Text};
use tgt_env::memory::{ClassStats, PageKind, PageStats, memory};

pub(crate) fn write(text: &mut Text) {
    let stats = memory().stats();
    text.family(MEMORY_MAPPED, |s| pages(s, &stats.pages, |page| page.mapped));
    text.family(MEMORY_BUFFERS, |s| pages(s, &stats.pages, |page| page.buffers));
    text.family(MEMORY_BDEVS, |s| pages(s, &stats.pages, |page| page.regions));
    text.family(MEMORY_LOCKED, |s| pages(s, &stats.pages, |page| page.locked));
    text.family(MEMORY_LIMIT, |s| stats.limit_bytes.into_iter().for_each(|bytes| s.add(&[], bytes)));
    text.family(MEMORY_LOST, |s| s.add(&[], stats.lost_bytes));
    text.family(BUFFERS, |s| buffers(s, &stats.classes, |class| class.total));
    text.family(BUFFERS_IN_USE, |s| buffers(s, &stats.classes, |class| class.in_use));
    text.family(BUFFERS_CACHED, |s| buffers(s, &stats.classes, |class| class.cached));
}

fn pages(samples: &mut Samples<'_>, pages: &[PageStats], value: impl Fn(&PageStats) -> u64) {
    for page in pages {
        let (numa, kind) = (page.node.to_string(), page.kind.to_string());
        let huge = if page.kind == PageKind::Ordinary { "false" } else { "true" };
        samples.add(&[("numa", &numa), ("pages", &kind), ("huge", huge)], value(page));
    }
}

fn buffers(samples: &mut Samples<'_>, classes: &[ClassStats], value: impl Fn(&ClassStats) -> u64) {
    for class in classes {
        samples.add(&[("size", &class.bytes.to_string())], value(class));
    }
}

//! rmr_get_memory.

use rpc_registry::{Method, Phase, Registry};
use serde::Serialize;
use serde_json::json;
use tgt_env::memory::{ClassStats, PageStats, memory};

/// DMA memory of the process, bytes.
#[derive(Serialize)]
struct MemoryInfo {
    mapped_bytes: u64,
    hugepage_bytes: u64,
    limit_bytes: Option<u64>,
    lost_bytes: u64,
    pages: Vec<PageInfo>,
    buffers: Vec<BufferInfo>,
    /// What is lost on this machine, and how to get it; null when nothing is.
    advice: Option<String>,
}

#[derive(Serialize)]
struct PageInfo {
    numa_id: u32,
    kind: String,
    mapped_bytes: u64,
    buffer_bytes: u64,
    bdev_bytes: u64,
    locked_bytes: u64,
}

#[derive(Serialize)]
struct BufferInfo {
    bytes: u32,
    total: u64,
    in_use: u64,
    cached: u64,
}

pub(super) fn register(registry: &mut Registry) {
    registry.add_no_params(
        Method::new("rmr_get_memory", "Show the memory used for buffers and memory disks, and what would improve it")
            .phase(Phase::Any)
            .result_example(json!({"mapped_bytes": 12_582_912, "hugepage_bytes": 12_582_912, "limit_bytes": null,
                "lost_bytes": 0, "pages": [{"numa_id": 0, "kind": "2 MiB hugepages", "mapped_bytes": 12_582_912,
                "buffer_bytes": 2_097_152, "bdev_bytes": 10_485_760, "locked_bytes": 12_582_912}],
                "buffers": [{"bytes": 4096, "total": 512, "in_use": 128, "cached": 384}], "advice": null})),
        || Ok(memory_info()),
    );
}

fn memory_info() -> MemoryInfo {
    let stats = memory().stats();
    MemoryInfo {
        mapped_bytes: stats.mapped_bytes(),
        hugepage_bytes: stats.hugepage_bytes(),
        limit_bytes: stats.limit_bytes,
        lost_bytes: stats.lost_bytes,
        pages: stats.pages.iter().map(page_info).collect(),
        buffers: stats.classes.iter().map(buffer_info).collect(),
        advice: memory().advice(),
    }
}

fn page_info(page: &PageStats) -> PageInfo {
    PageInfo {
        numa_id: page.node,
        kind: page.kind.to_string(),
        mapped_bytes: page.mapped,
        buffer_bytes: page.buffers,
        bdev_bytes: page.regions,
        locked_bytes: page.locked,
    }
}

fn buffer_info(class: &ClassStats) -> BufferInfo {
    let ClassStats { bytes, total, in_use, cached } = *class;
    BufferInfo { bytes, total, in_use, cached }
}

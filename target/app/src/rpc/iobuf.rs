//! iobuf_set_options, iobuf_get_stats.
//!
//! SPDK's buffer pools have a fixed size, and its IO waits when they are empty. Here buffers come from DMA memory,
//! which grows; the options are kept and saved. The statistics have SPDK's members with another meaning: SPDK counts
//! requests, which would cost every IO; here they count buffers.

use rpc_registry::{ConfigEntry, Method, Phase, Registry, RpcError, Subsystem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tgt_env::memory::{ClassStats, memory};

/// The pools' options, with SPDK's names and defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Options {
    small_pool_count: u64,
    large_pool_count: u64,
    small_bufsize: u32,
    large_bufsize: u32,
    enable_numa: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            small_pool_count: 8192,
            large_pool_count: 1024,
            small_bufsize: 8192,
            large_bufsize: 135_168,
            enable_numa: false,
        }
    }
}

/// Parameters of `iobuf_set_options`, with SPDK's least values.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetOptions {
    /// Small buffers; kept and saved, no effect: memory grows as it is needed
    #[schemars(range(min = 64))]
    small_pool_count: Option<u64>,
    /// Large buffers; kept and saved, no effect: memory grows as it is needed
    #[schemars(range(min = 8))]
    large_pool_count: Option<u64>,
    /// Bytes of a small buffer; what iobuf_get_stats counts as small
    #[schemars(range(min = 4096))]
    small_bufsize: Option<u32>,
    /// Bytes of a large buffer; kept and saved, no effect: buffers are up to 2 MiB
    #[schemars(range(min = 8192))]
    large_bufsize: Option<u32>,
    /// A pool per NUMA node; kept and saved, no effect: memory is always taken from the asker's node
    enable_numa: Option<bool>,
}

#[derive(Serialize)]
struct ModuleStats {
    module: &'static str,
    small_pool: PoolStats,
    large_pool: PoolStats,
}

#[derive(Default, Serialize)]
struct PoolStats {
    cache: u64,
    main: u64,
    retry: u64,
    cache_size: u64,
}

type Shared = Arc<Mutex<Options>>;

/// Adds the methods. The subsystem is given back, to be added in its place.
pub(super) fn register(registry: &mut Registry) -> Subsystem {
    let options = Shared::default();
    let of = options.clone();
    registry.add(
        Method::new(
            "iobuf_set_options",
            "Set options of the buffer pools; kept and saved: memory here grows on demand",
        )
        .spdk(true)
        .phase(Phase::Startup)
        .example(json!({"small_pool_count": 8192, "large_pool_count": 1024}))
        .result_example(json!(true)),
        move |params: SetOptions| {
            let mut options = of.lock().expect("no thread panics while it holds this lock");
            *options = changed(&options, &params)?;
            Ok(true)
        },
    );
    let of = options.clone();
    registry.add_no_params(
        Method::new(
            "iobuf_get_stats",
            "Show the buffers (cache: kept free by threads, main: in use, cache_size: all, retry: nobody waits, so 0)",
        )
        .spdk(true)
        .result_example(json!([{"module": "dma",
            "small_pool": {"cache": 384, "main": 128, "retry": 0, "cache_size": 512},
            "large_pool": {"cache": 0, "main": 0, "retry": 0, "cache_size": 0}}])),
        move || {
            let small_bufsize = of.lock().expect("no thread panics while it holds this lock").small_bufsize;
            Ok([module_stats(small_bufsize, &memory().stats().classes)])
        },
    );
    let saved = move || {
        let options = options.lock().expect("no thread panics while it holds this lock");
        vec![ConfigEntry::new("iobuf_set_options", json!(*options))]
    };
    Subsystem::new("iobuf").config(saved)
}

fn changed(old: &Options, params: &SetOptions) -> Result<Options, RpcError> {
    let new = Options {
        small_pool_count: params.small_pool_count.unwrap_or(old.small_pool_count),
        large_pool_count: params.large_pool_count.unwrap_or(old.large_pool_count),
        small_bufsize: params.small_bufsize.unwrap_or(old.small_bufsize),
        large_bufsize: params.large_bufsize.unwrap_or(old.large_bufsize),
        enable_numa: params.enable_numa.unwrap_or(old.enable_numa),
    };
    if new.small_bufsize < new.large_bufsize {
        return Ok(new);
    }
    let (small, large) = (new.small_bufsize, new.large_bufsize);
    let text = format!("small_bufsize {small} is not below large_bufsize {large}");
    let accepted = format!("integer 4096..{}", large - 1);
    Err(RpcError::invalid_params(text).parameter("small_bufsize", small, accepted))
}

/// Buffer sizes up to `small_bufsize` are the small pool, the others the large one.
fn module_stats(small_bufsize: u32, classes: &[ClassStats]) -> ModuleStats {
    let sum = |small: bool| {
        let chosen = classes.iter().filter(|class| (class.bytes <= small_bufsize) == small);
        chosen.fold(PoolStats::default(), |sum, class| PoolStats {
            cache: sum.cache + class.cached,
            main: sum.main + class.in_use,
            retry: 0,
            cache_size: sum.cache_size + class.total,
        })
    };
    ModuleStats { module: "dma", small_pool: sum(true), large_pool: sum(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_change_as_a_whole_or_not() {
        let set = |small_bufsize| SetOptions {
            small_pool_count: Some(100),
            large_pool_count: None,
            small_bufsize: Some(small_bufsize),
            large_bufsize: None,
            enable_numa: None,
        };
        let new = changed(&Options::default(), &set(4096)).expect("good");
        assert_eq!(new, Options { small_pool_count: 100, small_bufsize: 4096, ..Options::default() });
        let error = changed(&Options::default(), &set(135_168)).expect_err("small is not small");
        assert!(error.message.contains("135168"), "{error}");
    }

    #[test]
    fn buffers_are_small_up_to_the_small_size() {
        let class = |bytes, in_use| ClassStats { bytes, total: 9, in_use, cached: 2 };
        let stats = module_stats(8192, &[class(512, 1), class(8192, 2), class(16384, 4)]);
        assert_eq!((stats.small_pool.main, stats.small_pool.cache, stats.small_pool.cache_size), (3, 4, 18));
        assert_eq!((stats.large_pool.main, stats.large_pool.cache), (4, 2));
    }
}

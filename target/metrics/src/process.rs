//! The process and its version.

use crate::families::{INFO, PROCESS_CPU, PROCESS_FDS, PROCESS_RESIDENT, PROCESS_START, UPTIME};
use crate::page::Sources;
use crate::text::Text;
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn write(text: &mut Text, sources: &Sources) {
    let uptime = sources.started.elapsed();
    text.family(INFO, |samples| {
        samples.add(&[("version", sources.version), ("spdk_version", &sources.spdk_version)], 1);
    });
    text.family(UPTIME, |samples| samples.add(&[], uptime.as_secs_f64()));
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    text.family(PROCESS_START, |samples| {
        // Whole seconds: the two clocks are not read at one moment, and it must not tremble.
        samples.add(&[], since_1970.saturating_sub(uptime).as_secs_f64().round());
    });
    text.family(PROCESS_CPU, |samples| {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        samples.add(&[], time.tv_sec as f64 + time.tv_nsec as f64 / 1e9);
    });
    // Where /proc does not tell, the sample is absent.
    text.family(PROCESS_RESIDENT, |samples| {
        if let Some(bytes) = resident_bytes() {
            samples.add(&[], bytes);
        }
    });
    text.family(PROCESS_FDS, |samples| {
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // The listing itself is one.
            samples.add(&[], entries.count().saturating_sub(1));
        }
    });
}

/// The second word of `/proc/self/statm`, in pages (proc_pid_statm(5)).
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

//! Every family that a page may hold: its name, type and help.
//!
//! Names are Prometheus's way: base units, the unit in the name, `_total` on what only grows.

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It grows, and begins anew at 0 after a restart or a reset.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of what was at most so much.
    Histogram,
}

impl Kind {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A family of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// One line about it.
    pub help: &'static str,
}

macro_rules! families {
    ($($ident:ident = $kind:ident $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $ident: Family = Family { name: $name, kind: Kind::$kind, help: $help };)*

        /// All families, in the order of the page.
        pub const ALL: &[Family] = &[$($ident),*];
    };
}

families! {
    INFO = Gauge "rmr_target_info", "Always 1; versions of the target and of the SPDK whose methods it answers.";
    UPTIME = Gauge "rmr_uptime_seconds", "Time since the target started.";
    PROCESS_START = Gauge "process_start_time_seconds", "When the process started, in seconds since 1970.";
    PROCESS_CPU = Counter "process_cpu_seconds_total", "Processor time of all threads, polling included.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes", "Ordinary memory in use; hugepages are not in it.";
    PROCESS_FDS = Gauge "process_open_fds", "Open file descriptors.";

    REACTOR_BUSY = Counter "rmr_reactor_busy_seconds_total", "Time in turns that did something.";
    REACTOR_IDLE = Counter "rmr_reactor_idle_seconds_total", "Time in turns that did nothing, sleep included.";
    REACTOR_TURNS = Counter "rmr_reactor_turns_total", "Turns.";
    REACTOR_SLEEPS = Counter "rmr_reactor_sleeps_total", "Times it went to sleep in the kernel.";
    REACTOR_ASLEEP = Gauge "rmr_reactor_asleep", "1 if it slept when the scrape came.";
    REACTOR_ANSWERS = Gauge "rmr_reactor_answers", "1 if it answered this scrape within a second, 0 if it hangs.";

    MEMORY_MAPPED = Gauge "rmr_memory_mapped_bytes", "DMA memory that is mapped.";
    MEMORY_BUFFERS = Gauge "rmr_memory_buffer_bytes", "Of the mapped: carved into buffers, in use or not.";
    MEMORY_BDEVS = Gauge "rmr_memory_bdev_bytes", "Of the mapped: contents of memory bdevs.";
    MEMORY_LOCKED = Gauge "rmr_memory_locked_bytes", "Of the mapped: pages that stay in place.";
    MEMORY_LIMIT = Gauge "rmr_memory_limit_bytes", "Most that may be mapped; absent without a limit.";
    MEMORY_LOST = Gauge "rmr_memory_lost_bytes", "What the kernel would not take back; 0 on a healthy machine.";
    BUFFERS = Gauge "rmr_buffers", "Buffers of this size, in bytes, that exist.";
    BUFFERS_IN_USE = Gauge "rmr_buffers_in_use", "Of these: held by IO.";
    BUFFERS_CACHED = Gauge "rmr_buffers_cached", "Of these: kept free by threads for their next IO.";

    BDEV_INFO = Gauge "rmr_bdev_info", "Always 1; what the bdev is.";
    BDEV_SIZE = Gauge "rmr_bdev_size_bytes", "Its size.";
    BDEV_IOS = Counter "rmr_bdev_ios_total", "IOs that succeeded.";
    BDEV_BYTES = Counter "rmr_bdev_bytes_total", "Bytes of the IOs that succeeded.";
    BDEV_LATENCY = Counter "rmr_bdev_latency_seconds_total", "Latencies of the IOs that succeeded, added up.";
    BDEV_LATENCY_MAX = Gauge "rmr_bdev_latency_max_seconds", "Longest latency since bdev_reset_iostat.";
    BDEV_ERRORS = Counter "rmr_bdev_errors_total", "IOs that failed, by NVMe status.";
    BDEV_DEPTH = Gauge "rmr_bdev_queue_depth", "IOs in flight at the last look; only with bdev_set_qd_sampling_period.";
    BDEV_DEPTH_BUSY = Counter "rmr_bdev_queue_busy_seconds_total", "Time with IO in flight; only with bdev_set_qd_sampling_period.";
    BDEV_HISTOGRAM = Histogram "rmr_bdev_io_latency_seconds", "Latencies; only with bdev_enable_histogram. The sum is taken from the buckets.";

    SESSION_INFO = Gauge "rmr_session_info", "Always 1; a session, the role of this host in it, and the other host.";
    SESSION_LANES = Gauge "rmr_session_lanes", "Lanes of a session of ours, by state.";
    SESSION_LIVES = Counter "rmr_session_lives_total", "Lives that its lanes began; more than lanes: requests have failed.";
    SESSION_UNDER_WAY = Gauge "rmr_session_requests_under_way", "Requests and permits that users hold.";
    SESSION_WAITING = Gauge "rmr_session_users_waiting", "Users that wait for a permit.";
    PATH_UP = Gauge "rmr_session_path_lanes_up", "Lanes in which the path is up.";
    PATH_ROUND_TRIP = Gauge "rmr_session_path_round_trip_seconds", "Smoothed round trip of its beats; absent before the first.";
    PATH_REQUESTS = Counter "rmr_session_path_requests_total", "Requests sent on it, repeated ones included.";
    PATH_ANSWERS = Counter "rmr_session_path_answers_total", "Answers received on it.";
    PATH_BYTES = Counter "rmr_session_path_bytes_total", "Bytes of data of these.";
    PATH_RESENDS = Counter "rmr_session_path_resends_total", "Requests sent on it again: lost elsewhere, or granted memory.";
    PATH_CONNECTS = Counter "rmr_session_path_connects_total", "Times it came up.";
    PATH_FAULTS = Counter "rmr_session_path_faults_total", "Times it fell, or could not come up.";

    SERVED_CONNECTIONS = Gauge "rmr_session_served_connections", "Connections of a lane of another host's session.";
    SERVED_REQUESTS = Counter "rmr_session_served_requests_total", "Requests that came, repeated ones included.";
    SERVED_ANSWERS = Counter "rmr_session_served_answers_total", "Answers given, repeated ones included.";
    SERVED_BYTES = Counter "rmr_session_served_bytes_total", "Bytes of data of these.";
    DEVICE_SERVES = Gauge "rmr_device_serves", "1 if requests of the replicated device are carried out, 0 if they wait or it was fenced.";
    DEVICE_MEMBERS = Gauge "rmr_device_members", "Members of its pool.";
    DEVICE_UP_TO_DATE = Gauge "rmr_device_up_to_date_members", "Of these: those that are in the set and have nothing left to copy.";
    DEVICE_GENERATION = Gauge "rmr_device_generation", "Starts of its pool, by whomever, ever.";
    DEVICE_REQUESTS = Gauge "rmr_device_requests", "Requests under way.";
    DEVICE_STOPS = Counter "rmr_device_stops_total", "Times that requests had to wait for an assembly or a change of the set.";
    DEVICE_STOPPED = Counter "rmr_device_stopped_seconds_total", "Time of these stops.";
    DEVICE_STOPPED_MAX = Gauge "rmr_device_stopped_max_seconds", "The longest of these stops.";
    LEG_CONNECTED = Gauge "rmr_leg_connected", "1 if the store of this member answers.";
    LEG_UP_TO_DATE = Gauge "rmr_leg_up_to_date", "1 if this member is in the set and has nothing left to copy.";
    LEG_READ_LATENCY = Gauge "rmr_leg_read_latency_seconds", "Moving average of what reads take there; absent until one was measured.";
    STORE_SERVES = Gauge "rmr_store_serves", "1 if the store on this host is in the set.";
    STORE_DIRTY = Gauge "rmr_store_dirty_bytes", "What it still has to copy.";
    STORE_COPIED = Counter "rmr_store_copied_bytes_total", "Copied from others since it was opened.";
    STORE_OVERWRITTEN = Counter "rmr_store_overwritten_bytes_total", "Written anew by clients before it was copied.";
    STORE_INTENTS = Gauge "rmr_store_intents", "Live entries of its intent log.";
    STORE_COPYING = Gauge "rmr_store_copying_chunks", "Chunks that are being copied to it.";
    STORE_REQUESTS = Gauge "rmr_store_requests", "Requests that it has not answered yet.";
    STORE_DROPPED = Counter "rmr_store_letters_dropped_total", "Letters that nobody came for.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_and_come_once() {
        for (at, family) in ALL.iter().enumerate() {
            let Family { name, kind, help } = family;
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(name.starts_with("rmr_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(
                !name.ends_with("_sum") && !name.ends_with("_count") && !name.ends_with("_bucket"),
                "{name}"
            );
            assert!(help.ends_with('.') && !help.contains(['\\', '\n']), "{name}: {help}");
            assert!(ALL[..at].iter().all(|other| other.name != *name), "{name} comes twice");
        }
    }

    #[test]
    fn the_page_in_docs_lists_every_family_with_its_type_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/201-observability.md");
        let docs = std::fs::read_to_string(path).expect("docs/201-observability.md");
        let rows: Vec<Vec<&str>> = docs
            .lines()
            .filter(|l| l.starts_with("| `"))
            .map(|l| l.split('|').map(str::trim).collect())
            .collect();
        let documented: Vec<(&str, &str)> =
            rows.iter().filter(|row| row.len() > 3).map(|row| (row[1].trim_matches('`'), row[2])).collect();
        let families: Vec<(&str, &str)> = ALL.iter().map(|f| (f.name, f.kind.name())).collect();
        assert_eq!(documented, families);
    }
}

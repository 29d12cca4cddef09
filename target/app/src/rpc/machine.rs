//! What the kernel tells of a core's time.

/// Time of one core since the machine started, in the kernel's ticks of 10 ms.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CoreTime {
    pub(super) user: u64,
    pub(super) system: u64,
    pub(super) irq: u64,
}

/// The time of a core; zeros where the kernel does not tell.
pub(super) fn core_time(core: u32) -> CoreTime {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    parse(&text, core).unwrap_or_default()
}

/// A line of /proc/stat: `cpuN user nice system idle iowait irq softirq …` (proc_stat(5)).
fn parse(text: &str, core: u32) -> Option<CoreTime> {
    let name = format!("cpu{core}");
    let mut words = text.lines().map(str::split_whitespace).find_map(|mut words| {
        let found = words.next() == Some(name.as_str());
        found.then_some(words)
    })?;
    let mut number = |skip: usize| words.nth(skip)?.parse().ok();
    Some(CoreTime { user: number(0)?, system: number(1)?, irq: number(2)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_found_by_its_whole_name() {
        let text = "cpu  1 2 3 4 5 6 7\ncpu1 10 20 30 40 50 60 70 0\ncpu10 9 9 9 9 9 9 9\nintr 5\n";
        assert_eq!(parse(text, 1), Some(CoreTime { user: 10, system: 30, irq: 60 }));
        assert_eq!(parse(text, 0), None);
        assert_eq!(parse("cpu0 1 2", 0), None);
    }
}

//! What libFuzzer's log says of a run.

use std::time::Duration;

/// One target's run.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Stats {
    /// Inputs tried.
    pub(crate) runs: u64,
    /// Edges of the control flow reached.
    pub(crate) edges: u64,
    /// Inputs in the corpus at the end.
    pub(crate) corpus: u64,
    /// Wall time, start-up included.
    pub(crate) took: Duration,
    /// One line for each input that broke the target.
    pub(crate) findings: Vec<String>,
}

impl Stats {
    /// Reads a log: its last progress line, such as `#4096 pulse  cov: 77 ft: 79 corp: 2/5b …`, and its last words
    /// on the number of runs. What the log does not say stays 0.
    pub(super) fn read(log: &[u8]) -> Stats {
        let text = String::from_utf8_lossy(log);
        let mut stats = Stats::default();
        for line in text.lines() {
            if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
                stats.runs = count.trim().parse().unwrap_or(stats.runs);
            } else if let Some(rest) = line.strip_prefix('#') {
                let words: Vec<&str> = rest.split_whitespace().collect();
                stats.progress(&words);
            }
        }
        stats
    }

    fn progress(&mut self, words: &[&str]) {
        let after = |key: &str| {
            let at = words.iter().position(|word| *word == key)?;
            let digits = words.get(at + 1)?.split('/').next()?;
            digits.parse::<u64>().ok()
        };
        self.runs = words.first().and_then(|count| count.parse().ok()).unwrap_or(self.runs);
        self.edges = after("cov:").unwrap_or(self.edges);
        self.corpus = after("corp:").unwrap_or(self.corpus);
    }

    /// Inputs tried per second of wall time.
    pub(crate) fn runs_per_second(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.runs as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "INFO: Seed: 3\n#2\tINITED cov: 11 ft: 12 corp: 1/1b exec/s: 0 rss: 40Mb\n\
        #4096\tpulse  cov: 77 ft: 79 corp: 2/5b lim: 4 exec/s: 2048 rss: 41Mb\n\
        #62080\tDONE   cov: 78 ft: 83 corp: 9/34b lim: 80 exec/s: 6208 rss: 41Mb\nDone 62080 runs in 10 second(s)\n\
        stat::number_of_executed_units: 62081\nstat::average_exec_per_sec:     6208\n";

    #[test]
    fn the_last_progress_line_counts() {
        let mut stats = Stats::read(LOG.as_bytes());
        assert_eq!((stats.runs, stats.edges, stats.corpus), (62_081, 78, 9));
        stats.took = Duration::from_secs(10);
        assert_eq!(stats.runs_per_second().round(), 6208.0);
    }

    #[test]
    fn a_log_cut_off_by_a_crash_keeps_what_it_said() {
        let cut = LOG.split("#62080").next().expect("the part before");
        let stats = Stats::read(cut.as_bytes());
        assert_eq!((stats.runs, stats.edges, stats.corpus), (4096, 77, 2));
        assert_eq!(Stats::read(b"\xff\xfe no log at all"), Stats::default());
    }
}

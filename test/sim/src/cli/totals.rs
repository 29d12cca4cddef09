//! What the runs add up to.

use rmr_sim::run::Outcome;
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR_NS: u64 = 3_600_000_000_000;

/// Sums over seeds, and over each simulated hour.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) seeds: u64,
    pub(crate) simulated: u64,
    events: u64,
    ios: u64,
    errors: u64,
    epochs: u64,
    compared: u64,
    faults: BTreeMap<&'static str, u64>,
    pub(crate) pairs: rmr_sim::coverage::Pairs,
    /// Of the hour that is being filled: simulated ns and requests done.
    filling: (u64, u64),
    /// Fewest requests done in a full hour.
    sparsest: Option<u64>,
}

impl Totals {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.events += outcome.stats.events;
        self.ios += outcome.stats.ios;
        self.errors += outcome.stats.errors;
        self.epochs += outcome.stats.epochs;
        self.compared += outcome.stats.compared;
        for (kind, count) in &outcome.stats.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (pair, count) in &outcome.stats.pairs {
            *self.pairs.entry(*pair).or_default() += count;
        }
        self.filling.0 += outcome.simulated;
        self.filling.1 += outcome.stats.ios;
        if self.filling.0 >= HOUR_NS {
            let (simulated, ios) = std::mem::take(&mut self.filling);
            let ios = (ios as f64 * HOUR_NS as f64 / simulated as f64) as u64;
            self.sparsest = Some(self.sparsest.map_or(ios, |least| least.min(ios)));
        }
    }

    pub(crate) fn hours(&self) -> f64 {
        self.simulated as f64 / HOUR_NS as f64
    }

    /// One line while it runs.
    pub(crate) fn progress(&self, wall: Duration) -> String {
        let faults: u64 = self.faults.values().sum();
        format!(
            "{:.0} s: {} seeds, {:.2} simulated hours, {} IOs, {faults} faults",
            wall.as_secs_f64(),
            self.seeds,
            self.hours(),
            self.ios
        )
    }

    pub(crate) fn print(&self, wall: Duration, breaches: usize) {
        let seconds = wall.as_secs_f64();
        let faults: u64 = self.faults.values().sum();
        let kinds: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("faults: {}", kinds.join(", "));
        let sparsest = self.sparsest.map_or("no full hour".to_owned(), |ios| ios.to_string());
        println!(
            "IOs per simulated hour: {:.0}, in the least dense hour: {sparsest}; {:.1} s a simulated hour",
            self.ios as f64 / self.hours(),
            seconds / self.hours(),
        );
        println!(
            "{} seeds in {seconds:.1} s ({:.1}/s), {:.2} simulated hours, {} events ({:.1} M/min), {} IOs done, {} \
             failed, {} epochs, {} chunks compared, {faults} faults, {breaches} breaches",
            self.seeds,
            self.seeds as f64 / seconds,
            self.hours(),
            self.events,
            self.events as f64 / seconds * 60e-6,
            self.ios,
            self.errors,
            self.epochs,
            self.compared,
        );
    }
}

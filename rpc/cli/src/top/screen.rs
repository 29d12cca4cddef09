//! What is shown of the rates: tables in a sorted order, cut to a screen. Pure.

use super::pools;
use super::sample::{BdevRates, Rates};
use crate::show::plain;
use crate::view::unit::{bytes, count, time};
use serde_json::{Value, json};
use std::cmp::Ordering;

/// By what bdevs are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Order {
    /// IOs in a second.
    #[default]
    Iops,
    /// Bytes in a second.
    Bytes,
    /// Mean latency.
    Latency,
    /// IOs in flight.
    Depth,
    /// Failures.
    Errors,
    /// Name.
    Name,
}

/// Every order with its key and its word.
pub(crate) const ORDERS: [(Order, char, &str); 6] = [
    (Order::Iops, 'i', "iops"),
    (Order::Bytes, 'b', "bytes"),
    (Order::Latency, 'l', "latency"),
    (Order::Depth, 'd', "depth"),
    (Order::Errors, 'e', "errors"),
    (Order::Name, 'n', "name"),
];

impl Order {
    /// The order of this word.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        ORDERS.iter().find(|(_, _, known)| *known == word).map(|(order, ..)| *order)
    }

    /// The order of this key.
    pub(crate) fn of_key(key: char) -> Option<Self> {
        ORDERS.iter().find(|(_, known, _)| *known == key).map(|(order, ..)| *order)
    }

    fn word(self) -> &'static str {
        ORDERS.iter().find(|(order, ..)| *order == self).map_or("", |(_, _, word)| word)
    }

    /// The largest first; names from a to z, which also decide between equals.
    fn compare(self, a: &BdevRates, b: &BdevRates) -> Ordering {
        let most = |figure: fn(&BdevRates) -> f64| figure(b).total_cmp(&figure(a));
        let by = match self {
            Order::Iops => most(BdevRates::iops),
            Order::Bytes => most(BdevRates::bytes_per_sec),
            Order::Latency => most(|bdev| bdev.latency_mean_us.unwrap_or(0.0)),
            Order::Depth => most(|bdev| bdev.queue_depth.map_or(bdev.depth_mean, |depth| depth as f64)),
            Order::Errors => b.errors_total.cmp(&a.errors_total),
            Order::Name => Ordering::Equal,
        };
        by.then_with(|| a.name.cmp(&b.name))
    }
}

/// Sorts the bdevs.
pub(crate) fn sort(rates: &mut Rates, order: Order) {
    rates.bdevs.sort_by(|a, b| order.compare(a, b));
}

/// Reactors, bdevs, replicated devices and stores as tables.
pub(crate) fn tables(rates: &Rates, width: Option<u16>) -> String {
    let reactors: Value = rates
        .reactors
        .iter()
        .map(|reactor| {
            json!({"reactor": reactor.name, "core": reactor.core.to_string(),
                "busy": format!("{:.1} %", reactor.busy_percent),
                "asleep": if reactor.asleep { "yes" } else { "no" }})
        })
        .collect();
    let bdevs: Value = rates.bdevs.iter().map(row).collect();
    let replication = pools::tables(&rates.replication, width);
    format!("{}\n{}{replication}", plain(&reactors, width), plain(&bdevs, width))
}

/// Text in every cell, also for zero: no column comes and goes.
fn row(bdev: &BdevRates) -> Value {
    let micros = |us: f64| time(us * 1e-6);
    json!({
        "bdev": bdev.name,
        "read/s": count(bdev.read_iops),
        "write/s": count(bdev.write_iops),
        "unmap/s": count(bdev.unmap_iops),
        "read": format!("{}/s", bytes(bdev.read_bytes_per_sec)),
        "write": format!("{}/s", bytes(bdev.write_bytes_per_sec)),
        "mean": bdev.latency_mean_us.map_or("-".to_owned(), micros),
        "max": micros(bdev.latency_max_us),
        "in flight": format!("{:.1}", bdev.depth_mean),
        "sampled": bdev.queue_depth.map_or("-".to_owned(), |depth| depth.to_string()),
        "errors": bdev.errors_total.to_string(),
    })
}

/// The whole screen: a head, the tables from line `scroll` on, and the keys; no line is longer or further down than
/// the screen is.
pub(crate) fn screen(
    head: &str,
    rates: &Rates,
    order: Order,
    scroll: usize,
    columns: u16,
    rows: u16,
) -> Vec<String> {
    let (columns, rows) = (usize::from(columns), usize::from(rows));
    let keys: Vec<String> = ORDERS.iter().map(|(_, key, word)| format!("{key} {word}")).collect();
    let keys = format!("sorted by {}: {}; arrows scroll, q quits", order.word(), keys.join(", "));
    let text = tables(rates, u16::try_from(columns).ok());
    let room = rows.saturating_sub(3);
    let skip = scroll.min(text.lines().count().saturating_sub(room));
    let mut lines = vec![head.to_owned(), String::new()];
    lines.extend(text.lines().skip(skip).take(room).map(str::to_owned));
    lines.push(keys);
    lines.truncate(rows);
    lines.into_iter().map(|line| clean(&line, columns)).collect()
}

/// Without what a terminal would obey (names may hold anything), and not longer than `columns`.
fn clean(line: &str, columns: usize) -> String {
    line.chars().map(|c| if c.is_control() { '?' } else { c }).take(columns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample::tests::sample;

    fn rates() -> Rates {
        let one = |name: &str, reads: u64| {
            let before = sample(1_000_000, name, 0, 0);
            sample(2_000_000, name, reads, 250_000).since(&before)
        };
        let mut rates = one("b", 10);
        rates.bdevs.extend(one("a", 20_000).bdevs);
        rates.bdevs.extend(one("c", 10).bdevs);
        rates
    }

    #[test]
    fn the_largest_come_first_and_names_decide_between_equals() {
        let mut rates = rates();
        let names = |rates: &Rates| rates.bdevs.iter().map(|bdev| bdev.name.clone()).collect::<Vec<_>>();
        for (order, expect) in
            [(Order::Iops, ["a", "b", "c"]), (Order::Errors, ["a", "b", "c"]), (Order::Name, ["a", "b", "c"])]
        {
            rates.bdevs.reverse();
            sort(&mut rates, order);
            assert_eq!(names(&rates), expect, "{order:?}");
        }
        rates.bdevs[2].latency_mean_us = Some(1e6);
        sort(&mut rates, Order::Latency);
        assert_eq!(rates.bdevs[0].name, "c");
        rates.bdevs[2].queue_depth = Some(99);
        let deepest = rates.bdevs[2].name.clone();
        sort(&mut rates, Order::Depth);
        assert_eq!(rates.bdevs[0].name, deepest);
    }

    #[test]
    fn every_order_has_a_key_and_a_word_of_its_own() {
        for (order, key, word) in ORDERS {
            assert_eq!((Order::of_key(key), Order::of_word(word)), (Some(order), Some(order)));
            assert_ne!(key, 'q');
        }
    }

    #[test]
    fn tables_show_rates_in_readable_units() {
        let text = tables(&rates(), None);
        assert!(text.contains("BUSY") && text.contains("25.0 %"), "{text}");
        let row = text.lines().find(|line| line.starts_with("a ")).expect("a row");
        for words in ["20 k", "78.1 MiB/s", "200 us", "900 us", "4.0", "200"] {
            assert!(row.contains(words), "{words}: {row}");
        }
    }

    #[test]
    fn a_screen_is_never_larger_than_the_terminal_and_shows_no_control_characters() {
        let mut rates = rates();
        rates.bdevs[0].name = "\u{1b}[2J".to_owned();
        for (columns, rows) in [(80, 24), (20, 5), (1, 1), (200, 4)] {
            for scroll in [0, 1, 1000] {
                let lines = screen("head", &rates, Order::Iops, scroll, columns, rows);
                assert!(lines.len() <= usize::from(rows));
                for line in lines {
                    assert!(line.chars().count() <= usize::from(columns), "{line:?}");
                    assert!(!line.contains('\u{1b}'), "{line:?}");
                }
            }
        }
        let last = screen("head", &rates, Order::Iops, 1000, 200, 5);
        assert!(last[2..4].iter().any(|line| line.starts_with('c')), "the end can be reached: {last:?}");
    }
}

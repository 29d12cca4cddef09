//! bdev_get_histogram and bdev_get_histogram_borders as bars.
//!
//! The buckets are SPDK's: range r > 0 holds latencies from 2^(granularity + r - 1) ticks up to twice that, range 0 all
//! below; each range is cut in 2^granularity buckets of equal width, and the ranges from `min_range` on are there.

use super::number;
use super::unit::{percent, time};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::fmt::Write;

/// Characters of the longest bar.
const BAR: usize = 40;
/// Shares whose latencies are told.
const QUANTILES: [(f64, &str); 4] = [(0.5, "50 %"), (0.99, "99 %"), (0.999, "99.9 %"), (1.0, "all")];

/// The counts, and what their places mean.
struct Histogram {
    counts: Vec<u64>,
    granularity: u32,
    min_range: u32,
    tick: f64,
}

impl Histogram {
    fn of(answer: &Value) -> Option<Self> {
        let whole = |name: &str| u32::try_from(answer.get(name)?.as_u64()?).ok();
        let granularity = whole("granularity").filter(|granularity| *granularity < 32)?;
        let bytes = STANDARD.decode(answer.get("histogram")?.as_str()?).ok()?;
        let (words, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return None;
        }
        let counts = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let tick = 1.0 / number(answer, "tsc_rate").filter(|rate| *rate > 0.0)?;
        Some(Self { counts, granularity, min_range: whole("min_range")?, tick })
    }

    /// The latency at which the bucket at `index` ends, seconds.
    fn end_of(&self, index: usize) -> f64 {
        let range = self.min_range + (index >> self.granularity) as u32;
        let within = (index & ((1 << self.granularity) - 1)) as f64 + 1.0;
        let whole = (1u64 << self.granularity) as f64;
        let ticks = if range == 0 { within } else { (whole + within) * 2f64.powi(range as i32 - 1) };
        ticks * self.tick
    }

    /// The latency below which this share of all lies, by its bucket's end.
    fn quantile(&self, share: f64, total: u64) -> f64 {
        let wanted = (share * total as f64).ceil() as u64;
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        });
        reached.map_or(0.0, |index| self.end_of(index))
    }

    /// Counts and ends of the ranges between the first and the last that hold anything.
    fn rows(&self) -> Vec<(String, u64)> {
        let ranges = self.counts.chunks(1 << self.granularity).enumerate();
        let sums: Vec<(f64, u64)> = ranges
            .map(|(range, counts)| (self.end_of(((range + 1) << self.granularity) - 1), counts.iter().sum()))
            .collect();
        let holds = |(_, count): &(f64, u64)| *count > 0;
        let (Some(first), Some(last)) = (sums.iter().position(holds), sums.iter().rposition(holds)) else {
            return Vec::new();
        };
        sums[first..=last].iter().map(|(end, count)| (format!("below {}", time(*end)), *count)).collect()
    }
}

/// A bar for each doubling of the latency, and what share was how fast.
pub(super) fn chart(answer: &Value) -> Option<String> {
    let histogram = Histogram::of(answer)?;
    let total: u64 = histogram.counts.iter().sum();
    if total == 0 {
        return Some("0 IOs were counted\n".to_owned());
    }
    let mut text = bars(&histogram.rows());
    let shares =
        QUANTILES.map(|(share, name)| format!("{name} below {}", time(histogram.quantile(share, total))));
    let _infallible = writeln!(text, "\n{total} IOs: {}", shares.join(", "));
    Some(text)
}

/// A bar for each interval between the borders that were asked for.
pub(super) fn borders(params: &Value, answer: &Value) -> Option<String> {
    let borders = params.get("borders")?.as_array()?;
    let borders: Vec<f64> = borders.iter().map(Value::as_f64).collect::<Option<_>>()?;
    let counts = answer.get("borders_count")?.as_array()?;
    let counts: Vec<u64> = counts.iter().map(Value::as_u64).collect::<Option<_>>()?;
    if counts.len() != borders.len() + 1 {
        return None;
    }
    let last = borders.last().map(|border| format!("from {}", time(border * 1e-6)))?;
    let names = borders.iter().map(|border| format!("below {}", time(border * 1e-6))).chain([last]);
    Some(bars(&names.zip(counts).collect::<Vec<_>>()))
}

fn bars(rows: &[(String, u64)]) -> String {
    let total: u64 = rows.iter().map(|(_, count)| count).sum();
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or_default();
    let wide = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or_default();
    let names = wide(&mut rows.iter().map(|(name, _)| name.len()));
    let digits = wide(&mut rows.iter().map(|(_, count)| count.to_string().len()));
    let mut text = String::new();
    for (name, count) in rows {
        // What there is at all can be seen.
        let length = if most == 0 { 0 } else { (*count as f64 / most as f64 * BAR as f64).ceil() as usize };
        let share = percent(*count as f64, total as f64);
        let line = format!("{name:names$}  {count:digits$}  {share:>7}  {}", "#".repeat(length));
        let _infallible = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Four buckets a range, ranges 1 to 3 kept, a tick a microsecond: 4..8, 8..16, 16..32 us.
    fn answer(counts: [u64; 12]) -> Value {
        let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        json!({"histogram": STANDARD.encode(bytes), "granularity": 2, "min_range": 1, "max_range": 3, "tsc_rate": 1_000_000})
    }

    #[test]
    fn a_bar_a_doubling_and_the_shares_below() {
        let shown = chart(&answer([0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 2])).expect("a chart");
        let expect = format!(
            "below 16 us  8   80.0 %  {}\nbelow 32 us  2   20.0 %  {}\n\n10 IOs: 50 % below 10 us, 99 % below 32 us, 99.9 % below 32 us, all below 32 us\n",
            "#".repeat(40),
            "#".repeat(10)
        );
        assert_eq!(shown, expect);
        assert_eq!(chart(&answer([0; 12])).as_deref(), Some("0 IOs were counted\n"));
    }

    #[test]
    fn what_is_no_histogram_is_none() {
        let mut wrong = answer([0; 12]);
        for (name, value) in [
            ("histogram", json!("AAAA")),
            ("histogram", json!("?")),
            ("granularity", json!(64)),
            ("tsc_rate", json!(0)),
        ] {
            let right = wrong[name].clone();
            wrong[name] = value;
            assert!(chart(&wrong).is_none(), "{wrong}");
            wrong[name] = right;
        }
        assert!(chart(&wrong).is_some());
    }

    #[test]
    fn borders_name_their_intervals() {
        let params = json!({"borders": [10, 1000]});
        let shown = borders(&params, &json!({"borders_count": [1, 2, 0]})).expect("bars");
        assert!(shown.starts_with("below 10 us  1   33.3 %  ####"), "{shown}");
        assert!(shown.ends_with("from 1 ms    0    0.0 %\n"), "{shown}");
        assert!(borders(&params, &json!({"borders_count": [1, 2]})).is_none());
    }
}

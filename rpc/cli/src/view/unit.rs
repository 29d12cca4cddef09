//! Figures for people: bytes, times, shares, rates.

/// Sizes with a binary prefix: `64 MiB`, `1.5 GiB`.
pub(crate) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = bytes;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{} {}", figure(scaled), UNITS[unit])
}

/// A time: `850 ns`, `12.3 us`, `1.5 s`, `2 h 5 min`.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s <= 0.0 => "0 s".to_owned(),
        s if s < 999.5e-9 => format!("{} ns", figure(s * 1e9)),
        s if s < 999.5e-6 => format!("{} us", figure(s * 1e6)),
        s if s < 0.9995 => format!("{} ms", figure(s * 1e3)),
        s if s < 120.0 => format!("{} s", figure(s)),
        s if s < 7200.0 => format!("{:.0} min", (s / 60.0).floor()),
        s if s < 172_800.0 => format!("{:.0} h", (s / 3600.0).floor()),
        s => format!("{:.0} days", (s / 86_400.0).floor()),
    }
}

/// A share of a whole, in percent; nothing of nothing is nothing.
pub(crate) fn percent(part: f64, whole: f64) -> String {
    format!("{:.1} %", if whole > 0.0 { 100.0 * part / whole } else { 0.0 })
}

/// A number with a decimal prefix: `950`, `12.3 k`, `1.2 M`.
pub(crate) fn count(number: f64) -> String {
    match number {
        n if n < 9_999.5 => figure(n),
        n if n < 999.5e3 => format!("{} k", figure(n / 1e3)),
        n if n < 999.5e6 => format!("{} M", figure(n / 1e6)),
        n => format!("{} G", figure(n / 1e9)),
    }
}

/// Three digits: enough for a look, and no pretence.
fn figure(number: f64) -> String {
    let text = match number {
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => return format!("{n:.0}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_the_unit_that_fits() {
        for (got, expect) in [
            (bytes(0.0), "0 B"),
            (bytes(1023.0), "1023 B"),
            (bytes((64u64 << 20) as f64), "64 MiB"),
            (bytes(1.5 * 1024.0), "1.5 KiB"),
            (time(0.0), "0 s"),
            (time(850e-9), "850 ns"),
            (time(12.345e-6), "12.3 us"),
            (time(999.9e-6), "1 ms"),
            (time(1.5), "1.5 s"),
            (time(3600.0), "60 min"),
            (time(8000.0), "2 h"),
            (percent(1.0, 3.0), "33.3 %"),
            (percent(1.0, 0.0), "0.0 %"),
            (count(950.0), "950"),
            (count(12_345.0), "12.3 k"),
            (count(999_999.0), "1 M"),
            (count(0.0), "0"),
        ] {
            assert_eq!(got, expect);
        }
    }
}

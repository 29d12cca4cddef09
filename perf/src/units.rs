//! Sizes as people type them, figures as people read them.

use std::time::Duration;

/// Binary multiples and their suffixes; each may end in `iB` or `B` as well.
const SUFFIXES: [(char, u32); 3] = [('k', 10), ('m', 20), ('g', 30)];

/// Bytes of `4096`, `4k`, `128KiB`, `1M`: binary multiples, in upper or lower case.
pub(crate) fn parse_size(text: &str) -> Result<u32, String> {
    let accepted = "accepted are bytes with or without a suffix: 512, 4k, 128k, 1M";
    let lower = text.trim().to_ascii_lowercase();
    let digits_end = lower.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(lower.len());
    let (digits, suffix) = lower.split_at(digits_end);
    let shift = shift_of(suffix).ok_or_else(|| format!("{suffix:?} is no suffix of a size; {accepted}"))?;
    let number: u64 = digits.parse().map_err(|_| format!("{digits:?} is no number of bytes; {accepted}"))?;
    let bytes = number.checked_mul(1 << shift).and_then(|bytes| u32::try_from(bytes).ok());
    match bytes {
        Some(0) => Err(format!("an IO has at least one block; {accepted}")),
        Some(bytes) => Ok(bytes),
        None => Err(format!("it is larger than any IO; {accepted}")),
    }
}

fn shift_of(suffix: &str) -> Option<u32> {
    if suffix.is_empty() || suffix == "b" {
        return Some(0);
    }
    let (_, shift) = SUFFIXES.into_iter().find(|(letter, _)| suffix.starts_with(*letter))?;
    matches!(&suffix[1..], "" | "b" | "ib").then_some(shift)
}

/// A time of `10`, `0.5`: seconds.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    const LONGEST: f64 = 1e7;
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= LONGEST);
    let duration = seconds.map(Duration::from_secs_f64).filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| format!("accepted are seconds, more than 0 and up to {LONGEST}: 10, 0.5"))
}

/// A number of anything in three digits: `24.9M`, `812k`, `96`.
pub(crate) fn count(number: f64) -> String {
    scaled(number, &[(1e9, "G"), (1e6, "M"), (1e3, "k")])
}

/// A whole number with its thousands apart: `1,000,000`.
pub(crate) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8_lossy(&groups.join(&b',')).into_owned()
}

/// A length of time in three digits: `5.12µs`.
pub(crate) fn time(ns: f64) -> String {
    match ns {
        0.0 => "0ns".to_owned(),
        _ if ns < 1e3 => format!("{}ns", three_digits(ns)),
        _ => scaled(ns, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs")]),
    }
}

/// A rate of bytes, given in MiB/s: always in MiB/s, so that rows compare.
pub(crate) fn mib(mib_s: f64) -> String {
    three_digits(mib_s)
}

/// Bytes in the largest unit that leaves no rest: `4 KiB`, `512 bytes`.
pub(crate) fn bytes(bytes: u64) -> String {
    for (shift, unit) in [(30, " GiB"), (20, " MiB"), (10, " KiB")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

/// The number over the first unit that it reaches; rounding may carry it into the next.
fn scaled(number: f64, units: &[(f64, &str)]) -> String {
    let reached = units.iter().find(|(unit, _)| number >= unit * 0.9995);
    match reached {
        Some((unit, name)) => format!("{}{name}", three_digits(number / unit)),
        None => three_digits(number),
    }
}

/// At least three digits, and a fraction only where there are fewer before the point.
fn three_digits(number: f64) -> String {
    let decimals = match number {
        _ if number >= 99.95 || number == number.trunc() && number < 1.0 => 0,
        _ if number >= 9.995 => 1,
        _ => 2,
    };
    format!("{number:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_every_suffix() {
        let table = [("512", 512), ("4096", 4096), ("4k", 4096), ("4K", 4096), ("4KiB", 4096), ("4kb", 4096)];
        for (text, bytes) in
            table.into_iter().chain([("128k", 131_072), ("1M", 1 << 20), ("2m", 2 << 20), ("8b", 8)])
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_would_be_accepted() {
        for text in
            ["", "k", "0", "0k", "-1", "4.5k", "4x", "4kx", "4kibx", "4 q", "99999999999999999999", "4g", "é"]
        {
            let error = parse_size(text).expect_err(text);
            assert!(error.contains("4k, 128k, 1M"), "{text}: {error}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction_but_must_be_some() {
        assert_eq!(parse_seconds("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_seconds("0.25"), Ok(Duration::from_millis(250)));
        for text in ["", "0", "-1", "nan", "inf", "1e9", "1e-12", "ten", "10s"] {
            let error = parse_seconds(text).expect_err(text);
            assert!(error.contains("seconds"), "{text}: {error}");
        }
    }

    #[test]
    fn figures_have_three_digits_and_their_unit() {
        let counts = [(0.0, "0"), (0.5, "0.50"), (7.0, "7.00"), (96.4, "96.4"), (812_345.0, "812k")];
        for (number, text) in
            counts.into_iter().chain([(24_913_000.0, "24.9M"), (999_900.0, "1.00M"), (1e9, "1.00G")])
        {
            assert_eq!(count(number), text);
        }
        let times =
            [(0.0, "0ns"), (41.0, "41.0ns"), (512.0, "512ns"), (5_120.0, "5.12µs"), (99_999.0, "100µs")];
        for (ns, text) in times.into_iter().chain([(999_950.0, "1.00ms"), (2.5e9, "2.50s")]) {
            assert_eq!(time(ns), text);
        }
        assert_eq!([0, 999, 1000, 1_234_567].map(whole), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((mib(97_265.4), mib(0.0)), ("97265".to_owned(), "0".to_owned()));
        assert_eq!(
            (bytes(4096), bytes(512), bytes(3 << 20), bytes(0)),
            ("4 KiB".to_owned(), "512 bytes".to_owned(), "3 MiB".to_owned(), "0 bytes".to_owned())
        );
    }
}

//! Whole numbers from JSON text, exactly.
//!
//! As in SPDK, a number is whole when its value is: `1e3`, `10.0` and `2.50e1` are, `0.5` is not. Nothing goes
//! through floating point, so every `u64` and `i64` arrives as it was sent.

/// Why a number is no integer that fits.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum NotWhole {
    /// It has a fraction.
    Fraction,
    /// It is whole, and beyond anything a parameter can hold.
    TooBig,
}

/// More digits than this never fit in 64 bits.
const DIGITS_MAX: usize = 20;

/// The value of `text`, which must be a valid JSON number.
pub(crate) fn whole(text: &str) -> Result<i128, NotWhole> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{integer}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let dropped = digits.len() - digits.trim_end_matches('0').len();
    let shift = exponent_of(exponent).saturating_add(dropped as i64).saturating_sub(fraction.len() as i64);
    if shift < 0 {
        return Err(NotWhole::Fraction);
    }
    let zeros = usize::try_from(shift).unwrap_or(usize::MAX);
    if significant.len().saturating_add(zeros) > DIGITS_MAX {
        return Err(NotWhole::TooBig);
    }
    let value =
        format!("{significant}{}", "0".repeat(zeros)).parse::<i128>().map_err(|_| NotWhole::TooBig)?;
    Ok(if negative { -value } else { value })
}

/// The exponent; one too long for 64 bits counts as endless.
fn exponent_of(text: &str) -> i64 {
    match text.parse::<i64>() {
        Ok(exponent) => exponent,
        Err(_) if text.starts_with('-') => i64::MIN,
        Err(_) => i64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_whole_when_their_value_is() {
        let table = [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("0.0", Ok(0)),
            ("0e99999999999999999999", Ok(0)),
            ("1e3", Ok(1000)),
            ("1E+3", Ok(1000)),
            ("10.0", Ok(10)),
            ("2.50e1", Ok(25)),
            ("1200e-2", Ok(12)),
            ("-7", Ok(-7)),
            ("18446744073709551615", Ok(u64::MAX as i128)),
            ("18446744073709551616", Ok(u64::MAX as i128 + 1)),
            ("-9223372036854775808", Ok(i64::MIN as i128)),
            ("100000000000000000000", Err(NotWhole::TooBig)),
            ("1e99999999999999999999", Err(NotWhole::TooBig)),
            ("0.5", Err(NotWhole::Fraction)),
            ("1e-1", Err(NotWhole::Fraction)),
            ("1e-99999999999999999999", Err(NotWhole::Fraction)),
            ("25e-1", Err(NotWhole::Fraction)),
        ];
        for (text, expect) in table {
            assert_eq!(whole(text), expect, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_64_bit_number_is_exact(value in any::<u64>(), signed in any::<i64>(), zeros in 0usize..4) {
            prop_assert_eq!(whole(&value.to_string()), Ok(i128::from(value)));
            prop_assert_eq!(whole(&signed.to_string()), Ok(i128::from(signed)));
            prop_assert_eq!(whole(&format!("{value}.{}", "0".repeat(zeros + 1))), Ok(i128::from(value)));
            let shifted = format!("{signed}{}e-{zeros}", "0".repeat(zeros));
            prop_assert_eq!(whole(&shifted), Ok(i128::from(signed)));
        }
    }
}

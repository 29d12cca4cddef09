//! `CpuMask`: a set of cores, read and written as SPDK does.

use std::fmt;
use std::str::FromStr;

use super::{CoresError, MAX_CORES};

const WORD_BITS: u32 = 64;
const WORDS: usize = (MAX_CORES / WORD_BITS) as usize;
/// Hexadecimal digits that fill a mask.
const DIGITS_MAX: usize = (MAX_CORES / 4) as usize;

/// A set of cores. `Display` gives SPDK's `0x…`, `LowerHex` the same without prefix, `Debug` a list: `[0-3,8]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CpuMask {
    words: [u64; WORDS],
}

impl CpuMask {
    /// Adds a core.
    ///
    /// # Panics
    /// If `core` ≥ [`MAX_CORES`].
    pub fn insert(&mut self, core: u32) {
        assert!(core < MAX_CORES, "core {core} of at most {MAX_CORES}");
        self.words[(core / WORD_BITS) as usize] |= 1 << (core % WORD_BITS);
    }

    /// Whether a core is in the set.
    #[must_use]
    pub fn contains(&self, core: u32) -> bool {
        core < MAX_CORES && self.words[(core / WORD_BITS) as usize] >> (core % WORD_BITS) & 1 == 1
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Number of cores.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The cores, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..MAX_CORES).filter(|&core| self.contains(core))
    }

    /// The cores that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.iter().filter(|&core| !other.contains(core)).collect()
    }
}

impl FromIterator<u32> for CpuMask {
    /// # Panics
    /// If a core is ≥ [`MAX_CORES`].
    fn from_iter<I: IntoIterator<Item = u32>>(cores: I) -> Self {
        let mut mask = Self::default();
        cores.into_iter().for_each(|core| mask.insert(core));
        mask
    }
}

impl FromStr for CpuMask {
    type Err = CoresError;

    /// `0x3`; `3` (a bare number is hexadecimal, as in SPDK and DPDK); `[0,1]`, `[0-3,8]`; `0-1`. An empty list or
    /// mask is an empty set: whether that will do is the caller's affair.
    fn from_str(text: &str) -> Result<Self, CoresError> {
        let trimmed = text.trim();
        if let Some(rest) = trimmed.strip_prefix('[') {
            let list = rest.strip_suffix(']').ok_or_else(|| problem(text, "the list has no closing ']'"))?;
            return parse_list(text, list);
        }
        if trimmed.contains('-') {
            return parse_list(text, trimmed);
        }
        if trimmed.contains(',') {
            return Err(problem(text, "a list needs brackets"));
        }
        let digits = trimmed.strip_prefix("0x").or_else(|| trimmed.strip_prefix("0X")).unwrap_or(trimmed);
        parse_hex(text, digits)
    }
}

fn problem(text: &str, problem: impl Into<String>) -> CoresError {
    CoresError::Mask { text: text.to_owned(), problem: problem.into() }
}

fn parse_hex(text: &str, digits: &str) -> Result<CpuMask, CoresError> {
    if digits.is_empty() {
        return Err(problem(text, "it is empty"));
    }
    if let Some(wrong) = digits.chars().find(|digit| !digit.is_ascii_hexdigit()) {
        return Err(problem(text, format!("'{wrong}' is no hexadecimal digit")));
    }
    let digits = digits.trim_start_matches('0');
    if digits.len() > DIGITS_MAX {
        return Err(problem(text, format!("it has more than the {DIGITS_MAX} digits of {MAX_CORES} cores")));
    }
    let mut mask = CpuMask::default();
    for (position, digit) in (0u32..).zip(digits.chars().rev()) {
        let value = u64::from(digit.to_digit(16).unwrap_or_default());
        mask.words[(position * 4 / WORD_BITS) as usize] |= value << (position * 4 % WORD_BITS);
    }
    Ok(mask)
}

fn parse_list(text: &str, list: &str) -> Result<CpuMask, CoresError> {
    let mut mask = CpuMask::default();
    if list.trim().is_empty() {
        return Ok(mask);
    }
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_core(text, first)?, parse_core(text, last)?);
        if first > last {
            return Err(problem(text, format!("the range {first}-{last} runs backwards")));
        }
        (first..=last).for_each(|core| mask.insert(core));
    }
    Ok(mask)
}

/// One decimal core number.
fn parse_core(text: &str, number: &str) -> Result<u32, CoresError> {
    let number = number.trim();
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(problem(text, format!("'{number}' is no core number")));
    }
    // Digits that do not fit 64 bits are certainly too large.
    let core = number.parse().unwrap_or(u64::MAX);
    match u32::try_from(core) {
        Ok(small) if small < MAX_CORES => Ok(small),
        _ => Err(CoresError::TooLarge { text: text.to_owned(), core }),
    }
}

impl fmt::LowerHex for CpuMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let high = self.words.iter().rposition(|&word| word != 0).unwrap_or(0);
        write!(f, "{:x}", self.words[high])?;
        self.words[..high].iter().rev().try_for_each(|word| write!(f, "{word:016x}"))
    }
}

impl fmt::Display for CpuMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{self:x}")
    }
}

impl fmt::Debug for CpuMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cores = self.iter().peekable();
        let mut separator = "[";
        while let Some(first) = cores.next() {
            let mut last = first;
            while let Some(next) = cores.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        f.write_str(if separator == "[" { "[]" } else { "]" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_spdk_takes_is_read() {
        for (text, cores, hex) in [
            ("0x3", &[0, 1][..], "0x3"),
            ("3", &[0, 1], "0x3"),
            ("0XF0", &[4, 5, 6, 7], "0xf0"),
            ("10", &[4], "0x10"),
            ("[0,1]", &[0, 1], "0x3"),
            ("[0-3,8]", &[0, 1, 2, 3, 8], "0x10f"),
            (" [ 2 , 0 - 1 ] ", &[0, 1, 2], "0x7"),
            ("0-1", &[0, 1], "0x3"),
            ("1-2,64", &[1, 2, 64], "0x10000000000000006"),
            ("[]", &[], "0x0"),
            ("0x0", &[], "0x0"),
            ("[1023]", &[1023], &format!("0x8{}", "0".repeat(255))),
        ] {
            let mask: CpuMask = text.parse().expect(text);
            assert_eq!(mask.iter().collect::<Vec<_>>(), cores, "{text}");
            assert_eq!((mask.to_string().as_str(), mask.count() as usize), (hex, cores.len()), "{text}");
        }
    }

    #[test]
    fn what_is_no_mask_is_refused_with_the_text_and_what_is_accepted() {
        let too_long = format!("0x1{}", "0".repeat(256));
        for text in [
            "", "0x", "0xg", "[0", "0]", "[0-]", "[a]", "[1-0]", "[,]", "0,1", "-1", "[1--2]", "[+1]", "é",
            &too_long,
        ] {
            let error = text.parse::<CpuMask>().expect_err(text).to_string();
            assert!(error.contains(&format!("'{text}'")) && error.contains("[0-3,8]"), "{error}");
        }
        for text in ["[1024]", "0-99999999999999999999"] {
            let error = text.parse::<CpuMask>().expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("0 to 1023"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn all_three_notations_read_back_as_the_same_set(cores in prop::collection::btree_set(0..MAX_CORES, 0..40)) {
            let mask: CpuMask = cores.iter().copied().collect();
            prop_assert_eq!(mask.iter().collect::<Vec<_>>(), cores.into_iter().collect::<Vec<_>>());
            for text in [mask.to_string(), format!("{mask:x}"), format!("{mask:?}")] {
                prop_assert_eq!(text.parse::<CpuMask>().expect("our own notation"), mask, "{}", text);
            }
        }

        #[test]
        fn no_string_makes_it_panic(text in ".{0,40}", masky in "[-0-9a-fx,\\[\\] ]{0,20}") {
            let _either = text.parse::<CpuMask>();
            let _either = masky.parse::<CpuMask>();
        }
    }
}

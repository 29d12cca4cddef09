//! DPDK's `--lcores`: lcores (DPDK's name for a reactor's number) mapped to CPUs. A reactor is one thread pinned to
//! one CPU, so only maps of that kind are taken; sets that would let a thread float are refused.

use super::{CoresError, MAX_CORES};

/// Reactor `lcore` runs on CPU `cpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LcoreBinding {
    /// The reactor's number.
    pub lcore: u32,
    /// The CPU it is pinned to.
    pub cpu: u32,
}

/// Reads an `--lcores` string: `0-3` (each lcore on the CPU of its number), `0@4,1@5`, `(0)@(4)`. In order of lcores.
///
/// # Errors
/// [`CoresError::Lcores`] for what is malformed, maps one lcore to several CPUs or several to one, or names one
/// twice; [`CoresError::TooLarge`].
pub fn parse_lcores(text: &str) -> Result<Vec<LcoreBinding>, CoresError> {
    let mut bindings = Vec::new();
    for item in split_items(text)? {
        bindings.extend(parse_item(text, item)?);
    }
    bindings.sort_unstable_by_key(|binding| binding.lcore);
    if let Some(pair) = bindings.windows(2).find(|pair| pair[0].lcore == pair[1].lcore) {
        return Err(problem(text, format!("lcore {} is named twice", pair[0].lcore)));
    }
    let mut cpus: Vec<u32> = bindings.iter().map(|binding| binding.cpu).collect();
    cpus.sort_unstable();
    if let Some(pair) = cpus.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(problem(text, format!("several lcores share CPU {}", pair[0])));
    }
    Ok(bindings)
}

fn problem(text: &str, problem: impl Into<String>) -> CoresError {
    CoresError::Lcores { text: text.to_owned(), problem: problem.into() }
}

/// The comma-separated items; commas inside parentheses do not separate.
fn split_items(text: &str) -> Result<Vec<&str>, CoresError> {
    let mut items = Vec::new();
    let (mut start, mut open) = (0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' if !open => open = true,
            ')' if open => open = false,
            '(' | ')' => return Err(problem(text, "its parentheses do not match")),
            ',' if !open => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err(problem(text, "its parentheses do not match"));
    }
    items.push(&text[start..]);
    Ok(items)
}

fn parse_item(text: &str, item: &str) -> Result<Vec<LcoreBinding>, CoresError> {
    let (lcores, cpus) = match item.split_once('@') {
        Some((lcores, cpus)) => (parse_set(text, lcores)?, Some(parse_set(text, cpus)?)),
        None => (parse_set(text, item)?, None),
    };
    match (lcores.numbers.as_slice(), cpus.as_ref().map(|set| set.numbers.as_slice())) {
        (&[lcore], None) => Ok(vec![LcoreBinding { lcore, cpu: lcore }]),
        // A bare range stands for its members; in parentheses it is one group that floats over its CPUs.
        (many, None) if !lcores.grouped => {
            Ok(many.iter().map(|&lcore| LcoreBinding { lcore, cpu: lcore }).collect())
        }
        (&[lcore], Some(&[cpu])) => Ok(vec![LcoreBinding { lcore, cpu }]),
        (_, Some(&[cpu])) => Err(problem(text, format!("'{item}' puts several lcores on CPU {cpu}"))),
        _ => Err(problem(text, format!("'{item}' lets an lcore float over several CPUs"))),
    }
}

struct NumberSet {
    numbers: Vec<u32>,
    /// Written in parentheses.
    grouped: bool,
}

/// A number, a range, or a list of both in parentheses.
fn parse_set(text: &str, set: &str) -> Result<NumberSet, CoresError> {
    let set = set.trim();
    let inner = set.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let mut numbers = Vec::new();
    for part in inner.unwrap_or(set).split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_number(text, first)?, parse_number(text, last)?);
        // DPDK takes a range either way round.
        numbers.extend(first.min(last)..=first.max(last));
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(NumberSet { numbers, grouped: inner.is_some() })
}

fn parse_number(text: &str, number: &str) -> Result<u32, CoresError> {
    let number = number.trim();
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(problem(text, format!("'{number}' is no number")));
    }
    let core = number.parse().unwrap_or(u64::MAX);
    match u32::try_from(core) {
        Ok(small) if small < MAX_CORES => Ok(small),
        _ => Err(CoresError::TooLarge { text: text.to_owned(), core }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_to_one_maps_are_read() {
        for (text, expected) in [
            ("0", &[(0, 0)][..]),
            ("1-3", &[(1, 1), (2, 2), (3, 3)]),
            ("3-1", &[(1, 1), (2, 2), (3, 3)]),
            ("1@5,0@4", &[(0, 4), (1, 5)]),
            ("(0)@(4), 7", &[(0, 4), (7, 7)]),
            ("0@1,1@0", &[(0, 1), (1, 0)]),
            ("(2,2)", &[(2, 2)]),
        ] {
            let pairs: Vec<_> = parse_lcores(text).expect(text).iter().map(|b| (b.lcore, b.cpu)).collect();
            assert_eq!(pairs, expected, "{text}");
        }
    }

    #[test]
    fn maps_that_are_not_one_to_one_or_malformed_say_why() {
        for (text, why) in [
            ("(0-1)@4", "several lcores on CPU 4"),
            ("0@(4-5)", "float"),
            ("(0-3)@(4-7)", "float"),
            ("(0,6)", "float"),
            ("0@4,1@4", "share CPU 4"),
            ("0@4,0@5", "lcore 0 is named twice"),
            ("(0", "parentheses"),
            ("0)", "parentheses"),
            ("((0))", "parentheses"),
            ("", "'' is no number"),
            ("0@", "'' is no number"),
            ("0@@1", "'@1' is no number"),
            ("a", "'a' is no number"),
            ("0,,1", "'' is no number"),
        ] {
            let error = parse_lcores(text).expect_err(text).to_string();
            assert!(
                error.contains(why) && error.contains(&format!("'{text}'")) && error.contains("0@4"),
                "{error}"
            );
        }
        let large = parse_lcores("0@1024").expect_err("too large").to_string();
        assert!(large.contains("core 1024") && large.contains("1023"), "{large}");
    }

    proptest! {
        #[test]
        fn no_string_makes_it_panic(text in ".{0,40}", lcorish in "[-0-9@(), ]{0,20}") {
            let _either = parse_lcores(&text);
            let _either = parse_lcores(&lcorish);
        }
    }
}

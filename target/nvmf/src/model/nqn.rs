//! Names of subsystems and hosts (base 4.5).

use crate::error::NvmfError;
use tgt_nvme::fabrics::NQN_MAX;

/// Prefix of names made of a UUID.
const UUID_PREFIX: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// Whether a name is one: `nqn.yyyy-mm.reverse.domain:anything`, or one made of a UUID. The discovery subsystem's is one.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    if name.len() > NQN_MAX || name.chars().any(char::is_control) {
        return false;
    }
    if let Some(uuid) = name.strip_prefix(UUID_PREFIX) {
        return uuid::Uuid::try_parse(uuid).is_ok() && uuid.len() == 36;
    }
    let Some(rest) = name.strip_prefix("nqn.") else { return false };
    let Some((date, rest)) = rest.split_at_checked(7) else { return false };
    let Some((year, month)) = date.split_once('-') else { return false };
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    let month_fits = digits(month, 2) && (1..=12).contains(&month.parse::<u8>().unwrap_or(0));
    let Some(rest) = rest.strip_prefix('.') else { return false };
    let domain = rest.split(':').next().unwrap_or_default();
    let label_fits = |label: &str| {
        let first = label.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let last = label.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric());
        first && last && label.len() < 64 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    digits(year, 4) && month_fits && domain.split('.').all(label_fits)
}

/// Refuses what is no name.
pub(crate) fn check(parameter: &'static str, name: &str) -> Result<(), NvmfError> {
    if is_valid(name) {
        return Ok(());
    }
    let accepted = "nqn.<year>-<month>.<reverse domain>:<anything>, at most 223 bytes, as in nqn.2026-01.org.example:disk1";
    Err(NvmfError::value(parameter, format!("{name:?}"), accepted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_field_are_names_and_others_are_not() {
        for good in [
            tgt_nvme::fabrics::DISCOVERY_NQN,
            "nqn.2016-06.io.spdk:cnode1",
            "nqn.2026-01.org.example:a disk: the second",
            "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555",
        ] {
            assert!(is_valid(good), "{good}");
        }
        let long = format!("nqn.2016-06.io.spdk:{}", "x".repeat(204));
        for bad in [
            "",
            "nqn.",
            "cnode1",
            "nqn.2016-06",
            "nqn.2016-13.io.spdk:x",
            "nqn.16-06.io.spdk:x",
            "nqn.2016-06.-io.spdk:x",
            "nqn.2016-06..spdk:x",
            "nqn.2016-06.io.spdk:\n",
            "nqn.2014-08.org.nvmexpress:uuid:123",
            &long,
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}

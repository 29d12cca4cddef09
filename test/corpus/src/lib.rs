//! The fuzz targets by name, and the test that replays their corpora.
//!
//! ## What it is and is not
//! The one list of what is fuzzed. `test/fuzz` makes a libFuzzer binary of each entry; the test here runs each entry
//! on the inputs checked in under `test/fuzz/corpus/NAME`, so that `cargo test` alone, without a fuzzer, proves that
//! what was found once stays mended.
//!
//! ## Words
//! * *target*: a function that takes any bytes, panics if the parser under test breaks a promise, and returns otherwise.
//! * *corpus*: inputs worth keeping, one a file; a found and mended one is added under a name that says what it was.
//!
//! ## Who may call it, on which thread
//! Tests and fuzz binaries, on any thread.
//!
//! ## Invariants
//! * Every target has a binary in `test/fuzz` and a corpus that is not empty; every corpus has a target.
//!
//! ## Map of files
//! `lib` the list and the short targets · `rmr` the formats of replication · `engine` its engines.
//!
//! ## Where the tests are
//! At the end of this file and of `engine`.

mod engine;
mod rmr;

use tgt_env::cores::CpuMask;

/// A function under fuzz.
type Target = fn(&[u8]);

/// Every target: its name, which is also that of its binary and of its corpus, and its function.
const TARGETS: &[(&str, Target)] = &[
    ("config", tgt_config::fuzz::config),
    ("cpu_mask", cpu_mask),
    ("key_file", tgt_keyring::fuzz::key_file),
    ("nvme_answers", bdev_nvme::fuzz::answers),
    ("nvmf_commands", tgt_nvmf::fuzz::commands),
    ("nvmf_units", tgt_nvmf::fuzz::units),
    ("rmr_client_events", engine::client_events),
    ("rmr_journal", rmr::journal),
    ("rmr_message", rmr::message),
    ("rmr_page", rmr::page),
    ("rmr_store_events", engine::store_events),
    ("rmr_superblock", rmr::superblock),
    ("rpc_params", rpc_registry::fuzz::params),
    ("rpc_request", rpc_server::fuzz::request),
    ("rtrs_client_events", tgt_rtrs::fuzz::client_events),
    ("rtrs_frames", tgt_rtrs::fuzz::frames),
    ("rtrs_path", tgt_rtrs::fuzz::path),
    ("rtrs_server_events", tgt_rtrs::fuzz::server_events),
    ("vhost_messages", tgt_vhost::fuzz::messages),
    ("vhost_ring", tgt_vhost::fuzz::ring),
];

/// Runs the target `name` on `data`.
///
/// # Panics
/// If there is no such target, or if the parser under test breaks a promise.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, function) = target.unwrap_or_else(|| panic!("no fuzz target is called {name}"));
    function(data);
}

/// Any text as a core mask: what is accepted reads back as the same set from each notation it is written in.
fn cpu_mask(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(mask) = text.parse::<CpuMask>() else { return };
    assert_eq!(mask.iter().count(), mask.count() as usize);
    assert_eq!(mask.is_empty(), mask.count() == 0);
    for written in [mask.to_string(), format!("{mask:x}"), format!("{mask:?}")] {
        let again = written.parse::<CpuMask>();
        assert_eq!(again.ok(), Some(mask), "{text:?} was written as {written:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn fuzz_crate() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
    }

    fn names_in(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.map(|name| name.into_string().expect("a name in UTF-8")).collect()
    }

    #[test]
    fn every_checked_in_input_keeps_its_targets_promises() {
        for (name, _) in TARGETS {
            let folder = fuzz_crate().join("corpus").join(name);
            let inputs = names_in(&folder);
            assert!(!inputs.is_empty(), "the corpus of {name} is empty");
            for input in inputs {
                // Shown with a failure only: the input that failed is the last one named.
                println!("{name}: {input}");
                run(name, &fs::read(folder.join(input)).expect("an input"));
            }
        }
    }

    #[test]
    fn targets_binaries_and_corpora_are_the_same_set() {
        let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names_in(&fuzz_crate().join("corpus")), targets, "corpora");
        let sources: BTreeSet<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
        assert_eq!(names_in(&fuzz_crate().join("fuzz_targets")), sources, "binaries");
    }
}

//! The static probes of the built binary, as tracing tools find them: in its ELF notes.

#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::process::Command;
use tgt_env::probe;

/// Probes in the binary: name to numbers of arguments, one for each place. None, with a line that says why, without readelf.
fn notes(binary: &str) -> Option<BTreeMap<String, Vec<usize>>> {
    let Ok(output) = Command::new("readelf").env("LC_ALL", "C").args(["--notes", "--wide", binary]).output()
    else {
        println!("skipped: readelf is not installed (apt-get install binutils)");
        return None;
    };
    assert!(output.status.success(), "readelf: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("readelf writes text");
    let mut notes = BTreeMap::<String, Vec<usize>>::new();
    let mut name = None;
    let mut ours = false;
    for line in text.lines().map(str::trim) {
        if let Some((_, provider)) = line.split_once("Provider: ") {
            ours = provider == probe::PROVIDER;
        } else if let Some(probe) = line.strip_prefix("Name: ") {
            name = ours.then(|| probe.to_owned());
        } else if let Some(arguments) = line.strip_prefix("Arguments:")
            && let Some(name) = name.take()
        {
            notes.entry(name).or_default().push(arguments.split_whitespace().count());
        }
    }
    Some(notes)
}

#[test]
fn the_binary_has_every_probe_with_all_its_arguments_and_no_other() {
    let Some(notes) = notes(env!("CARGO_BIN_EXE_rmr_tgt")) else { return };
    let names: Vec<&str> = notes.keys().map(String::as_str).collect();
    let mut expected: Vec<&str> = probe::ALL.iter().map(|(name, _)| *name).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for (name, arguments) in probe::ALL {
        assert!(notes[*name].iter().all(|count| *count == arguments.len()), "{name}: {:?}", notes[*name]);
    }
}

//! The fuzzer's corpora, each input changed a little many times: what a short run of the fuzzer would find first.

use std::path::Path;

/// Changed inputs for each of a corpus.
const EACH: u64 = 300;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

fn changed(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 2, 4, 16, 0x7f, 0x80, 0xff][random.below(8)],
            2 => bytes.truncate(at.max(8)),
            3 => {
                let piece = bytes[at..(at + random.below(64)).min(bytes.len())].to_vec();
                bytes.extend(piece);
            }
            _ => bytes[at] = random.below(256) as u8,
        }
    }
    bytes
}

fn run(name: &str, target: impl Fn(&[u8])) {
    let each = std::env::var("RMR_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(EACH);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fuzz/corpus").join(name);
    let mut inputs: Vec<_> =
        std::fs::read_dir(corpus).expect("a corpus").map(|e| e.expect("an entry").path()).collect();
    inputs.sort();
    for path in inputs {
        let input = std::fs::read(&path).expect("an input");
        target(&input);
        for seed in 1..=each {
            let input = changed(&input, &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            // Shown with a failure only.
            println!("{} seed {seed}", path.display());
            target(&input);
        }
    }
}

#[test]
fn rings_near_those_of_the_corpus_break_no_promise() {
    run("vhost_ring", crate::fuzz::ring);
}

#[test]
fn messages_near_those_of_the_corpus_break_no_promise() {
    run("vhost_messages", crate::fuzz::messages);
}

#[test]
fn the_corpora_get_through_to_what_they_are_meant_for() {
    let input = |of: &str| {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fuzz/corpus");
        std::fs::read(corpus.join(of)).expect("an input")
    };
    for (name, taken) in [("split", 2), ("split_dies", 4), ("packed", 2), ("packed_dies", 4)] {
        assert_eq!(crate::fuzz::ring_counted(&input(&format!("vhost_ring/{name}"))), taken, "{name}");
    }
    for name in ["split_session", "packed_session"] {
        assert!(crate::fuzz::messages_counted(&input(&format!("vhost_messages/{name}"))) > 25, "{name}");
    }
}

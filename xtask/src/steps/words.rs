//! Words no tracked file may hold: places on one developer's machine, notes to oneself, remains of a merge.

/// The words, put together here so that this file does not hold them; each with what is wrong about it.
const WORDS: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("../sha", "red"), "a path outside the checkout"),
    (concat!("TO", "DO"), "a note to oneself: do it, or say what is so and why"),
    (concat!("FIX", "ME"), "a note to oneself: do it, or say what is so and why"),
    (concat!("<<<<", "<<< "), "left by a merge"),
    (concat!(">>>>", ">>> "), "left by a merge"),
];

/// One line for each line of `text` that holds a word, naming `path` and the line's number, from 1.
pub(crate) fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (word, wrong) in WORDS.iter().filter(|(word, _)| line.contains(word)) {
            found.push(format!("{path}:{}: `{word}`: {wrong}", index + 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_with_its_line() {
        for (word, wrong) in WORDS {
            let found = complaints("docs/a.md", &format!("fine\nsee {word}here\n"));
            assert_eq!(found, [format!("docs/a.md:2: `{word}`: {wrong}")]);
        }
    }

    #[test]
    fn ordinary_text_passes() {
        let text = "works/ in the network, ../share, <<= >>=, to do, 1 << 7\n";
        assert_eq!(complaints("a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn this_file_holds_none_of_its_words() {
        assert_eq!(complaints("words.rs", include_str!("words.rs")), Vec::<String>::new());
    }
}

//! The file's text: comments, and where in the file something stands.

use std::fmt;
use std::sync::Arc;

/// A place in a config file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or `config` for a text that came from none.
    pub file: Arc<str>,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// JSON text without its comments, each byte where it was in the file.
pub(crate) struct Text {
    file: Arc<str>,
    pub(crate) json: String,
}

/// A `/*` without its `*/`, at this byte.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unclosed(pub(crate) usize);

impl Text {
    /// Takes the comments out. The error is the place of one that does not end.
    pub(crate) fn new(file: &str, text: &str) -> Result<Self, Place> {
        let file = Arc::from(file);
        match without_comments(text) {
            Ok(json) => Ok(Self { file, json }),
            Err(Unclosed(at)) => Err(Self { file, json: text.to_owned() }.place(at)),
        }
    }

    /// The place of a byte; one inside a character is its place.
    pub(crate) fn place(&self, at: usize) -> Place {
        let before = &self.json.as_bytes()[..at.min(self.json.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // Every byte but those that continue a character.
        let characters = before[line_start..].iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        Place {
            file: Arc::clone(&self.file),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: characters + 1,
        }
    }

    /// Where a part of [`Text::json`] begins.
    pub(crate) fn offset_of(&self, part: &str) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.json.as_ptr() as usize)
    }

    /// Where in the file an error in `part` stands.
    pub(crate) fn place_in(&self, part: &str, error: &serde_json::Error) -> Place {
        let line =
            part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
        self.place(self.offset_of(part) + line + error.column().saturating_sub(1))
    }
}

/// Comments become blanks, of the same length and with the same line ends; strings stay as they are.
pub(crate) fn without_comments(text: &str) -> Result<String, Unclosed> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/']) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let comment = tail.starts_with("//") || tail.starts_with("/*");
        let len = if tail.starts_with("//") {
            tail.find('\n').unwrap_or(tail.len())
        } else if comment {
            // From the third byte on: the star of `/*/` does not close it.
            2 + tail[2..].find("*/").ok_or(Unclosed(out.len()))? + 2
        } else if tail.starts_with('"') {
            string_len(tail)
        } else {
            1
        };
        let (piece, after) = tail.split_at(len);
        if comment {
            out.extend(piece.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            out.push_str(piece);
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Bytes of the string that `text` begins with; all of it when the string does not end.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_become_blanks_and_strings_stay() {
        let table = [
            ("a // b\nc", "a     \nc"),
            ("a /* b\n * c */ d", "a     \n        d"),
            ("/**/1/*/*/", "    1     "),
            (r#""//" "/*" "\"//" // x"#, r#""//" "/*" "\"//"     "#),
            ("/é*", "/é*"),
            ("// é", "     "),
            ("\"open // x", "\"open // x"),
        ];
        for (text, expect) in table {
            assert_eq!(without_comments(text).as_deref(), Ok(expect), "{text}");
        }
        assert_eq!(without_comments("ab /* x"), Err(Unclosed(3)));
        assert_eq!(without_comments("/*/"), Err(Unclosed(0)));
    }

    #[test]
    fn a_place_counts_lines_and_characters() {
        let text = Text::new("f", "ab\néx").expect("no comments");
        let place = |at| text.place(at).to_string();
        assert_eq!(
            [place(0), place(2), place(3), place(5), place(99)],
            ["f:1:1", "f:1:3", "f:2:1", "f:2:2", "f:2:3"]
        );
    }

    proptest! {
        #[test]
        fn length_and_line_ends_never_change(text in "[\"/*\\\\\n aé]{0,40}") {
            if let Ok(out) = without_comments(&text) {
                prop_assert_eq!(out.len(), text.len());
                let ends = |text: &str| text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect::<Vec<_>>();
                prop_assert_eq!(ends(&out), ends(&text));
            }
        }
    }
}

//! JSON text in pure ASCII and of bounded size.
//!
//! SPDK's Python client decodes each 4 KiB of a reply by itself and loses a chunk that ends inside a UTF-8
//! character, so everything beyond ASCII leaves as `\uXXXX`.

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use std::io::{self, Write};

/// The largest result that a reply may carry, as in SPDK: 32 MiB.
pub const MAX_RESULT_BYTES: usize = 32 << 20;

/// Why a value did not become text.
#[derive(Debug, PartialEq, Eq)]
pub enum TextError {
    /// It is longer than the limit, in bytes.
    TooLong(usize),
    /// It has no JSON form (a map with keys that are no strings, say).
    NoJson(String),
}

impl std::fmt::Display for TextError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong(limit) => write!(f, "the text is longer than {limit} bytes"),
            Self::NoJson(why) => write!(f, "the value has no JSON form: {why}"),
        }
    }
}

impl std::error::Error for TextError {}

/// Compact ASCII JSON of at most `limit` bytes.
pub fn to_ascii<T: Serialize + ?Sized>(value: &T, limit: usize) -> Result<String, TextError> {
    render(value, CompactFormatter, limit)
}

/// ASCII JSON indented by two blanks, laid out as SPDK's client writes its config files.
pub fn to_ascii_pretty<T: Serialize + ?Sized>(value: &T) -> Result<String, TextError> {
    render(value, PrettyFormatter::with_indent(b"  "), usize::MAX)
}

fn render<T: Serialize + ?Sized, F: Formatter>(
    value: &T,
    layout: F,
    limit: usize,
) -> Result<String, TextError> {
    let mut out = Bounded { text: Vec::with_capacity(256), limit, over: false };
    let result = value.serialize(&mut Serializer::with_formatter(&mut out, Ascii(layout)));
    if out.over {
        return Err(TextError::TooLong(limit));
    }
    result.map_err(|why| TextError::NoJson(why.to_string()))?;
    String::from_utf8(out.text).map_err(|why| TextError::NoJson(why.to_string()))
}

/// A buffer that refuses to grow beyond its limit.
struct Bounded {
    text: Vec<u8>,
    limit: usize,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.limit {
            self.over = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Any layout, with strings escaped to ASCII.
struct Ascii<F>(F);

impl<F: Formatter> Formatter for Ascii<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !c.is_ascii() || c == '\x7f') {
            let (plain, tail) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }
    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }
    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn text_beyond_ascii_is_escaped_and_the_rest_is_plain() {
        let text = to_ascii(&json!({"é": "a\u{1d11e}\u{7f}\n\"z"}), 999).expect("json");
        assert_eq!(text, r#"{"\u00e9":"a\ud834\udd1e\u007f\n\"z"}"#);
    }

    #[test]
    fn pretty_text_looks_like_the_clients_config_files() {
        let value = json!({"subsystems": [{"subsystem": "bdev", "config": []}], "e": {}});
        let expect = "{\n  \"subsystems\": [\n    {\n      \"subsystem\": \"bdev\",\n      \"config\": []\n    }\n  ],\n  \"e\": {}\n}";
        assert_eq!(to_ascii_pretty(&value).expect("json"), expect);
    }

    #[test]
    fn a_text_over_its_limit_is_refused() {
        assert_eq!(to_ascii("12345", 6), Err(TextError::TooLong(6)));
        assert_eq!(to_ascii("12345", 7).as_deref(), Ok("\"12345\""));
    }

    proptest! {
        #[test]
        fn any_string_is_ascii_on_the_wire_and_itself_again(text in "\\PC{0,40}|[\\x00-\\u{ffff}]{0,9}") {
            let wire = to_ascii(&text, usize::MAX).expect("json");
            prop_assert!(wire.is_ascii());
            prop_assert_eq!(serde_json::from_str::<Value>(&wire).expect("json"), Value::String(text));
        }
    }
}

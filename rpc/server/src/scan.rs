//! Finds the end of a JSON value in a stream of bytes, refusing what is not JSON at its first wrong byte.
//!
//! A pushdown automaton that looks at each byte once, however the bytes are cut into pieces: a client that sends its
//! request byte by byte costs no more than one that sends it at once. Only the validity of UTF-8 is left to the
//! caller, who sees the whole value.
//!
//! ```text
//! Value --scalar, string--> After --','--> Value | Name     After --closing bracket of the outermost--> done
//!   | '['                     ^
//!   +--> FirstItem --']'------+
//!   | '{'                     |
//!   +--> FirstName --'}'------+
//!            | string
//!            +--> Colon --':'--> Value
//! ```

/// Nesting at which SPDK's parser stops.
pub(crate) const DEPTH_MAX: u32 = 64;
/// Values in one request. As in SPDK an opening bracket, a closing bracket and a member's name count one each.
pub(crate) const VALUES_MAX: u32 = 8192;

/// Why bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    NotJson,
    TooDeep,
    TooManyValues,
}

/// Where the scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Value,
    FirstItem,
    FirstName,
    Name,
    Colon,
    After,
    Text {
        /// The second half of a surrogate pair must come next.
        pair: bool,
    },
    Escape {
        pair: bool,
    },
    Hex {
        left: u8,
        unit: u16,
        pair: bool,
    },
    Number(Num),
    /// The rest of `true`, `false` or `null`.
    Word(&'static [u8]),
}

/// Where in a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Num {
    Minus,
    Zero,
    Integer,
    Dot,
    Fraction,
    E,
    Sign,
    Exponent,
}

/// The state between two pieces of input.
#[derive(Debug)]
pub(crate) struct Scanner {
    at: At,
    /// One bit per open bracket, the innermost lowest: 1 for an object.
    objects: u64,
    depth: u32,
    values: u32,
    /// The string being read is a member's name.
    name: bool,
}

/// What one byte did.
enum Step {
    On,
    /// The outermost value ended with this byte.
    Done,
    /// The outermost value, a number, ended before this byte.
    DoneBefore,
}

impl Scanner {
    pub(crate) fn new() -> Self {
        Self { at: At::Value, objects: 0, depth: 0, values: 0, name: false }
    }

    /// Reads on. `Some(n)`: the value ends after `n` of these bytes, and the next call begins a new one.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        for (at, byte) in bytes.iter().enumerate() {
            let end = match self.step(*byte)? {
                Step::On => continue,
                Step::Done => at + 1,
                Step::DoneBefore => at,
            };
            *self = Self::new();
            return Ok(Some(end));
        }
        Ok(None)
    }

    fn step(&mut self, byte: u8) -> Result<Step, Fault> {
        let blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.at {
            At::Value | At::FirstItem | At::FirstName | At::Name | At::Colon | At::After if blank => {
                Ok(Step::On)
            }
            At::FirstItem if byte == b']' => self.close(false),
            At::Value | At::FirstItem => self.begin(byte),
            At::FirstName if byte == b'}' => self.close(true),
            At::FirstName | At::Name if byte == b'"' => self.text(true),
            At::Colon if byte == b':' => self.go(At::Value),
            At::After => self.after(byte),
            At::Text { pair } => self.in_text(byte, pair),
            At::Escape { pair } => self.escape(byte, pair),
            At::Hex { left, unit, pair } => self.hex(byte, left, unit, pair),
            At::Number(num) => self.number(byte, num),
            At::Word(rest) => match rest.split_first() {
                Some((first, [])) if *first == byte => self.ended(),
                Some((first, rest)) if *first == byte => self.go(At::Word(rest)),
                _ => Err(Fault::NotJson),
            },
            At::FirstName | At::Name | At::Colon => Err(Fault::NotJson),
        }
    }

    fn go(&mut self, at: At) -> Result<Step, Fault> {
        self.at = at;
        Ok(Step::On)
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.values += 1;
        if self.values > VALUES_MAX { Err(Fault::TooManyValues) } else { Ok(()) }
    }

    fn begin(&mut self, byte: u8) -> Result<Step, Fault> {
        match byte {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'"' => self.text(false),
            _ => {
                self.count()?;
                self.go(match byte {
                    b'-' => At::Number(Num::Minus),
                    b'0' => At::Number(Num::Zero),
                    b'1'..=b'9' => At::Number(Num::Integer),
                    b't' => At::Word(b"rue"),
                    b'f' => At::Word(b"alse"),
                    b'n' => At::Word(b"ull"),
                    _ => return Err(Fault::NotJson),
                })
            }
        }
    }

    fn open(&mut self, object: bool) -> Result<Step, Fault> {
        self.count()?;
        if self.depth == DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        self.go(if object { At::FirstName } else { At::FirstItem })
    }

    fn close(&mut self, object: bool) -> Result<Step, Fault> {
        if self.depth == 0 || self.in_object() != object {
            return Err(Fault::NotJson);
        }
        self.count()?;
        self.depth -= 1;
        self.objects >>= 1;
        self.ended()
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// A value is complete.
    fn ended(&mut self) -> Result<Step, Fault> {
        self.at = At::After;
        Ok(if self.depth == 0 { Step::Done } else { Step::On })
    }

    fn after(&mut self, byte: u8) -> Result<Step, Fault> {
        match byte {
            b',' if self.in_object() => self.go(At::Name),
            b',' => self.go(At::Value),
            b'}' => self.close(true),
            b']' => self.close(false),
            _ => Err(Fault::NotJson),
        }
    }

    fn text(&mut self, name: bool) -> Result<Step, Fault> {
        self.count()?;
        self.name = name;
        self.go(At::Text { pair: false })
    }

    fn in_text(&mut self, byte: u8, pair: bool) -> Result<Step, Fault> {
        match byte {
            b'\\' => self.go(At::Escape { pair }),
            0..=0x1f => Err(Fault::NotJson),
            _ if pair => Err(Fault::NotJson),
            b'"' if self.name => self.go(At::Colon),
            b'"' => self.ended(),
            _ => Ok(Step::On),
        }
    }

    fn escape(&mut self, byte: u8, pair: bool) -> Result<Step, Fault> {
        match byte {
            b'u' => self.go(At::Hex { left: 4, unit: 0, pair }),
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' if !pair => {
                self.go(At::Text { pair: false })
            }
            _ => Err(Fault::NotJson),
        }
    }

    fn hex(&mut self, byte: u8, left: u8, unit: u16, pair: bool) -> Result<Step, Fault> {
        let digit = char::from(byte).to_digit(16).ok_or(Fault::NotJson)?;
        let unit = unit << 4 | digit as u16;
        if left > 1 {
            return self.go(At::Hex { left: left - 1, unit, pair });
        }
        match (pair, unit) {
            (false, 0xd800..=0xdbff) => self.go(At::Text { pair: true }),
            (true, 0xdc00..=0xdfff) => self.go(At::Text { pair: false }),
            (true, _) | (false, 0xdc00..=0xdfff) => Err(Fault::NotJson),
            (false, _) => self.go(At::Text { pair: false }),
        }
    }

    fn number(&mut self, byte: u8, num: Num) -> Result<Step, Fault> {
        let next = match (num, byte) {
            (Num::Minus, b'0') => Num::Zero,
            (Num::Minus | Num::Integer, b'0'..=b'9') => Num::Integer,
            (Num::Zero | Num::Integer, b'.') => Num::Dot,
            (Num::Dot | Num::Fraction, b'0'..=b'9') => Num::Fraction,
            (Num::Zero | Num::Integer | Num::Fraction, b'e' | b'E') => Num::E,
            (Num::E, b'+' | b'-') => Num::Sign,
            (Num::E | Num::Sign | Num::Exponent, b'0'..=b'9') => Num::Exponent,
            (Num::Zero, b'0'..=b'9') => return Err(Fault::NotJson),
            (Num::Zero | Num::Integer | Num::Fraction | Num::Exponent, _) if self.depth == 0 => {
                return Ok(Step::DoneBefore);
            }
            (Num::Zero | Num::Integer | Num::Fraction | Num::Exponent, _) => {
                self.at = At::After;
                return self.step(byte);
            }
            _ => return Err(Fault::NotJson),
        };
        self.go(At::Number(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(text: &str) -> Result<Option<usize>, Fault> {
        Scanner::new().feed(text.as_bytes())
    }

    #[test]
    fn the_end_of_a_value_is_found_and_what_follows_is_left() {
        let table = [
            ("{}x", 2),
            (" \n[1,{\"a\":[]}] ", 14),
            ("\"a\\\"b\"\"", 6),
            ("12 ", 2),
            ("-0.5e+3{", 7),
            ("truefalse", 4),
            (r#""\ud834\udd1e""#, 14),
        ];
        for (text, end) in table {
            assert_eq!(scan(text), Ok(Some(end)), "{text}");
        }
    }

    #[test]
    fn half_a_value_just_waits() {
        for text in ["", "  ", "{", "{\"a", "{\"a\":1", "[1,", "12", "1e", "tru", r#""\ud834"#, "-"] {
            assert_eq!(scan(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_at_once() {
        let table = [
            "hello",
            "{a",
            "{\"a\" 1",
            "{\"a\":1,}",
            "[1,]",
            "[1}",
            "{]",
            "]",
            "01",
            "[01",
            "-x",
            "1.x",
            "1ex",
            "truf",
            "\"\n",
            "\"\\x",
            "\"\\u12g",
            r#""\ud834x"#,
            r#""\ud834\n"#,
            r#""\ud834\u0041"#,
            r#""\udd1e"#,
            "[1 2",
            "//",
            "/* */",
            "'a'",
            "\u{feff}{}",
            "{\"a\":1 \"b\"",
            "+1",
            ".5",
            "NaN",
        ];
        for text in table {
            assert_eq!(scan(text), Err(Fault::NotJson), "{text}");
        }
    }

    #[test]
    fn nesting_and_number_of_values_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(scan(&nested(64)), Ok(Some(128)));
        assert_eq!(scan(&nested(65)), Err(Fault::TooDeep));
        let list = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
        assert_eq!(scan(&list(8190)), Ok(Some(8190 * 2 + 1)));
        assert_eq!(scan(&list(8191)), Err(Fault::TooManyValues));
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[\\x00-\\u{ffff}]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,4}", inner, 0..4).prop_map(Value::from_iter),
            ]
        })
    }

    /// The oracle: `serde_json` on the whole text.
    fn serde_says(text: &str) -> Result<Option<usize>, ()> {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
        match stream.next() {
            None => Ok(None),
            Some(Ok(_)) => Ok(Some(stream.byte_offset())),
            Some(Err(why)) if why.is_eof() => Ok(None),
            Some(Err(_)) => Err(()),
        }
    }

    proptest! {
        #[test]
        fn a_value_ends_where_it_ends_however_it_is_cut(value in json(), pretty: bool, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("json");
            let end = text.len();
            text.push_str("\n{");
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let mut scanner = Scanner::new();
            let mut found = None;
            for pair in at.windows(2) {
                if let Some(n) = scanner.feed(&text.as_bytes()[pair[0]..pair[1]]).expect("valid") {
                    found = Some(pair[0] + n);
                    break;
                }
            }
            prop_assert_eq!(found, Some(end));
        }

        #[test]
        fn the_scanner_agrees_with_serde_json(text in "[\\[\\]{},:\" 0-2.eE+\\-tfnulasr\\\\x]{0,14}") {
            // serde_json wants a blank after a number or word at the top; here, as in SPDK, a value ends where it ends.
            if let Ok(Some(end)) = serde_says(&text) {
                let ours = scan(&format!("{text} ")).expect("serde_json took it");
                prop_assert_eq!(ours, Some(end));
            } else if let Ok(Some(end)) = scan(&text) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(text[..end].trim()).is_ok() || text[..end].contains('e') || text[..end].contains('E'), "{}", &text[..end]);
            }
        }
    }
}

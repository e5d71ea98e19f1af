//! The plainest form of a Mooncake line, which is the form that traces are published in: four fields, whole numbers.
//!
//! Parsing was a quarter of the time of a run with the general parser (`docs/performance.md`). What is not exactly of
//! this form is left to that one, errors and all, so this one only ever says yes or "not mine".

use crate::model::request::Chain;

/// A line of the plain form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plain {
    pub timestamp_ms: u64,
    pub input_length: u64,
    pub output_length: u64,
    /// The chain of its `hash_ids`.
    pub chain: Vec<u64>,
}

impl Plain {
    /// Reads a line; nothing if it is of another form.
    pub(super) fn scan(line: &[u8]) -> Option<Plain> {
        let mut scanner = Scanner { line, at: 0 };
        let (mut timestamp_ms, mut input_length, mut output_length) = (None, None, None);
        let mut chain = None;
        scanner.expect(b'{')?;
        loop {
            let field = scanner.name()?;
            scanner.expect(b':')?;
            let is_new = match field {
                b"timestamp" => timestamp_ms.replace(scanner.integer()?).is_none(),
                b"input_length" => input_length.replace(scanner.integer()?).is_none(),
                b"output_length" => output_length.replace(scanner.integer()?).is_none(),
                b"hash_ids" => chain.replace(scanner.chain()?).is_none(),
                _ => false,
            };
            if !is_new {
                return None;
            }
            if scanner.expect(b',').is_none() {
                break;
            }
        }
        scanner.expect(b'}')?;
        scanner.skip_spaces();
        (scanner.at == line.len()).then_some(())?;
        Some(Plain {
            timestamp_ms: timestamp_ms?,
            input_length: input_length?,
            output_length: output_length?,
            chain: chain?,
        })
    }
}

struct Scanner<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while let Some(b' ' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// This byte, after any number of spaces.
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_spaces();
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// Text in quotes, without escapes.
    fn name(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        while let Some(b'a'..=b'z' | b'_') = self.peek() {
            self.at += 1;
        }
        let name = &self.line[start..self.at];
        (self.peek() == Some(b'"')).then(|| self.at += 1)?;
        Some(name)
    }

    /// A whole number of at most 18 digits: more need a closer look than this.
    fn integer(&mut self) -> Option<u64> {
        self.skip_spaces();
        let start = self.at;
        let mut value = 0_u64;
        while let Some(digit) = self.peek().map(|byte| byte.wrapping_sub(b'0'))
            && digit < 10
        {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        let digits = self.at - start;
        let leading_zero = digits > 1 && self.line[start] == b'0';
        (digits > 0 && digits <= 18 && !leading_zero).then_some(value)
    }

    /// A whole number of one to seven digits, which most ids are, all at once; nothing, and nothing read, otherwise.
    fn short_integer(&mut self) -> Option<u64> {
        let at = self.at + usize::from(self.peek() == Some(b' '));
        let bytes = self.line.get(at..)?.first_chunk::<8>()?;
        let (value, digits) = leading_digits(u64::from_le_bytes(*bytes));
        if digits == 0 || digits == 8 || (bytes[0] == b'0' && digits > 1) {
            return None;
        }
        self.at = at + digits;
        Some(value)
    }

    /// A list of ids, as the chain that they make.
    fn chain(&mut self) -> Option<Vec<u64>> {
        self.expect(b'[')?;
        let mut chain = Chain::new(0);
        // An id and its comma take six bytes or so.
        let mut list = Vec::with_capacity((self.line.len() - self.at) / 6 + 1);
        if self.expect(b']').is_some() {
            return Some(list);
        }
        loop {
            list.push(chain.link(self.short_integer().or_else(|| self.integer())?));
            match self.peek() {
                Some(b',') => self.at += 1,
                _ if self.expect(b',').is_some() => {}
                _ => break,
            }
        }
        self.expect(b']')?;
        Some(list)
    }
}

/// The value of the decimal digits in front, and how many there are: eight bytes at a time, as by D. Lemire (*Quickly
/// parsing eight digits*, 2018).
fn leading_digits(bytes: u64) -> (u64, usize) {
    // A byte is a digit if its high half is 3, with and without 6 added. A carry spoils only what follows the first other.
    let with_six = bytes.wrapping_add(0x0606_0606_0606_0606);
    let others = ((bytes & 0xf0f0_f0f0_f0f0_f0f0) ^ 0x3030_3030_3030_3030)
        | ((with_six & 0xf0f0_f0f0_f0f0_f0f0) ^ 0x3030_3030_3030_3030);
    let digits = others.trailing_zeros() / 8;
    if digits == 0 {
        return (0, 0);
    }
    // The digits move to the end and leave zeros in front of them.
    let mut value = (bytes << (64 - 8 * digits)) & 0x0f0f_0f0f_0f0f_0f0f;
    value = (value.wrapping_mul(10 * 256 + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    value = (value.wrapping_mul(100 * 65_536 + 1) >> 16) & 0x0000_ffff_0000_ffff;
    value = value.wrapping_mul(10_000 * 4_294_967_296 + 1) >> 32;
    (value, digits as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::trace::mooncake;
    use crate::kernel::rng::stream;
    use rand::RngExt;

    const LINE: &str = r#"{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 0]}"#;

    #[test]
    fn a_published_line_is_plain() {
        let plain = Plain::scan(LINE.as_bytes()).unwrap();
        assert_eq!(
            (plain.timestamp_ms, plain.input_length, plain.output_length),
            (27482, 6955, 52)
        );
        let mut chain = Chain::new(0);
        assert_eq!(plain.chain, [46, 47, 0].map(|id| chain.link(id)));
    }

    #[test]
    fn integers_are_read_as_written() {
        let mut rng = stream(14, 0);
        for digits in 1..=18_u32 {
            let value = rng.random_range(10_u64.pow(digits - 1)..10_u64.pow(digits));
            for end in ["", ",", " ", "]x", "/9", ":", ", 12345678"] {
                let text = format!("{value}{end}");
                let mut scanner = Scanner { line: text.as_bytes(), at: 0 };
                if let Some(short) = scanner.short_integer() {
                    assert_eq!((short, &text[scanner.at..]), (value, end), "{text}");
                    scanner.at = 0;
                }
                assert_eq!(scanner.integer(), Some(value), "{text}");
                assert_eq!(&text[scanner.at..], end, "{text}");
            }
        }
        for text in ["", "x", "-1", "01", "\u{ff}12345678", "1234567890123456789"] {
            assert_eq!(Scanner { line: text.as_bytes(), at: 0 }.integer(), None, "{text}");
        }
    }

    #[test]
    fn everything_else_is_left_to_the_general_parser() {
        for (from, to) in [
            ("52", "052"),
            ("52", "52.0"),
            ("52", "-52"),
            ("52", ""),
            ("52", "5 2"),
            ("6955", "1234567890123456789"),
            ("hash_ids", "hash_id"),
            ("hash_ids", "timestamp"),
            ("\"output_length\": 52, ", ""),
            ("[46", "[[46"),
            ("0]", "0,]"),
            ("}", "}}"),
            ("}", ""),
            ("}", ", \"delay\": 5}"),
            ("\"timestamp", "\"time\\u0073tamp"),
        ] {
            let line = LINE.replacen(from, to, 1);
            assert_eq!(Plain::scan(line.as_bytes()), None, "{line}");
        }
    }

    /// Whatever the plain form accepts, the general parser reads in the same way.
    #[test]
    fn both_parsers_agree_on_mutated_lines() {
        let mut rng = stream(13, 0);
        let mut plain = 0;
        for _ in 0..20_000 {
            let mut line = LINE.as_bytes().to_vec();
            for _ in 0..rng.random_range(1..3) {
                let at = rng.random_range(0..line.len());
                match rng.random_range(0..3) {
                    0 => line[at] = b"0123456789 ,:\"[]{}-.e"[rng.random_range(0..21)],
                    1 => drop(line.remove(at)),
                    _ => line.insert(at, b"01 ,\"\t"[rng.random_range(0..6)]),
                }
            }
            if Plain::scan(&line).is_some() {
                plain += 1;
                let (one, other) = (mooncake::parse(&line, 512), mooncake::parse_any(&line, 512));
                let text = String::from_utf8_lossy(&line);
                match (one, other) {
                    (Ok(one), Ok(other)) => assert_eq!(one, other, "{text}"),
                    (Err(one), Err(other)) => {
                        assert_eq!(one.to_string(), other.to_string(), "{text}");
                    }
                    (one, other) => panic!("{text}: {one:?}, {other:?}"),
                }
            }
        }
        assert!(plain > 2000, "only {plain} lines were plain");
    }
}

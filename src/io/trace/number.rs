//! Token counts as traces write them.
//!
//! Some tools write every number with a decimal point, so `12.0` is the whole number 12; `12.5` is a mistake.

use serde_json::Number;

use crate::io::trace::error::{Problem, shown};

/// The most tokens a prompt or an output may have: beyond it, it is a mistake.
pub(super) const TOKENS_MAX: u64 = 1 << 30;

/// The tokens that a field of text counts: a whole number from `min`, 0 or 1, to 2^30.
pub(super) fn tokens_of_text(name: &str, text: &str, min: u64) -> Result<u32, Problem> {
    let whole = text.parse().ok().or_else(|| text.parse().ok().and_then(whole));
    in_range(whole, min).ok_or_else(|| refuse(name, shown(text.as_bytes()), min))
}

/// The same for a number in JSON.
pub(super) fn tokens_of_json(name: &str, number: &Number, min: u64) -> Result<u32, Problem> {
    let whole = number.as_u64().or_else(|| number.as_f64().and_then(whole));
    in_range(whole, min).ok_or_else(|| refuse(name, number.to_string(), min))
}

/// A complaint about a count.
pub(super) fn refuse(name: &str, found: String, min: u64) -> Problem {
    let expected =
        if min == 0 { "a whole number from 0 to 2^30" } else { "a whole number from 1 to 2^30" };
    Problem::field(name, found, expected)
}

fn whole(number: f64) -> Option<u64> {
    let whole = number.fract() == 0.0 && (0.0..=TOKENS_MAX as f64).contains(&number);
    whole.then_some(number as u64)
}

fn in_range(tokens: Option<u64>, min: u64) -> Option<u32> {
    tokens.filter(|tokens| (min..=TOKENS_MAX).contains(tokens)).map(|tokens| tokens as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_counts_however_they_are_written() {
        for (text, tokens) in [("1", 1), ("12.0", 12), ("1e3", 1000), ("1073741824", 1 << 30)] {
            assert_eq!(tokens_of_text("n", text, 1).unwrap(), tokens, "{text}");
        }
        assert_eq!(tokens_of_text("n", "0", 0).unwrap(), 0);
    }

    #[test]
    fn everything_else_is_refused() {
        let texts =
            ["", "0", "-1", "-0.0", "0.5", "NaN", "inf", "1e99", "1073741825", "12 3", "0x1", "١"];
        for text in texts {
            assert!(tokens_of_text("n", text, 1).is_err(), "{text}");
        }
    }
}

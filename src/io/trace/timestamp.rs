//! When a request was recorded, as traces write it.
//!
//! Only differences between timestamps matter, so they may count from anything and be negative. Decimals are read digit
//! by digit: seconds since 1970 with nine of them do not fit a float.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::io::trace::error::{Problem, shown};

/// What the timestamps of a trace count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampUnit {
    /// Seconds, with or without decimals.
    S,
    /// Milliseconds, with or without decimals.
    Ms,
    /// Microseconds, with or without decimals.
    Us,
    /// Nanoseconds, rounded to whole ones.
    Ns,
    /// A date and time, such as `2023-11-16 18:17:03.9799600`; UTC unless an offset follows.
    Datetime,
}

impl TimestampUnit {
    /// The nanoseconds that the field `name` stands for.
    pub(super) fn read(self, name: &str, text: &str) -> Result<i64, Problem> {
        let ns = match self {
            TimestampUnit::S => decimal_ns(text, 9),
            TimestampUnit::Ms => decimal_ns(text, 6),
            TimestampUnit::Us => decimal_ns(text, 3),
            TimestampUnit::Ns => decimal_ns(text, 0),
            TimestampUnit::Datetime => datetime_ns(text),
        };
        ns.ok_or_else(|| Problem::field(name, shown(text.as_bytes()), self.expected()))
    }

    /// What would be right, for messages.
    pub(super) fn expected(self) -> &'static str {
        match self {
            TimestampUnit::S => "a number of seconds, at most 292 years of them",
            TimestampUnit::Ms => "a number of milliseconds, at most 292 years of them",
            TimestampUnit::Us => "a number of microseconds, at most 292 years of them",
            TimestampUnit::Ns => "a number of nanoseconds, at most 292 years of them",
            TimestampUnit::Datetime => {
                "a date and time from 1678 to 2261, such as 2023-11-16 18:17:03.98"
            }
        }
    }
}

/// A decimal number of units of 10^`digits` ns, rounded to the nearest nanosecond.
fn decimal_ns(text: &str, digits: u32) -> Option<i64> {
    if text.contains(['e', 'E']) {
        let ns = text.parse::<f64>().ok()? * 10_f64.powi(digits.cast_signed());
        return (ns.abs() < 9e18).then_some(ns.round() as i64);
    }
    let (sign, number) = match text.strip_prefix('-') {
        Some(number) => (-1, number),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut all = whole.bytes().chain(fraction.bytes());
    if number.len() == usize::from(number.contains('.')) || !all.all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let places =
        || fraction.bytes().map(|digit| i64::from(digit - b'0')).chain(std::iter::repeat(0));
    let mut ns = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    for digit in places().take(digits as usize) {
        ns = ns.checked_mul(10)?.checked_add(digit)?;
    }
    let half_up = i64::from(places().nth(digits as usize) >= Some(5));
    Some(sign * ns.checked_add(half_up)?)
}

fn datetime_ns(text: &str) -> Option<i64> {
    // An offset comes after the date, which has a `-` of its own.
    let after_date = text.get(10..)?;
    let timestamp = if after_date.contains(['Z', 'z', '+', '-']) {
        text.parse::<jiff::Timestamp>().ok()?
    } else {
        TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?
    };
    i64::try_from(timestamp.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        let cases = [
            ("1700158623.9799600", 9, 1_700_158_623_979_960_000),
            ("-0.5", 9, -500_000_000),
            ("+3", 6, 3_000_000),
            (".25", 3, 250),
            ("7.", 3, 7_000),
            ("1.4999", 0, 1),
            ("1.5", 0, 2),
            ("1.5e3", 6, 1_500_000_000),
            ("9223372036854775807", 0, i64::MAX),
        ];
        for (text, digits, ns) in cases {
            assert_eq!(decimal_ns(text, digits), Some(ns), "{text}");
        }
        let wrong = [
            "",
            ".",
            "-",
            "--1",
            "+-1",
            "1.2.3",
            "1,5",
            "NaN",
            "inf",
            "1e400",
            "e",
            "9223372036.9",
        ];
        for text in wrong {
            assert_eq!(decimal_ns(text, 9), None, "{text}");
        }
    }

    #[test]
    fn dates_with_and_without_offsets() {
        let ns = 1_700_158_623_979_960_000;
        let texts = [
            "2023-11-16 18:17:03.9799600",
            "2023-11-16T18:17:03.979960000",
            "2023-11-16 18:17:03.97996+00:00",
            "2023-11-16 18:17:03.97996Z",
            "2023-11-16 20:17:03.97996+02:00",
        ];
        for text in texts {
            assert_eq!(datetime_ns(text), Some(ns), "{text}");
        }
        let wrong =
            ["", "1700158623", "2023-13-16 18:17:03", "2023-11-16 25:00:00", "9000-01-01 00:00:00"];
        for text in wrong {
            assert_eq!(datetime_ns(text), None, "{text}");
        }
    }
}

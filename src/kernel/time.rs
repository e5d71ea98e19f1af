//! Virtual time: whole nanoseconds, so that no rounding ever decides an order.
//!
//! [`Time`] is a point on the virtual clock, [`Span`] the distance between two points. Both are `u64` nanoseconds.
//! A point has to fit 56 bits (2.28 years), because an event key packs it with the rest of the order.

use std::fmt;
use std::ops::{Add, AddAssign, Mul, Sub};

/// A point in virtual time, in nanoseconds since the start of the run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Time(u64);

/// A length of virtual time, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Span(u64);

impl Time {
    /// The start of every run.
    pub const ZERO: Time = Time(0);
    /// The last point an event can have: 2^56 - 1 ns, about 834 days.
    pub const MAX: Time = Time((1 << 56) - 1);
    /// A point that no event reaches; "nothing is planned".
    pub const NEVER: Time = Time(u64::MAX);

    /// The point `ns` nanoseconds after the start.
    pub const fn from_ns(ns: u64) -> Time {
        Time(ns)
    }

    /// Nanoseconds since the start.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// Seconds since the start, for reports.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The point `span` later; [`Time::NEVER`] if that is past everything.
    #[must_use]
    pub const fn saturating_add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }

    /// The nanosecond before.
    #[must_use]
    pub fn before(self) -> Time {
        Time(self.0.saturating_sub(1))
    }

    /// The span since `earlier`.
    ///
    /// # Panics
    /// If `earlier` is later than `self`: time never runs backwards inside a model.
    pub fn since(self, earlier: Time) -> Span {
        Span(self.0.checked_sub(earlier.0).expect("virtual time ran backwards"))
    }
}

impl Span {
    /// Longer than any run.
    pub const FOREVER: Span = Span(u64::MAX);
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// A span of `ns` nanoseconds.
    pub const fn from_ns(ns: u64) -> Span {
        Span(ns)
    }

    /// A span of `us` microseconds.
    pub const fn from_us(us: u64) -> Span {
        Span(us * 1_000)
    }

    /// A span of `ms` milliseconds.
    pub const fn from_ms(ms: u64) -> Span {
        Span(ms * 1_000_000)
    }

    /// A span of `secs` seconds.
    pub const fn from_secs(secs: u64) -> Span {
        Span(secs * 1_000_000_000)
    }

    /// The nearest whole number of nanoseconds to `ms` milliseconds; zero when negative or not a number.
    pub fn from_ms_f64(ms: f64) -> Span {
        Span((ms * 1e6).round() as u64)
    }

    /// The nearest whole number of nanoseconds to `secs` seconds; zero when negative or not a number.
    pub fn from_secs_f64(secs: f64) -> Span {
        Span((secs * 1e9).round() as u64)
    }

    /// Nanoseconds.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// Milliseconds.
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Seconds.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Reads a number with a unit: `250ns`, `10us`, `1.5ms`, `3s`, `5m`, `2h`, `1d`; a bare `0` is zero.
    ///
    /// # Errors
    /// [`ParseSpanError`] when the number or the unit is not one of these.
    pub fn parse(text: &str) -> Result<Span, ParseSpanError> {
        let text = text.trim();
        if text == "0" {
            return Ok(Span::ZERO);
        }
        let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or(ParseSpanError)?;
        let (number, unit) = text.split_at(split);
        let unit_ns = match unit {
            "ns" => 1.0,
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "d" => 86400e9,
            _ => return Err(ParseSpanError),
        };
        let number: f64 = number.trim().parse().map_err(|_| ParseSpanError)?;
        let ns = number * unit_ns;
        if !(0.0..=Time::MAX.0 as f64).contains(&ns) {
            return Err(ParseSpanError);
        }
        Ok(Span(ns.round() as u64))
    }
}

/// The text is not a span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseSpanError;

impl fmt::Display for ParseSpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a time with a unit (ns, us, ms, s, m, h, d) of less than 834 days, such as \"1.5ms\"")
    }
}

impl std::error::Error for ParseSpanError {}

impl Add<Span> for Time {
    type Output = Time;

    fn add(self, span: Span) -> Time {
        Time(self.0.checked_add(span.0).expect("virtual time overflowed"))
    }
}

impl AddAssign<Span> for Time {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

impl Add for Span {
    type Output = Span;

    fn add(self, other: Span) -> Span {
        Span(self.0.checked_add(other.0).expect("span overflowed"))
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Span) {
        *self = *self + other;
    }
}

impl Sub for Span {
    type Output = Span;

    fn sub(self, other: Span) -> Span {
        Span(self.0.checked_sub(other.0).expect("negative span"))
    }
}

impl Mul<u64> for Span {
    type Output = Span;

    fn mul(self, factor: u64) -> Span {
        Span(self.0.checked_mul(factor).expect("span overflowed"))
    }
}

impl fmt::Display for Time {
    /// Seconds with all nine decimals: `83.204516000 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09} s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

impl fmt::Display for Span {
    /// The largest unit that keeps it a whole number, so that [`Span::parse`] reads the same value back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (86_400_000_000_000, "d"),
            (3_600_000_000_000, "h"),
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
        ];
        let small = [(1_000_000, "ms"), (1_000, "us"), (1, "ns")];
        for (ns, unit) in units.into_iter().chain(small) {
            if self.0 > 0 && self.0.is_multiple_of(ns) {
                return write!(f, "{}{unit}", self.0 / ns);
            }
        }
        f.write_str("0s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_print_as_they_parse() {
        for text in ["0s", "1ns", "1500us", "1ms", "7s", "90m", "36h", "2d"] {
            assert_eq!(Span::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Span::parse("1.5ms"), Ok(Span::from_us(1500)));
        assert_eq!(Span::parse("0"), Ok(Span::ZERO));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "5", "ms", "-1s", "1 parsec", "nans", "infs", "1e30d", "1e400s"] {
            assert_eq!(Span::parse(text), Err(ParseSpanError), "{text}");
        }
    }

    #[test]
    fn time_prints_every_nanosecond() {
        assert_eq!(Time::from_ns(83_204_516_000).to_string(), "83.204516000 s");
    }
}

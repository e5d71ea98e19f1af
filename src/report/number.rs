//! How numbers look in tables.

/// Two decimals and commas between thousands: `12,345.68`.
pub(super) fn decimal(value: f64) -> String {
    let text = format!("{value:.2}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "00"));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    format!("{sign}{}.{fraction}", grouped(digits))
}

/// Commas between thousands: `12,345`.
pub(super) fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// A share as a percentage: `40.1 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(decimal(1_234_567.891), "1,234,567.89");
        assert_eq!(decimal(-1234.5), "-1,234.50");
        assert_eq!(decimal(0.0), "0.00");
        assert_eq!((count(999), count(1000)), ("999".to_owned(), "1,000".to_owned()));
    }
}

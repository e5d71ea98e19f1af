//! How numbers look in tables.

/// Two decimals and commas between thousands: `12,345.68`.
pub(super) fn decimal(value: f64) -> String {
    fixed(value, 2)
}

/// So many decimals, and commas between thousands.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let whole = text.find('.').unwrap_or(text.len());
    let (whole, fraction) = text.split_at(whole);
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    format!("{sign}{}{fraction}", grouped(digits))
}

/// Commas between thousands: `12,345`.
pub(super) fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// A share as a percentage: `40.1 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A figure that there need not be.
pub(super) fn or_dash(figure: Option<String>) -> String {
    figure.unwrap_or_else(|| "-".to_owned())
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
        assert_eq!((fixed(12_345.0, 0), fixed(0.5, 1)), ("12,345".to_owned(), "0.5".to_owned()));
        assert_eq!((count(999), count(1000)), ("999".to_owned(), "1,000".to_owned()));
    }
}

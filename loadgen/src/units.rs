//! Times and rates as people write and read them.

use std::time::Duration;

/// Reads a time such as `200us`, `1.5ms`, `10s`, `2m`.
pub fn parse_time(text: &str) -> Option<Duration> {
    let at = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().ok()?;
    let ns_per_unit = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        _ => return None,
    };
    let ns = number * ns_per_unit;
    (ns <= NS_MAX).then(|| Duration::from_nanos(ns.round() as u64))
}

/// Reads calls per second: `20000`, `20k`, `1.5M`.
///
/// # Errors
/// In words for the user.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1e3),
        Some(b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let rate = digits.parse::<f64>().ok().map(|number| number * factor);
    rate.filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate))
        .ok_or_else(|| {
            format!("`{text}` is no rate: use calls per second from 0.1 to 100M, such as 20000, 20k or 1.5M")
        })
}

const RATE_MIN: f64 = 0.1;
const RATE_MAX: f64 = 1e8;

/// A time with three digits: `1.23 ms`.
pub fn format_ns(ns: f64) -> String {
    let (number, unit) = match ns {
        _ if ns < 1e3 => return format!("{ns:.0} ns"),
        _ if ns < 1e6 => (ns / 1e3, "µs"),
        _ if ns < 1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(number))
}

/// A number from 1 to 1000 with three digits.
fn three_digits(number: f64) -> String {
    let decimals = if number < 10.0 {
        2
    } else {
        usize::from(number < 100.0)
    };
    format!("{number:.decimals$}")
}

/// A count with spaces between the thousands.
pub fn format_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Ten days: whatever is longer was meant in another unit.
const NS_MAX: f64 = 864e12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit_only() {
        assert_eq!(parse_time("200us"), Some(Duration::from_micros(200)));
        assert_eq!(parse_time("1.5ms"), Some(Duration::from_micros(1500)));
        assert_eq!(parse_time("2m"), Some(Duration::from_secs(120)));
        for wrong in [
            "",
            "5",
            "us",
            "-1us",
            "1.2.3s",
            "1h",
            "1e9s",
            "99999999999s",
        ] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(format_ns(12.3), "12 ns");
        assert_eq!(format_ns(1_234.0), "1.23 µs");
        assert_eq!(format_ns(45_678_900.0), "45.7 ms");
        assert_eq!(format_ns(2e9), "2.00 s");
        assert_eq!(format_count(1_234_567), "1 234 567");
        assert_eq!(format_count(123), "123");
    }
}

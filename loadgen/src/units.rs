//! Times, rates and the like as people write and read them.

use std::time::Duration;

use ringcall::Idle;

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
        "h" => 3600e9,
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

/// Reads what a loop does when it has nothing to do: `park`, `spin`, `spin:50us`.
///
/// # Errors
/// In words for the user.
pub fn parse_idle(text: &str) -> Result<Idle, String> {
    let time = || parse_time(text.strip_prefix("spin:")?).filter(|time| *time <= SPIN_MAX);
    match text {
        "park" => Ok(Idle::Park),
        "spin" => Ok(Idle::Spin),
        _ => time().map(Idle::SpinThenPark).ok_or_else(|| {
            "use park, spin, or spin with a time, such as spin:50us or spin:2ms".into()
        }),
    }
}

/// The same as [`parse_idle`] reads it.
pub fn format_idle(idle: Idle) -> String {
    match idle {
        Idle::Park => "park".into(),
        Idle::Spin => "spin".into(),
        Idle::SpinThenPark(time) => match time.as_nanos() {
            ns if ns % 1000 == 0 => format!("spin:{}us", ns / 1000),
            ns => format!("spin:{ns}ns"),
        },
        other => format!("{other:?}"),
    }
}

/// Who spins for longer may as well never sleep.
const SPIN_MAX: Duration = Duration::from_secs(3600);
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
    format!("{} {unit}", significant(number))
}

/// A number with three digits or more; a tiny one with two and its power of ten.
pub fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        tiny if tiny < 0.001 => return format!("{value:.1e}"),
        value if value < 0.01 => 5,
        value if value < 0.1 => 4,
        value if value < 1.0 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Calls per second with as many digits as mean something: `45.7 k`.
pub fn format_rate(per_s: f64) -> String {
    if per_s < 100.0 {
        significant(per_s)
    } else if per_s < 10_000.0 {
        format!("{per_s:.0}")
    } else if per_s < 1e6 {
        format!("{:.1} k", per_s / 1e3)
    } else {
        format!("{:.2} M", per_s / 1e6)
    }
}

/// The same with all digits: `45 678`; what is less than a hundred has three.
pub fn format_per_s(per_s: f64) -> String {
    if per_s < 100.0 {
        significant(per_s)
    } else {
        format_count(per_s.round() as u64)
    }
}

/// A share of a whole: `41 %`; what is less than ten has a digit more.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 9.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// A number of things, in the plural unless it is one.
pub fn several(count: usize, thing: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {thing}{ending}", format_count(count as u64))
}

/// What `show` makes of a value, or a dash for none.
pub fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

/// A text as it stands in HTML and SVG.
pub fn escape_markup(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
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
        assert_eq!(parse_time("1h"), Some(Duration::from_secs(3600)));
        for wrong in [
            "",
            "5",
            "us",
            "-1us",
            "1.2.3s",
            "1d",
            "1e9s",
            "99999999999s",
        ] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn idle_modes_are_read_and_written() {
        for text in ["park", "spin", "spin:50us", "spin:1500ns"] {
            assert_eq!(parse_idle(text).map(format_idle).as_deref(), Ok(text));
        }
        let two_ms = Idle::SpinThenPark(Duration::from_millis(2));
        assert_eq!(parse_idle("spin:2ms"), Ok(two_ms));
        for wrong in [
            "",
            "spin:",
            "spin:50",
            "spin:us",
            "spin:-1us",
            "spin:9999999999us",
            "Park",
        ] {
            assert!(parse_idle(wrong).is_err(), "{wrong}");
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
        let numbers = [0.0, 2.71e-5, 0.001234, 0.1234, 1.234, 12.34, 123.4];
        assert_eq!(
            numbers.map(significant),
            ["0", "2.7e-5", "0.00123", "0.123", "1.23", "12.3", "123"]
        );
    }

    #[test]
    fn rates_and_numbers_of_things_are_short() {
        assert_eq!(format_rate(0.25), "0.250");
        assert_eq!(format_rate(1234.5), "1234");
        assert_eq!(format_per_s(2.5), "2.50");
        assert_eq!(format_per_s(1234.4), "1 234");
        assert_eq!(
            [0.0, 0.005, 0.0996, 0.41].map(percent),
            ["0 %", "0.5 %", "10 %", "41 %"]
        );
        assert_eq!(format_rate(45_678.0), "45.7 k");
        assert_eq!(format_rate(2_345_678.0), "2.35 M");
        assert_eq!(several(1, "run"), "1 run");
        assert_eq!(several(2, "run"), "2 runs");
    }
}

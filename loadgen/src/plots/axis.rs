//! Axes: where ticks are, and what stands beside them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::units::{format_ns, format_per_s};

/// How values become positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

/// What an axis shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Nanoseconds.
    TimeNs,
    /// Calls per second.
    Rate,
    /// Seconds.
    Seconds,
    /// A share, as percent.
    Percent,
    /// A plain number.
    Number,
    /// A distance from 100 %: 10 is 90 %, 100 is 99 %.
    Nines,
    /// The place of one of the axis' names.
    Name,
}

/// An axis from `low` to `high`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) quantity: Quantity,
    pub(super) scale: Scale,
    pub(super) low: f64,
    pub(super) high: f64,
    /// What the values 0, 1, 2 … stand for, when they are of [`Quantity::Name`].
    pub(super) names: Vec<String>,
}

impl Axis {
    /// A linear axis from zero (or the lowest value, if that is negative) to a little above all
    /// values.
    pub(super) fn linear(
        label: &str,
        quantity: Quantity,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        let (mut low, mut high) = (0.0, 0.0);
        for value in values {
            low = f64::min(low, value);
            high = f64::max(high, value);
        }
        let room = (high - low).max(f64::MIN_POSITIVE) * 0.06;
        Self {
            label: label.to_owned(),
            quantity,
            scale: Scale::Linear,
            low: if low < 0.0 { low - room } else { 0.0 },
            high: if high > low { high + room } else { 1.0 },
            names: Vec::new(),
        }
    }

    /// A logarithmic axis around all positive values.
    pub(super) fn log(
        label: &str,
        quantity: Quantity,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0);
        for value in values.into_iter().filter(|value| *value > 0.0) {
            low = f64::min(low, value);
            high = f64::max(high, value);
        }
        if high == 0.0 {
            (low, high) = (1.0, 10.0);
        }
        Self {
            label: label.to_owned(),
            quantity,
            scale: Scale::Log,
            low: low / LOG_ROOM,
            high: high * LOG_ROOM,
            names: Vec::new(),
        }
    }

    /// An axis with a tick for each name.
    pub(super) fn named(names: Vec<String>) -> Self {
        Self {
            label: String::new(),
            quantity: Quantity::Name,
            scale: Scale::Linear,
            low: -0.6,
            high: names.len() as f64 - 0.4,
            names,
        }
    }

    /// Where a value lies, on a line.
    fn position(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    /// Values with a tick, ascending.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self.scale {
            _ if self.quantity == Quantity::Name => {
                (0..self.names.len()).map(|at| at as f64).collect()
            }
            Scale::Linear => self.linear_ticks(),
            Scale::Log => self.log_ticks(),
        }
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
        let fitting = steps.into_iter().find(|step| *step >= rough);
        let mut step = fitting.unwrap_or(10.0 * power);
        if self.quantity == Quantity::Number && self.high > 2.0 {
            // Numbers are counts of something.
            step = step.max(1.0).round();
        }
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|at| at as f64 * step).collect()
    }

    fn log_ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let factors: &[f64] = match decades {
            _ if self.quantity == Quantity::Nines => &[1.0],
            _ if decades > 3.0 => &[1.0],
            _ if decades > 1.3 => &[1.0, 3.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
        };
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        let all = (first..=last)
            .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        all.filter(|tick| (self.low..=self.high).contains(tick))
            .collect()
    }

    /// A value with three digits and its unit.
    pub(super) fn value_text(&self, value: f64) -> String {
        match self.quantity {
            Quantity::TimeNs => format_ns(value),
            Quantity::Rate => format!("{} calls/s", format_per_s(value)),
            Quantity::Seconds => format!("{value:.1} s"),
            _ => self.text(value),
        }
    }

    pub(super) fn text(&self, value: f64) -> String {
        match self.quantity {
            Quantity::TimeNs => time(value),
            Quantity::Rate => rate(value),
            Quantity::Percent => format!("{} %", tidy(value * 100.0)),
            Quantity::Number | Quantity::Seconds => tidy(value).to_string(),
            Quantity::Name => self.names[value as usize].clone(),
            Quantity::Nines => format!("{} %", tidy(100.0 * (1.0 - 1.0 / value))),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let value = value.clamp(self.low, self.high);
        let (low, high) = (self.position(self.low), self.position(self.high));
        let share = (self.position(value) - low) / (high - low);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // There are no lines between the ticks.
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks()
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.text(*value)
    }
}

/// A time without superfluous digits: `1.5 ms`.
pub(super) fn time(ns: f64) -> String {
    let (unit, factor) = match ns.abs() {
        ns if ns >= 1e9 => ("s", 1e9),
        ns if ns >= 1e6 => ("ms", 1e6),
        ns if ns >= 1e3 => ("µs", 1e3),
        _ => ("ns", 1.0),
    };
    format!("{} {unit}", tidy(ns / factor))
}

/// A rate without superfluous digits: `20k`.
pub(super) fn rate(per_s: f64) -> String {
    match per_s.abs() {
        size if size >= 1e6 => format!("{}M", tidy(per_s / 1e6)),
        size if size >= 1e3 => format!("{}k", tidy(per_s / 1e3)),
        _ => tidy(per_s).to_string(),
    }
}

/// Without the noise of binary fractions.
fn tidy(number: f64) -> f64 {
    // Adding zero makes -0 a 0.
    (number * 1e4).round() / 1e4 + 0.0
}

/// About so many ticks on a linear axis.
const TICKS: f64 = 7.0;
const LOG_ROOM: f64 = 1.3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round() {
        let axis = Axis::linear("", Quantity::Rate, [3.0, 117_000.0]);
        let texts: Vec<_> = axis.ticks().iter().map(|tick| axis.text(*tick)).collect();
        assert_eq!(texts, ["0", "20k", "40k", "60k", "80k", "100k", "120k"]);
        let shards = Axis::linear("", Quantity::Number, [1.0, 4.0]);
        assert_eq!(shards.ticks(), [0.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn log_ticks_are_round_and_within() {
        let axis = Axis::log("", Quantity::TimeNs, [40e3, 9e6]);
        let texts: Vec<_> = axis.ticks().iter().map(|tick| axis.text(*tick)).collect();
        assert_eq!(texts, ["100 µs", "300 µs", "1 ms", "3 ms", "10 ms"]);
        assert_eq!(Axis::log("", Quantity::Nines, [5.0, 50.0]).ticks(), [10.0]);
        let nines = Axis::log("", Quantity::Nines, [1.0, 10_000.0]);
        let texts: Vec<_> = nines.ticks().iter().map(|tick| nines.text(*tick)).collect();
        assert_eq!(texts, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn axes_without_values_can_be_drawn() {
        for axis in [
            Axis::linear("", Quantity::Rate, []),
            Axis::log("", Quantity::TimeNs, [0.0]),
        ] {
            assert!(axis.low < axis.high && axis.ticks().len() > 1, "{axis:?}");
        }
    }
}

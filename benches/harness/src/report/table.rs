//! Markdown tables with aligned columns, so that they read well in a terminal too.

use std::fmt::{Display, Write};

/// A table to be. Columns are as wide as their longest cell, texts left and numbers right.
#[derive(Debug)]
pub struct Table {
    left_columns: usize,
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings, of which the first few are above texts.
    pub fn new(headings: &[&str], left_columns: usize) -> Self {
        let headings = headings.iter().map(|&heading| heading.to_owned());
        Self {
            left_columns,
            lines: vec![headings.collect()],
        }
    }

    /// Adds a line.
    ///
    /// # Panics
    /// When it has not as many cells as there are headings.
    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().collect();
        assert_eq!(cells.len(), self.lines[0].len());
        self.lines.push(cells);
    }

    fn width(&self, column: usize) -> usize {
        let lengths = self.lines.iter().map(|line| line[column].chars().count());
        lengths.max().unwrap_or(0).max(3)
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.lines[0].len();
        let widths: Vec<_> = (0..columns).map(|column| self.width(column)).collect();
        for (number, line) in self.lines.iter().enumerate() {
            for (column, (text, width)) in line.iter().zip(&widths).enumerate() {
                if column < self.left_columns {
                    write!(f, "| {text:<width$} ")?;
                } else {
                    write!(f, "| {text:>width$} ")?;
                }
            }
            f.write_str("|\n")?;
            if number > 0 {
                continue;
            }
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width - 1);
                if column < self.left_columns {
                    write!(f, "| :{dashes} ")?;
                } else {
                    write!(f, "| {dashes}: ")?;
                }
            }
            f.write_str("|\n")?;
        }
        Ok(())
    }
}

/// A rate with as many digits as mean something.
pub fn rate(calls_per_s: f64) -> String {
    if calls_per_s < 10_000.0 {
        format!("{calls_per_s:.0}")
    } else if calls_per_s < 1e6 {
        format!("{:.1} k", calls_per_s / 1e3)
    } else {
        format!("{:.2} M", calls_per_s / 1e6)
    }
}

/// A number with three digits or more; a tiny one with two and its power of ten.
pub fn significant(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        tiny if tiny < 0.001 => return format!("{value:.1e}"),
        value if value < 0.01 => 5,
        value if value < 0.1 => 4,
        value if value < 1.0 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// A number of things, in the plural unless it is one.
pub fn several(count: usize, thing: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{ending}")
}

/// A share of a whole.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// What `show` makes of a value, or a dash for none.
pub fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

/// Appends text; a string takes all.
pub fn add(out: &mut String, text: impl Display) {
    write!(out, "{text}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["cell", "peer", "k/s"], 2);
        table.push(["64×1", "raw", "12345"].map(str::to_owned));
        assert_eq!(
            table.to_string(),
            "| cell | peer |   k/s |\n| :--- | :--- | ----: |\n| 64×1 | raw  | 12345 |\n"
        );
    }

    #[test]
    fn numbers_keep_what_they_mean() {
        assert_eq!(rate(1234.5), "1234");
        assert_eq!(rate(45_678.0), "45.7 k");
        assert_eq!(rate(2_345_678.0), "2.35 M");
        let numbers = [0.0, 2.71e-5, 0.001234, 0.1234, 1.234, 12.34, 123.4];
        assert_eq!(
            numbers.map(significant),
            ["0", "2.7e-5", "0.00123", "0.123", "1.23", "12.3", "123"]
        );
        assert_eq!(several(1, "run"), "1 run");
        assert_eq!(several(2, "run"), "2 runs");
    }
}

//! The results as a table, for people.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

use super::report::{Report, Row};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.payload_bytes;
        writeln!(
            f,
            "Echo of {bytes} bytes, one server shard; latency in µs\n"
        )?;
        writeln!(f, "{}\n", table(&self.rows))?;
        let mut line = |name: &str, text: &str| writeln!(f, "{name:<14} {text}");
        let in_place = self.in_place_ratio * 100.0;
        line("read in place", &format!("{in_place:.2} % of the requests"))?;
        match self.engine_features.as_slice() {
            [] => line("engine", &self.engine)?,
            features => line(
                "engine",
                &format!("{}: {}", self.engine, features.join(", ")),
            )?,
        }
        match (self.server_cpu, self.client_cpu) {
            (Some(server), Some(client)) => {
                line("CPUs", &format!("server on {server}, load on {client}"))?;
            }
            _ => line("CPUs", "not pinned")?,
        }
        line("closed loop", CLOSED_LOOP)?;
        line("open loop", OPEN_LOOP)?;
        let warm_up = format!("{} s before each row, not counted", self.warm_up_s);
        line("warm-up", &warm_up)?;
        if self.rows.iter().any(|row| !row.is_firm(0.999)) {
            line("~", "fewer than 100 calls lie beyond this percentile")?;
        }
        for note in &self.notes {
            line("note", note)?;
        }
        Ok(())
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "transport",
        "load",
        "conns",
        "depth",
        "calls/s",
        "p50",
        "p99",
        "p99.9",
        "errors",
        "server CPU\nµs/call",
    ]);
    for row in rows {
        table.add_row([
            row.transport.to_owned(),
            row.mode_in_words.clone(),
            row.conns.to_string(),
            match row.offered_per_s {
                Some(_) => format!("≤ {}", row.depth),
                None => row.depth.to_string(),
            },
            grouped(row.calls_per_s),
            latency(row, 0.5, row.p50_us),
            latency(row, 0.99, row.p99_us),
            latency(row, 0.999, row.p999_us),
            row.errors.to_string(),
            format!("{:.2}", row.server_cpu_us_per_call),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn latency(row: &Row, quantile: f64, us: f64) -> String {
    let mark = if row.is_firm(quantile) { "" } else { "~" };
    if us < 100.0 {
        format!("{mark}{us:.1}")
    } else {
        format!("{mark}{}", grouped(us))
    }
}

/// A whole number with a space between thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

const CLOSED_LOOP: &str = "each caller waits for its answer before it calls again; latency is service time, from the actual call";
const OPEN_LOOP: &str = "calls come at fixed random times, answered or not; latency is response time, from the intended call";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(1_234_567.4), "1 234 567");
        assert_eq!(grouped(999.6), "1 000");
        assert_eq!(grouped(0.0), "0");
    }
}

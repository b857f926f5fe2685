//! A report as a markdown table with aligned columns, so that it reads well in a terminal too.

use std::fmt::Write;

use super::Report;
use super::row::{Row, Spread};

pub(super) fn render(report: &Report) -> String {
    let mut out = about(report);
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(report.rows.iter().map(cells_of));
    table(&lines, &mut out);
    out.push_str(LEGEND);
    out
}

fn about(report: &Report) -> String {
    let environment = &report.environment;
    let mut out = String::new();
    let placement = match (environment.server_cpu, environment.client_cpu) {
        (Some(server), Some(client)) => format!("server on CPU {server}, client on CPU {client}"),
        _ => "nothing pinned, because only one CPU may be used".to_owned(),
    };
    writeln!(
        out,
        "`{}`\n\n{} × {}, Linux {}; {placement}; {} runs of {} s per peer, alternated; payload {} \
         bytes; {} disturbed rounds replaced.\n",
        environment.command,
        environment.cpus,
        environment.cpu_model,
        environment.kernel,
        environment.runs,
        environment.seconds,
        environment.payload_bytes,
        report.rounds_replaced,
    )
    .expect("a string takes all");
    out
}

const HEADINGS: [&str; 13] = [
    "cell",
    "server",
    "calls/s",
    "min–max",
    "of medians",
    "of pairs",
    "p50 µs",
    "p99 µs",
    "CPU µs/call",
    "server busy",
    "client busy",
    "others",
    "in place",
];

const LEGEND: &str = "
Cell: connections × calls in flight on each, transport, how both sides wait while idle. Figures are
medians over the runs. *of medians*: median rate against the baseline's; *of pairs*: median of the
ratios of neighbouring runs, and where it lies with 95 % confidence. *CPU*: of the server process, kernel included.
*busy*: share of the time on the CPU; a side that is less than fully busy waited for the other.
*others*: share of both CPUs that went to other processes or to the host.
";

fn cells_of(row: &Row) -> [String; 13] {
    let rate = |calls_per_s: f64| format!("{:.1} k", calls_per_s / 1e3);
    let Spread { median, min, max } = row.calls_per_s;
    let none = || "–".to_owned();
    let ratios = row.against_baseline;
    [
        format!(
            "{}×{} {} {}",
            row.connections, row.depth, row.transport, row.idle
        ),
        row.peer.clone(),
        rate(median),
        format!("{}–{}", rate(min), rate(max)),
        ratios.map_or_else(none, |ratios| format!("{:.3}", ratios.rate_of_medians)),
        ratios.map_or_else(none, |ratios| {
            let (low, high) = ratios.rate_pairs_confidence;
            format!("{:.3} ({low:.2}–{high:.2})", ratios.rate_median_of_pairs)
        }),
        match ratios {
            Some(ratios) => format!("{:.1} (×{:.2})", row.p50_us.median, ratios.p50),
            None => format!("{:.1}", row.p50_us.median),
        },
        format!("{:.1}", row.p99_us.median),
        format!("{:.3}", row.server_cpu_us_per_call.median),
        format!("{:.0} %", row.server_busy * 100.0),
        format!("{:.0} %", row.client_busy * 100.0),
        row.others_busy
            .map_or_else(none, |share| format!("{:.0} %", share * 100.0)),
        row.in_place_ratio
            .map_or_else(none, |ratio| format!("{:.2} %", ratio * 100.0)),
    ]
}

/// Columns as wide as their longest cell; the first two left, numbers right.
fn table<const COLUMNS: usize>(lines: &[[String; COLUMNS]], out: &mut String) {
    const LEFT_COLUMNS: usize = 2;
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let lengths = lines.iter().map(|line| line[column].chars().count());
        lengths.max().unwrap_or(0).max(3)
    });
    for (number, line) in lines.iter().enumerate() {
        for (column, (text, width)) in line.iter().zip(widths).enumerate() {
            if column < LEFT_COLUMNS {
                write!(out, "| {text:<width$} ")
            } else {
                write!(out, "| {text:>width$} ")
            }
            .expect("a string takes all");
        }
        out.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width - 1);
                let rule = if column < LEFT_COLUMNS {
                    format!("| :{dashes} ")
                } else {
                    format!("| {dashes}: ")
                };
                out.push_str(&rule);
            }
            out.push_str("|\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let lines = [["cell", "peer", "k/s"], ["64×1", "raw", "12345"]];
        let mut out = String::new();
        table(&lines.map(|line| line.map(str::to_owned)), &mut out);
        assert_eq!(
            out,
            "| cell | peer |   k/s |\n| :--- | :--- | ----: |\n| 64×1 | raw  | 12345 |\n"
        );
    }
}

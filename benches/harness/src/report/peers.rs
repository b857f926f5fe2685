//! The report of `vs_peers` as markdown.

use super::Report;
use super::row::{Ratios, Row};
use super::table::{Table, add, or_dash, percent, rate, significant};
use crate::idle::Idle;
use crate::point::Bytes;
use crate::servers::process::Transport;
use crate::work::Workload;

/// Everything: one table for each workload, size and kind of socket.
pub(super) fn render(report: &Report) -> String {
    let mut out = about(report);
    for rows in report.cells.chunk_by(|a, b| group(a) == group(b)) {
        let (workload, payload_bytes, transport) = group(&rows[0]);
        let size = Bytes(payload_bytes);
        add(
            &mut out,
            format_args!("\n### {workload} of {size} over {transport}\n\n"),
        );
        let mut table = Table::new(&HEADINGS, 2);
        rows.iter().for_each(|row| table.push(line(row)));
        add(&mut out, table);
    }
    out.push_str(LEGEND);
    out
}

/// A few columns of the points that most people ask for.
pub(super) fn summary(report: &Report) -> Option<String> {
    let mut table = Table::new(&SUMMARY_HEADINGS, 2);
    let mut rows = report.cells.iter().filter(|row| is_telling(row)).peekable();
    rows.peek()?;
    rows.for_each(|row| {
        table.push([
            cell(row),
            row.peer.clone(),
            rate(row.calls_per_s),
            times(row.against.get("raw")),
            times(row.against.get("tonic")),
            significant(row.p50_us),
            significant(row.p99_us),
            significant(row.server_cpu_us_per_call),
            or_dash(row.allocations_per_call, significant),
        ]);
    });
    Some(format!("{}\n{table}{SUMMARY_LEGEND}", about(report)))
}

/// Whether a row belongs into the summary and its picture: echoes of 64 bytes, nobody spinning.
pub(super) fn is_telling(row: &Row) -> bool {
    (row.workload, row.payload_bytes, row.idle) == (Workload::Echo, 64, Idle::Park)
        && TELLING.contains(&(row.conns, row.depth))
}

/// Connections and depths of the summary: one caller, many callers, and many that pipeline.
const TELLING: [(usize, usize); 3] = [(1, 1), (64, 1), (64, 16)];

fn group(row: &Row) -> (Workload, usize, Transport) {
    (row.workload, row.payload_bytes, row.transport)
}

fn about(report: &Report) -> String {
    let method = &report.method;
    format!(
        "{}\n{} runs of {} s per server, alternated, after {} s each that don't count; {} disturbed \
         rounds replaced.\n",
        report.environment,
        method.runs,
        method.seconds,
        method.warm_up_seconds,
        method.rounds_replaced,
    )
}

const HEADINGS: [&str; 16] = [
    "cell",
    "server",
    "calls/s",
    "95 %",
    "× raw",
    "× raw-epoll",
    "× tonic",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "CPU µs/call",
    "CPU × tonic",
    "allocs/call",
    "syscalls/call",
    "busy: server, client, others",
    "in place",
];

const LEGEND: &str = "
Cell: connections × calls in flight on each, and how both sides wait while idle (*park*: asleep in
the kernel). Figures are medians over the runs; *95 %*: where the median lies with 95 % confidence.
*×*: median of the ratios of rates of neighbouring runs, with its 95 %. *CPU*: of the server process,
kernel included. *busy*: share of the time on the CPU; a side that is less than fully busy waited
for the other; *others*: share of both CPUs that went to other processes or to the host. Allocations
and system calls are the server's, counted in a run of its own; a dash means that they were not.
`raw` and `raw-epoll` return bytes without looking at them.
";

const SUMMARY_HEADINGS: [&str; 9] = [
    "cell",
    "server",
    "calls/s",
    "× raw",
    "× tonic",
    "p50 µs",
    "p99 µs",
    "CPU µs/call",
    "allocs/call",
];

const SUMMARY_LEGEND: &str = "
Cell: connections × calls in flight on each. *×*: ratio of rates with its 95 % confidence. *CPU* and
*allocs*: of the server.
";

fn line(row: &Row) -> [String; 16] {
    let (low, high) = row.calls_per_s_interval;
    let tonic = row.against.get("tonic");
    [
        format!("{} {}", cell(row), row.idle),
        row.peer.clone(),
        rate(row.calls_per_s),
        format!("{}–{}", rate(low), rate(high)),
        times(row.against.get("raw")),
        times(row.against.get("raw-epoll")),
        times(tonic),
        significant(row.p50_us),
        significant(row.p99_us),
        significant(row.p999_us),
        significant(row.server_cpu_us_per_call),
        or_dash(tonic, |ratios| significant(ratios.server_cpu_us_per_call)),
        or_dash(row.allocations_per_call, significant),
        or_dash(row.syscalls_per_call, significant),
        format!(
            "{}, {}, {}",
            percent(row.server_busy),
            percent(row.client_busy),
            or_dash(row.others_busy, percent)
        ),
        or_dash(row.in_place_ratio, |ratio| {
            format!("{:.2} %", ratio * 100.0)
        }),
    ]
}

fn cell(row: &Row) -> String {
    format!("{}×{} {}", row.conns, row.depth, row.transport)
}

fn times(ratios: Option<&Ratios>) -> String {
    or_dash(ratios, |ratios| {
        let (low, high) = ratios.calls_per_s_interval;
        let [ratio, low, high] = [ratios.calls_per_s, low, high].map(significant);
        format!("{ratio} ({low}–{high})")
    })
}

//! The report of `vs_peers` as markdown.

use std::collections::BTreeSet;

use loadgen::report::document::Table;
use loadgen::report::markdown::render_table;
use loadgen::units::{format_idle, format_rate, or_dash, percent, several, significant};
use ringcall::Idle;

use super::row::{FailedRow, Figures, Interval, Row, Subject};
use super::{Intervals, Report};
use crate::point::Bytes;
use crate::servers::process::Transport;
use crate::work::Workload;

/// Everything: one table for each workload, size and kind of socket.
pub(super) fn render(report: &Report) -> String {
    let mut out = about(report);
    for group in groups(report) {
        let (workload, payload_bytes, transport) = group;
        let size = Bytes(payload_bytes);
        let table = table(
            report,
            |subject| group_of(subject) == group,
            cell_and_idle,
            &COLUMNS,
        );
        out += &format!("\n### {workload} of {size} over {transport}\n\n{table}");
    }
    out + &legend(report)
}

/// A few columns of the points that most people ask for.
pub(super) fn summary(report: &Report) -> Option<String> {
    let is_measured = report.cells.iter().any(|row| is_telling(&row.subject));
    let table = table(report, is_telling, cell, &SUMMARY_COLUMNS);
    is_measured.then(|| format!("{}\n{table}{SUMMARY_LEGEND}", about(report)))
}

/// A table of those who were measured at some points, with dashes for the others behind those of their
/// cell, and below it what went wrong.
fn table(
    report: &Report,
    is_wanted: impl Fn(&Subject) -> bool,
    cell_of: fn(&Subject) -> String,
    columns: &[Column],
) -> String {
    let rows = report.cells.iter().filter(|row| is_wanted(&row.subject));
    let start = |subject: &Subject| vec![cell_of(subject), subject.peer.clone()];
    let mut lines: Vec<_> = rows
        .map(|row| {
            [
                start(&row.subject),
                columns.iter().map(|(_, show)| show(row)).collect(),
            ]
            .concat()
        })
        .collect();
    let failed = report
        .failed
        .iter()
        .filter(|failed| is_wanted(&failed.subject));
    for failed in failed
        .clone()
        .filter(|failed| is_unmeasured(report, failed))
    {
        let start = start(&failed.subject);
        let last = lines.iter().rposition(|line| line[0] == start[0]);
        let dashes = vec![or_dash(None::<f64>, significant); columns.len()];
        lines.insert(
            last.map_or(lines.len(), |last| last + 1),
            [start, dashes].concat(),
        );
    }
    let headings = columns
        .iter()
        .map(|(heading, _)| match report.method.intervals {
            Intervals::Range | Intervals::None if *heading == INTERVAL => "range",
            _ => heading,
        });
    let headings: Vec<_> = ["cell", "server"].into_iter().chain(headings).collect();
    render_table(&Table::new(&headings, lines), TEXT_COLUMNS) + &notes(failed)
}

/// Whether this belongs into the summary and its picture: echoes of 64 bytes, nobody spinning.
pub(super) fn is_telling(subject: &Subject) -> bool {
    (subject.workload, subject.payload_bytes, subject.idle) == (Workload::Echo, 64, Idle::Park)
        && TELLING.contains(&(subject.conns, subject.depth))
}

/// Connections and depths of the summary: one caller, many callers, and many that pipeline.
const TELLING: [(usize, usize); 3] = [(1, 1), (64, 1), (64, 16)];

/// What one table is about.
type Group = (Workload, usize, Transport);

fn group_of(subject: &Subject) -> Group {
    (subject.workload, subject.payload_bytes, subject.transport)
}

/// Each once, in the order in which they were measured.
fn groups(report: &Report) -> Vec<Group> {
    let measured = report.cells.iter().map(|row| &row.subject);
    let failed = report.failed.iter().map(|failed| &failed.subject);
    let mut groups = Vec::new();
    for group in measured.chain(failed).map(group_of) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// Whether a failure left nothing: one that only counts lacks has its row.
fn is_unmeasured(report: &Report, failed: &FailedRow) -> bool {
    !report.cells.iter().any(|row| row.subject == failed.subject)
}

/// What went wrong, as a list below a table.
fn notes<'a>(failed: impl Iterator<Item = &'a FailedRow>) -> String {
    let mut notes = String::new();
    for failed in failed {
        let FailedRow { subject, error } = failed;
        let (start, cell) = (if notes.is_empty() { "\n" } else { "" }, cell(subject));
        let (peer, idle) = (&subject.peer, format_idle(subject.idle));
        notes += &format!("{start}- {peer} at {cell} {idle}: {error}\n");
    }
    notes
}

fn about(report: &Report) -> String {
    let method = &report.method;
    format!(
        "{}\n{} of {} s per server, alternated, after {} s each that don't count. {}\n",
        report.environment,
        several(method.runs, "run"),
        method.seconds,
        method.warm_up_seconds,
        method.noise(),
    )
}

fn legend(report: &Report) -> String {
    let intervals = match report.method.intervals {
        Intervals::Confidence => {
            "*95 %*: where the median lies with 95 % confidence, also behind ratios"
        }
        Intervals::Range => {
            "*range*: the lowest and the highest run, also behind ratios; fewer than six runs allow \
             no confidence of 95 %"
        }
        Intervals::None => "one run has no interval",
    };
    let counters = report
        .cells
        .iter()
        .filter_map(|row| row.syscalls_counted_by);
    let counters: BTreeSet<_> = counters.collect();
    let mut syscalls = String::new();
    for counter in counters {
        syscalls += &format!("\nSystem calls were counted by {counter}.");
    }
    format!(
        "
Cell: connections × calls in flight on each, and how both sides wait while idle (*park*: asleep in
the kernel). Figures are medians over the runs; {intervals}.
*×*: median of the ratios of runs of the same round: of rates, or where it says so of CPU times. *CPU*:
of the server process, and where it says so of the client's, kernel included. *busy*: share of the time on the CPU; a side that is less than
fully busy waited for the other; *others*: share of both CPUs that went to other processes or to the
host. p99.9 of a run of fewer than 1000 calls is its slowest. Allocations and system calls are the
server's, counted in a run of its own; a dash means that they were not.{syscalls}
`raw` and `raw-epoll` return bytes without looking at them.
"
    )
}

/// Cell and server.
const TEXT_COLUMNS: usize = 2;

/// What stands above a figure, and how it is written.
type Column = (&'static str, fn(&Row) -> String);

const RATE: Column = ("calls/s", |row| format_rate(row.figures.calls_per_s));
const TIMES_RAW: Column = ("× raw", |row| times(row.against.get("raw"), rates));
const TIMES_TONIC: Column = ("× tonic", |row| times(row.against.get("tonic"), rates));
const P50: Column = ("p50 µs", |row| significant(row.figures.p50_us));
const P99: Column = ("p99 µs", |row| significant(row.figures.p99_us));
const CPU: Column = ("CPU µs/call", |row| {
    significant(row.figures.server_cpu_us_per_call)
});
const CLIENT_CPU: Column = ("client CPU µs/call", |row| {
    significant(row.figures.client_cpu_us_per_call)
});
const ALLOCATIONS: Column = ("allocs/call", |row| {
    or_dash(row.allocations_per_call, significant)
});
/// The heading of intervals, if they are more than the range of a few runs.
const INTERVAL: &str = "95 %";

/// The columns of the full tables, behind cell and server.
const COLUMNS: [Column; 15] = [
    RATE,
    (INTERVAL, |row| {
        or_dash(row.figures.calls_per_s_interval, |(low, high)| {
            format!("{}–{}", format_rate(low), format_rate(high))
        })
    }),
    TIMES_RAW,
    ("× raw-epoll", |row| {
        times(row.against.get("raw-epoll"), rates)
    }),
    TIMES_TONIC,
    P50,
    P99,
    ("p99.9 µs", |row| significant(row.p999_us)),
    CPU,
    ("CPU × tonic", |row| {
        times(row.against.get("tonic"), cpu_times)
    }),
    CLIENT_CPU,
    ALLOCATIONS,
    ("syscalls/call", |row| {
        or_dash(row.syscalls_per_call, significant)
    }),
    ("busy: server, client, others", |row| {
        format!("{}, {}", busy(row), or_dash(row.others_busy, percent))
    }),
    ("in place", |row| {
        or_dash(row.in_place_ratio, |ratio| {
            format!("{:.2} %", ratio * 100.0)
        })
    }),
];

const SUMMARY_COLUMNS: [Column; 9] = [
    RATE,
    TIMES_RAW,
    TIMES_TONIC,
    P50,
    P99,
    CPU,
    CLIENT_CPU,
    ALLOCATIONS,
    ("busy: server, client", busy),
];

fn busy(row: &Row) -> String {
    format!("{}, {}", percent(row.server_busy), percent(row.client_busy))
}

const SUMMARY_LEGEND: &str = "
Cell: connections × calls in flight on each. *×*: ratio of rates, with its interval. *CPU* and
*allocs*: of the server, unless it says that the client is meant. *busy*: share of the time on the CPU. Where tonic's own client is at 100 % and
its server is not, the client is the limit, and rates say little about the server: there, CPU per call,
and the rate of `ringcall-tokio`, are what compares like with like.
";

fn cell(subject: &Subject) -> String {
    format!("{}×{} {}", subject.conns, subject.depth, subject.transport)
}

fn cell_and_idle(subject: &Subject) -> String {
    format!("{} {}", cell(subject), format_idle(subject.idle))
}

/// A ratio and its interval.
type Ratio = (f64, Option<Interval>);

fn rates(ratios: &Figures) -> Ratio {
    (ratios.calls_per_s, ratios.calls_per_s_interval)
}

fn cpu_times(ratios: &Figures) -> Ratio {
    (
        ratios.server_cpu_us_per_call,
        ratios.server_cpu_us_per_call_interval,
    )
}

fn times(ratios: Option<&Figures>, which: fn(&Figures) -> Ratio) -> String {
    or_dash(ratios.map(which), |(ratio, interval)| {
        let ratio = significant(ratio);
        match interval.map(|(low, high)| (significant(low), significant(high))) {
            Some((low, high)) => format!("{ratio} ({low}–{high})"),
            None => ratio,
        }
    })
}

//! The report of `vs_peers` as markdown.

use std::collections::BTreeSet;

use super::row::{FailedRow, Figures, Interval, Row, Subject};
use super::table::{Table, add, or_dash, percent, rate, several, significant};
use super::{Intervals, Report};
use crate::idle::Idle;
use crate::point::Bytes;
use crate::servers::process::Transport;
use crate::work::Workload;

/// Everything: one table for each workload, size and kind of socket.
pub(super) fn render(report: &Report) -> String {
    let mut out = about(report);
    for group in groups(report) {
        let (workload, payload_bytes, transport) = group;
        let size = Bytes(payload_bytes);
        add(
            &mut out,
            format_args!("\n### {workload} of {size} over {transport}\n\n"),
        );
        let (rows, failed) = of(report, |subject| group_of(subject) == group);
        let mut lines: Vec<_> = rows.iter().map(|row| (&row.subject, line(row))).collect();
        for failed in failed.iter().filter(|failed| is_unmeasured(report, failed)) {
            let subject = &failed.subject;
            let is_beside =
                |(other, _): &(&Subject, _)| cell_and_idle(other) == cell_and_idle(subject);
            let last = lines.iter().rposition(is_beside);
            let at = last.map_or(lines.len(), |last| last + 1);
            lines.insert(at, (subject, line_of_dashes(subject)));
        }
        let mut table = Table::new(&headings(report), 2);
        lines.into_iter().for_each(|(_, line)| table.push(line));
        add(&mut out, table);
        out.push_str(&notes(&failed));
    }
    out.push_str(&legend(report));
    out
}

/// A few columns of the points that most people ask for.
pub(super) fn summary(report: &Report) -> Option<String> {
    let mut table = Table::new(&SUMMARY_HEADINGS, 2);
    let (rows, failed) = of(report, is_telling);
    if rows.is_empty() {
        return None;
    }
    for row in rows {
        table.push([
            cell(&row.subject),
            row.subject.peer.clone(),
            rate(row.figures.calls_per_s),
            times(row.against.get("raw"), rates),
            times(row.against.get("tonic"), rates),
            significant(row.figures.p50_us),
            significant(row.figures.p99_us),
            significant(row.figures.server_cpu_us_per_call),
            or_dash(row.allocations_per_call, significant),
            format!("{}, {}", percent(row.server_busy), percent(row.client_busy)),
        ]);
    }
    for failed in failed.iter().filter(|failed| is_unmeasured(report, failed)) {
        let mut line: [String; SUMMARY_HEADINGS.len()] = std::array::from_fn(|_| dash());
        line[0] = cell(&failed.subject);
        line[1].clone_from(&failed.subject.peer);
        table.push(line);
    }
    Some(format!(
        "{}\n{table}{}{SUMMARY_LEGEND}",
        about(report),
        notes(&failed)
    ))
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

/// What was measured, and what failed, at the points that someone wants to see.
fn of(report: &Report, is_wanted: impl Fn(&Subject) -> bool) -> (Vec<&Row>, Vec<&FailedRow>) {
    let rows = report.cells.iter().filter(|row| is_wanted(&row.subject));
    let failed = report
        .failed
        .iter()
        .filter(|failed| is_wanted(&failed.subject));
    (rows.collect(), failed.collect())
}

/// Whether a failure left nothing: one that only counts lacks has its row.
fn is_unmeasured(report: &Report, failed: &FailedRow) -> bool {
    !report.cells.iter().any(|row| row.subject == failed.subject)
}

/// What went wrong, as a list below a table.
fn notes(failed: &[&FailedRow]) -> String {
    let mut notes = String::new();
    for failed in failed {
        let FailedRow { subject, error } = failed;
        let (start, cell) = (if notes.is_empty() { "\n" } else { "" }, cell(subject));
        let (peer, idle) = (&subject.peer, subject.idle);
        add(
            &mut notes,
            format_args!("{start}- {peer} at {cell} {idle}: {error}\n"),
        );
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

fn headings(report: &Report) -> [&'static str; 16] {
    [
        "cell",
        "server",
        "calls/s",
        match report.method.intervals {
            Intervals::Confidence => "95 %",
            Intervals::Range | Intervals::None => "range",
        },
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
    ]
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
        add(
            &mut syscalls,
            format_args!("\nSystem calls were counted by {counter}."),
        );
    }
    format!(
        "
Cell: connections × calls in flight on each, and how both sides wait while idle (*park*: asleep in
the kernel). Figures are medians over the runs; {intervals}.
*×*: median of the ratios of runs of the same round: of rates, or where it says so of CPU times. *CPU*:
of the server process, kernel included. *busy*: share of the time on the CPU; a side that is less than
fully busy waited for the other; *others*: share of both CPUs that went to other processes or to the
host. p99.9 of a run of fewer than 1000 calls is its slowest. Allocations and system calls are the
server's, counted in a run of its own; a dash means that they were not.{syscalls}
`raw` and `raw-epoll` return bytes without looking at them.
"
    )
}

const SUMMARY_HEADINGS: [&str; 10] = [
    "cell",
    "server",
    "calls/s",
    "× raw",
    "× tonic",
    "p50 µs",
    "p99 µs",
    "CPU µs/call",
    "allocs/call",
    "busy: server, client",
];

const SUMMARY_LEGEND: &str = "
Cell: connections × calls in flight on each. *×*: ratio of rates, with its interval. *CPU* and
*allocs*: of the server. *busy*: share of the time on the CPU. Where tonic's own client is at 100 % and
its server is not, the client is the limit, and rates say little about the server: there, CPU per call,
and the rate of `ringcall-tokio`, are what compares like with like.
";

fn line(row: &Row) -> [String; 16] {
    let tonic = row.against.get("tonic");
    [
        cell_and_idle(&row.subject),
        row.subject.peer.clone(),
        rate(row.figures.calls_per_s),
        or_dash(row.figures.calls_per_s_interval, |(low, high)| {
            format!("{}–{}", rate(low), rate(high))
        }),
        times(row.against.get("raw"), rates),
        times(row.against.get("raw-epoll"), rates),
        times(tonic, rates),
        significant(row.figures.p50_us),
        significant(row.figures.p99_us),
        significant(row.p999_us),
        significant(row.figures.server_cpu_us_per_call),
        times(tonic, cpu_times),
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

/// In place of a peer that could not be measured.
fn line_of_dashes(subject: &Subject) -> [String; 16] {
    let mut line = std::array::from_fn(|_| dash());
    line[0] = cell_and_idle(subject);
    line[1].clone_from(&subject.peer);
    line
}

fn dash() -> String {
    or_dash(None::<f64>, significant)
}

fn cell(subject: &Subject) -> String {
    format!("{}×{} {}", subject.conns, subject.depth, subject.transport)
}

fn cell_and_idle(subject: &Subject) -> String {
    format!("{} {}", cell(subject), subject.idle)
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

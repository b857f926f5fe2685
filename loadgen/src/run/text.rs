//! The summary for people.

use std::fmt::{self, Display, Formatter};

use comfy_table::{CellAlignment, Table, TableComponent, presets};

use crate::load::generator::Plan;
use crate::results::{CallCounts, Ceiling, FailureCount, LoopKind, PointSummary, Spread};
use crate::units::{format_count, format_ns, format_per_s, several};

/// A point, as it is shown.
pub(super) struct Text<'a> {
    pub(super) point: &'a PointSummary,
    pub(super) plan: &'a Plan,
    /// Hosts that made the calls instead of this one.
    pub(super) agents: usize,
    pub(super) ceiling: Option<&'a Ceiling>,
    pub(super) folder: &'a str,
    pub(super) caveats: &'a [String],
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { point, plan, .. } = self;
        writeln!(f, "{}\n", self.verdict())?;
        let threads = plan.cpus.len();
        writeln!(
            f,
            "load       {} by {}, {} × {} in flight, {}{}",
            point.label,
            plan.protocol,
            several(plan.conns, "connection"),
            plan.depth,
            several(threads, "thread"),
            match self.agents {
                0 => String::new(),
                1 => " of 1 agent".into(),
                agents => format!(" of {agents} agents"),
            }
        )?;
        writeln!(
            f,
            "rate       {} offered, {} answered per second over {:.1} s (warm-up of {:?} left out)",
            format_per_s(point.offered_per_s),
            format_per_s(point.achieved_per_s),
            point.window_s,
            plan.warmup
        )?;
        writeln!(f, "calls      {}", Calls(&point.counts))?;
        writeln!(
            f,
            "in flight  {:.1} on average; rate × mean response time is {:.1}",
            point.in_flight_mean,
            point.offered_per_s * point.latency.response.mean_ns / 1e9
        )?;
        if let Some(server) = &point.server {
            writeln!(
                f,
                "server     {:.2} µs of CPU per call, {:.0} % of a CPU busy ({:.0} % in the kernel), {:.1} MiB",
                server.cpu_us_per_call,
                server.cpus_busy * 100.0,
                server.system_ratio * 100.0,
                server.rss_bytes_max as f64 / MIB
            )?;
        }
        writeln!(f, "\n{}\n", self.table())?;
        self.notes(f)
    }
}

impl Text<'_> {
    fn verdict(&self) -> String {
        let point = self.point;
        let mut text = failed(point).unwrap_or_default();
        for (at, reason) in point.validity.reasons.iter().enumerate() {
            let head = if at == 0 {
                "INVALID    "
            } else {
                "           "
            };
            text += &format!("{head}{reason}\n");
        }
        if point.validity.is_valid {
            let kept_up = match point.validity.lags.is_empty() {
                true => "the generator kept up, ",
                false => "",
            };
            text += &format!("valid      sent as scheduled, {kept_up}the counts balance\n");
        }
        for check in point.slo.iter().flat_map(|slo| &slo.checks) {
            let (word, is_ratio) = (check.verdict(), check.is_of_errors());
            let measured = match check.measured {
                Some(ratio) if is_ratio => format!("{:.4} %", ratio * 100.0),
                Some(ns) => format_ns(ns),
                None => "too few calls to say".into(),
            };
            text += &format!("SLO        {} {word}: {measured}\n", check.objective);
        }
        text.trim_end().to_owned()
    }

    fn table(&self) -> Table {
        let latency = &self.point.latency;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.remove_style(TableComponent::VerticalLines);
        table.set_style(TableComponent::HeaderLines, '─');
        table.set_style(TableComponent::MiddleHeaderIntersections, '─');
        let heads = ["", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        table.set_header(heads);
        let mut rows = vec![("service time", &latency.service)];
        if self.point.loop_kind == LoopKind::Open {
            rows.insert(0, ("response time", &latency.response));
            rows.push(("room wait", &latency.room_wait));
            rows.push(("own lag", &latency.own_lag));
        }
        let mut rows: Vec<_> = rows
            .into_iter()
            .map(|(name, spread)| (name.to_owned(), spread))
            .collect();
        // One method's calls are all there are.
        if self.point.methods.len() > 1 {
            let methods = self.point.methods.iter();
            rows.extend(methods.map(|method| {
                let counts = method.counts;
                let failed = counts.failed();
                let name = match failed {
                    0 => format!("  {}", method.method),
                    _ => format!("  {}, {} failed", method.method, format_count(failed)),
                };
                (name, &method.latency.response)
            }));
        }
        for (name, spread) in rows {
            let mut cells = vec![name];
            cells.extend(figures(spread));
            table.add_row(cells);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn notes(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let has_gaps = self.point.latency.response.percentiles.len() < 7;
        if has_gaps {
            writeln!(
                f,
                "–          fewer than 100 calls lie beyond this percentile"
            )?;
        }
        match self.point.loop_kind {
            LoopKind::Open => writeln!(
                f,
                "open loop  calls came at times fixed before; response times count from then, also for calls that got \
                 no answer"
            )?,
            LoopKind::Closed => writeln!(
                f,
                "closed loop each caller waited for its answer before it called again, so a slow server was asked less"
            )?,
        }
        if let Some(ceiling) = self.ceiling {
            writeln!(f, "generator  {ceiling}")?;
        }
        for note in self.point.validity.notes.iter().chain(self.caveats) {
            writeln!(f, "note       {note}")?;
        }
        writeln!(f, "results    {}", self.folder)
    }
}

/// That calls failed, and with what, if any did: nothing else is worth more of a reader's attention.
fn failed(point: &PointSummary) -> Option<String> {
    let counts = &point.counts;
    let failed = counts.failed();
    (failed > 0).then(|| {
        let share = counts.error_ratio().unwrap_or(1.0) * 100.0;
        let of_generator = point.failures.of_generator();
        let mut text = format!(
            "FAILED     {} of {} calls ({share:.2} %): {} with an error of the server, {} that this side failed, {} \
             without an answer within --timeout\n",
            format_count(failed),
            format_count(counts.sent - counts.unfinished),
            format_count(counts.error - of_generator.min(counts.error)),
            format_count(of_generator),
            format_count(counts.timeout),
        );
        for failure in point.failures.iter() {
            text += &format!("           {}\n", failure_line(failure));
        }
        text
    })
}

/// How often calls failed alike, who said so, and why.
pub(crate) fn failure_line(failure: &FailureCount) -> String {
    let side = if failure.is_of_server {
        "the server"
    } else {
        "this side"
    };
    format!("{} × {side}: {}", format_count(failure.count), failure.text)
}

fn figures(spread: &Spread) -> Vec<String> {
    if spread.count == 0 {
        return vec!["–".into(); 7];
    }
    let at = |percentile| spread.show(percentile);
    let mut cells = vec![format_ns(spread.mean_ns)];
    cells.extend([50.0, 90.0, 99.0, 99.9, 99.99].map(at));
    cells.push(format_ns(spread.max_ns as f64));
    cells
}

struct Calls<'a>(&'a CallCounts);

impl Display for Calls<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let counts = self.0;
        write!(
            f,
            "{} scheduled, {} sent, {} ok",
            format_count(counts.scheduled),
            format_count(counts.sent),
            format_count(counts.ok)
        )?;
        for (count, what) in [
            (counts.error, "failed"),
            (counts.timeout, "timed out"),
            (counts.unfinished, "cut off at the end"),
            (counts.unsent, "never sent"),
        ] {
            if count > 0 {
                write!(f, ", {} {what}", format_count(count))?;
            }
        }
        Ok(())
    }
}

const MIB: f64 = 1024.0 * 1024.0;

//! What the server does under load: latency, answers, distributions, CPU time.

use super::{View, plot, rate, section};
use crate::plots::{self, CpuPoint, HeatColumn, HockeyPoint, SpectrumLine};
use crate::report::document::{Block, Section, Table};
use crate::report::evidence::Point;
use crate::report::verdict;
use crate::study::judge::{Verdict, judge};
use crate::study::record::StudyRecord;
use crate::units::{format_count, format_ns, format_per_s, or_dash};

/// Where figures of the server's process should stand.
pub(super) const NO_PROCESS: &str = "Not measured: the CPU time of the server, whose process was not known. The same \
    command with `--server-pid` and its number measures it, on the machine where it runs.";

impl View<'_> {
    pub(super) fn hockey_stick(&self) -> Section {
        if self.curve.is_empty() {
            return self.missing_curve("Latency against rate");
        }
        let points: Vec<HockeyPoint> = self
            .curve
            .iter()
            .map(|point| HockeyPoint {
                offered_per_s: point.summary.offered_per_s,
                percentiles_ns: [0.5, 0.99, 0.999].map(|quantile| point.quantile(quantile)),
                is_valid: point.summary.validity.is_valid,
            })
            .collect();
        let leading = self.leading();
        let knee = verdict::knee_per_s(&self.curve);
        let rate_at_objective = self.capacity.as_ref().map(|capacity| capacity.rate_per_s);
        let svg = plots::hockey_stick(&points, leading.as_ref(), knee, rate_at_objective);
        let caption = match knee {
            Some(knee) => format!(
                "Response time from the intended start. Whiskers: 95 % confidence. The knee, at {}, has \
                 the most calls per second of p99.",
                rate(knee)
            ),
            None => {
                "Response time from the intended start. Whiskers: 95 % confidence. There is no \
                     knee among these rates."
                    .into()
            }
        };
        let blocks = vec![
            plot("hockey_stick", svg, &caption),
            Block::Table(self.table()),
        ];
        section("Latency against rate", blocks)
    }

    fn table(&self) -> Table {
        let time = |ns: Option<f64>| or_dash(ns, format_ns);
        let row = |point: &&Point| {
            let quantile = |quantile| time(point.quantile(quantile).map(|bounds| bounds.value));
            let bounds = point.quantile(0.99);
            let bounds = or_dash(bounds, |bounds| {
                format!("{} – {}", format_ns(bounds.lower), format_ns(bounds.upper))
            });
            let summary = &point.summary;
            vec![
                point.row.point.to_string(),
                format_per_s(summary.offered_per_s),
                format_per_s(summary.achieved_per_s),
                quantile(0.5),
                quantile(0.99),
                bounds,
                quantile(0.999),
                or_dash(summary.counts.error_ratio(), |share| {
                    format!("{:.3} %", share * 100.0)
                }),
                time(summary.server.map(|server| server.cpu_us_per_call * 1e3)),
                self.verdict_of(point),
            ]
        };
        let head = [
            "point",
            "offered/s",
            "achieved/s",
            "p50",
            "p99",
            "p99, 95 %",
            "p99.9",
            "errors",
            "CPU per call",
            "verdict",
        ];
        Table::new(&head, self.curve.iter().map(row))
    }

    /// What a load has shown of the objective, if it is a measurement.
    fn verdict_of(&self, point: &Point) -> String {
        // A search has seen more of its loads than the folder keeps.
        if let Some(verdict) = self.verdict_of_search(point) {
            return verdict.name().into();
        }
        if let Some(slo) = &self.slo {
            return judge(&verdict::probed(point), slo).verdict.name().into();
        }
        let word = if point.summary.validity.is_valid {
            "valid"
        } else {
            "INVALID"
        };
        word.into()
    }

    fn verdict_of_search(&self, point: &Point) -> Option<Verdict> {
        let Some(StudyRecord::Search(search)) = &self.evidence.folders[point.folder].record else {
            return None;
        };
        if search.slo != self.slo.as_ref()?.to_string() {
            return None;
        }
        let mut probes = search.probes.iter();
        let probe = probes.find(|probe| probe.point == point.row.point)?;
        Some(probe.verdict)
    }

    pub(super) fn achieved(&self) -> Section {
        const TITLE: &str = "Achieved against offered";
        if self.curve.is_empty() {
            return self.missing_curve(TITLE);
        }
        let points: Vec<_> = self
            .curve
            .iter()
            .map(|point| plots::AchievedPoint {
                offered_per_s: point.summary.offered_per_s,
                achieved_per_s: point.summary.achieved_per_s,
                is_valid: point.summary.validity.is_valid,
            })
            .collect();
        let caption = "Where the points leave the line, calls queue without end.";
        section(
            TITLE,
            vec![plot("achieved", plots::achieved(&points), caption)],
        )
    }

    pub(super) fn spectrum(&self) -> Section {
        const TITLE: &str = "The whole distribution";
        let Some(point) = self.at_capacity else {
            return self.missing_curve(TITLE);
        };
        let response = point.response_ns();
        let lines = [
            SpectrumLine {
                name: "response (from intended start)",
                values_ns: &response,
            },
            SpectrumLine {
                name: "service (from sending)",
                values_ns: &point.service_ns,
            },
            SpectrumLine {
                name: "own lag of the generator",
                values_ns: &point.lag_ns,
            },
        ];
        let drawn: Vec<_> = lines
            .into_iter()
            .filter(|line| !line.values_ns.is_empty())
            .collect();
        let at = rate(point.summary.offered_per_s);
        let svg = plots::spectrum(&format!("Percentiles at {at}"), &drawn);
        let caption = "Each line ends where fewer than 100 calls lie beyond. Where response and service \
                       part, calls waited in the generator for a free place in flight.";
        section(TITLE, vec![plot("spectrum", svg, caption)])
    }

    /// Each method of the load at the capacity; `None` for a single one, whose calls are all there are.
    pub(super) fn by_method(&self) -> Option<Section> {
        let point = self
            .at_capacity
            .filter(|point| point.summary.methods.len() > 1)?;
        let head = [
            "method", "calls", "failed", "mean", "p50", "p99", "p99.9", "max",
        ];
        let rows = point.summary.methods.iter().map(|method| {
            let response = &method.latency.response;
            vec![
                method.method.clone(),
                format_count(method.counts.scheduled),
                format_count(method.counts.failed()),
                format_ns(response.mean_ns),
                response.show(50.0),
                response.show(99.0),
                response.show(99.9),
                format_ns(response.max_ns as f64),
            ]
        });
        let at = format!(
            "Response times of point {}, at {}.",
            point.row.point,
            rate(point.summary.offered_per_s)
        );
        let table = Table::new(&head, rows);
        Some(section(
            "By method",
            vec![Block::Table(table), Block::Text(at)],
        ))
    }

    pub(super) fn heat(&self) -> Section {
        const TITLE: &str = "Latency over time";
        let Some(point) = self.at_capacity else {
            return self.missing_curve(TITLE);
        };
        let columns: Vec<_> = point
            .responses
            .iter()
            .map(|interval| HeatColumn {
                start_s: interval.start_s,
                end_s: interval.end_s,
                values_ns: &interval.values_ns,
            })
            .collect();
        let caption = format!(
            "One run at {}. An even band is a server at ease; towers are stalls, a slope is a queue \
             that grows.",
            rate(point.summary.offered_per_s)
        );
        section(
            TITLE,
            vec![plot("heat_map", plots::heat_map(&columns), &caption)],
        )
    }

    pub(super) fn cpu(&self) -> Section {
        const TITLE: &str = "Server CPU against rate";
        let points: Vec<_> = self
            .curve
            .iter()
            .filter_map(|point| {
                Some(CpuPoint {
                    achieved_per_s: point.summary.achieved_per_s,
                    cpus: point.summary.server?.cpus_busy,
                    is_valid: point.summary.validity.is_valid,
                })
            })
            .collect();
        if points.is_empty() {
            return section(TITLE, vec![Block::Text(NO_PROCESS.into())]);
        }
        let cpus = self
            .at_capacity
            .and_then(|point| verdict::server_cpus(point, self.evidence));
        let svg = plots::cpu(&points, self.law_s, cpus);
        let caption = "Utilisation law: CPUs in use = rate × CPU time of a call, through the busiest \
                       points. Points above the line are a server that looks for work before it \
                       sleeps, and calls that come one by one: both end under load. So full CPUs \
                       alone are no limit yet.";
        section(TITLE, vec![plot("cpu", svg, caption)])
    }
}

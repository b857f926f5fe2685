//! The verdict: what an instance carries, what that needs, and what breaks first.

use super::{View, rate, section};
use crate::analysis::slo::{Metric, Slo};
use crate::report::bottleneck::{Facts, what_breaks_first};
use crate::report::comparison;
use crate::report::document::{Block, Figure, Section};
use crate::report::evidence::Point;
use crate::report::provenance::{command, quote};
use crate::report::verdict::{self, Capacity};
use crate::study::judge::Verdict;
use crate::study::record::{SearchRecord, StudyRecord};
use crate::units::format_ns;

impl View<'_> {
    pub(super) fn verdict(&self) -> Section {
        let mut blocks = Vec::new();
        let records = self.evidence.folders.iter();
        let records = records.filter_map(|folder| folder.record.as_ref());
        let comparisons = records.filter_map(|record| match record {
            StudyRecord::Compare(comparison) => Some(comparison),
            StudyRecord::Sweep { .. } | StudyRecord::Search(_) => None,
        });
        blocks.extend(comparisons.flat_map(comparison::blocks));
        match &self.capacity {
            Some(capacity) => {
                blocks.push(Block::Headline(headline(capacity)));
                blocks.extend(self.only_in_quiet(capacity).map(Block::Warning));
                blocks.push(Block::Figures(self.figures(capacity)));
                blocks.extend(self.repeated().map(Block::Text));
                blocks.push(Block::Text("What breaks first:".into()));
                blocks.push(Block::List(what_breaks_first(&self.facts(capacity))));
                if !capacity.is_confirmed() && !self.was_searched() {
                    let slo = Some(&capacity.slo);
                    blocks.push(Block::Missing {
                        what: "a search for the exact rate, and its confirmation.".into(),
                        command: command(self.evidence, "search", &slo_flag(slo)),
                    });
                }
                if self.planning.peak_per_s.is_none() {
                    blocks.push(Block::Missing {
                        what: "the number of instances: it needs the calls per second of your \
                               busiest time."
                            .into(),
                        command: format!(
                            "loadgen report {} --peak 100k --growth 1.5 --spare 1 --headroom 0.3",
                            quote(&self.evidence.folders[0].path.to_string_lossy())
                        ),
                    });
                }
            }
            None => blocks.extend(self.no_capacity()),
        }
        if self
            .evidence
            .folders
            .iter()
            .any(|folder| !folder.is_complete)
        {
            let why = "The measurement was ended early: what is here is partial.";
            blocks.insert(0, Block::Warning(why.into()));
        }
        section("Verdict", blocks)
    }

    fn no_capacity(&self) -> Vec<Block> {
        let why = match (&self.slo, self.undecided()) {
            (Some(slo), Some(why)) => format!("The rate at `{slo}` is not known: {why}."),
            (Some(slo), None) => {
                format!("No load met the objective `{slo}`, or none was offered openly.")
            }
            (None, _) => "There is no objective to judge by.".into(),
        };
        let mut blocks = vec![Block::Headline(why)];
        // What others had a hand in says nothing of a single call.
        let is_known = self.undecided().is_none();
        blocks.extend(self.unloaded().filter(|_| is_known).map(Block::Warning));
        blocks.push(if self.was_searched() {
            Block::Text(
                "The same search says more on a machine that is left alone, or with an objective that this one \
                 can keep; `loadgen env` names what disturbs measurements here."
                    .into(),
            )
        } else {
            Block::Missing {
                what: "the rate at an objective.".into(),
                command: command(self.evidence, "search", &slo_flag(self.slo.as_ref())),
            }
        });
        blocks
    }

    /// Whether a search has looked for the rate at this objective.
    fn was_searched(&self) -> bool {
        let slo = self.slo.as_ref().map(Slo::to_string);
        let mut records = self.evidence.folders.iter().map(|folder| &folder.record);
        records.any(|record| match record {
            Some(StudyRecord::Search(search)) => Some(&search.slo) == slo.as_ref(),
            _ => false,
        })
    }

    /// Why a search has no answer, if that is for lack of measurements.
    fn undecided(&self) -> Option<String> {
        let folders = self.evidence.folders.iter();
        let mut records = folders.filter_map(|folder| folder.record.as_ref());
        records.find_map(|record| match record {
            StudyRecord::Search(search) => search.undecided(),
            StudyRecord::Sweep { .. } | StudyRecord::Compare(_) => None,
        })
    }

    /// What is to be said when even the lightest load misses the objective.
    fn unloaded(&self) -> Option<String> {
        let has_passed = |record: &SearchRecord| {
            let mut probes = record.probes.iter();
            probes.any(|probe| probe.verdict == Verdict::Passed)
        };
        if self.was_searched() && self.search_record().is_some_and(has_passed) {
            return None;
        }
        let (quantile, limit_ns) = self.slo.as_ref()?.leading_quantile()?;
        let mut valid = self.curve.iter();
        let lightest = valid.find_map(|point| {
            let is_valid = point.summary.validity.is_valid;
            let bounds = point.quantile(quantile).filter(|_| is_valid)?;
            Some((point.summary.offered_per_s, bounds))
        });
        let (rate_per_s, bounds) = lightest.filter(|(_, bounds)| bounds.lower >= limit_ns)?;
        Some(format!(
            "Even at {} it took {}: not the load breaks this objective, but what a single call takes, or \
             other work on the machine. `loadgen env` names what disturbs measurements.",
            rate(rate_per_s),
            format_ns(bounds.value)
        ))
    }

    /// That the objective was met only while the machine was left alone, and what it was in all.
    fn only_in_quiet(&self, capacity: &Capacity) -> Option<String> {
        let (quantile, _) = capacity.slo.leading_quantile()?;
        let is_quiet = |point: &&Point| {
            let number = point.row.point;
            point.folder == 0 && capacity.quiet_points.contains(&number)
        };
        let quiet = self.evidence.points.iter().filter(is_quiet);
        let worst = quiet.filter_map(|point| point.quantile(quantile));
        let worst_ns = worst.map(|bounds| bounds.value).reduce(f64::max)?;
        Some(format!(
            "Others took CPUs of generator or server: the objective was kept by the calls that were due while no CPU \
             stood still, and not by all of them ({}; {} {} at worst). It holds for a machine that is left alone; \
             on one like this add what the loads say was taken.",
            points(&capacity.quiet_points),
            Metric::Quantile(quantile),
            format_ns(worst_ns)
        ))
    }

    fn figures(&self, capacity: &Capacity) -> Vec<Figure> {
        let figure = |name: &str, value: String, note: String| Figure {
            name: name.into(),
            value,
            note,
        };
        let interval = match capacity.failed_per_s {
            Some(failed) => format!("surely not {}", rate(failed)),
            None if capacity.is_unmeasured_above => {
                "a lower bound: higher loads could not be measured".into()
            }
            None => "no higher load has surely failed".into(),
        };
        let headroom = self.planning.headroom * 100.0;
        let mut figures = vec![
            figure(
                &format!("Highest rate at {}", capacity.slo),
                rate(capacity.rate_per_s),
                format!("{interval}; {}", points(&capacity.points)),
            ),
            figure(
                "Rated capacity of an instance",
                rate(capacity.rated_per_s(self.planning)),
                format!("after {headroom:.0} % headroom"),
            ),
        ];
        if let Some(cost_s) = capacity.cpu_s_per_call {
            let from = capacity.cpu_point.map(|point| format!(" (point {point})"));
            let note = format!(
                "of the server, kernel included, at that rate{}",
                from.unwrap_or_default()
            );
            let value = format!("{} CPU", format_ns(cost_s * 1e9));
            figures.push(figure("A call costs", value, note));
        }
        if let (Some(peak), Some(instances)) =
            (self.planning.peak_per_s, capacity.instances(self.planning))
        {
            let note = format!(
                "⌈{} × {} ÷ {}⌉ + {} spare",
                rate(peak),
                self.planning.growth,
                rate(capacity.rated_per_s(self.planning)),
                self.planning.spare
            );
            // What bounds the rate from below bounds their number from above.
            let at_most = if capacity.is_unmeasured_above || capacity.limit.is_none() {
                "at most "
            } else {
                ""
            };
            figures.push(figure(
                "Instances needed",
                format!("{at_most}{instances}"),
                note,
            ));
        }
        figures
    }

    fn facts(&self, capacity: &Capacity) -> Facts {
        let point = self.at_capacity;
        let cpus = point.and_then(|point| verdict::server_cpus(point, self.evidence));
        Facts {
            rate_per_s: capacity.rate_per_s,
            limit: capacity.limit.clone(),
            // What surely failed says more than what could not be measured.
            is_unmeasured_above: capacity.is_unmeasured_above && capacity.failed_per_s.is_none(),
            cpu_ceiling_per_s: self.law_s.zip(cpus).map(|(cost_s, cpus)| cpus / cost_s),
            imbalance: point.and_then(Point::imbalance),
            system_ratio: point
                .and_then(|point| point.summary.server)
                .map(|server| server.system_ratio),
        }
    }
}

fn headline(capacity: &Capacity) -> String {
    let slo = &capacity.slo;
    let carried = rate(capacity.rate_per_s);
    let quiet = if capacity.quiet_points.is_empty() {
        ""
    } else {
        " while its CPUs are left alone"
    };
    let above = match capacity.failed_per_s {
        Some(failed) => format!("; at {} it surely does not", rate(failed)),
        None => String::new(),
    };
    // A load that was too short to be sure is no promise.
    if !capacity.is_confirmed() && !capacity.unconfirmed.is_empty() {
        return format!(
            "An instance carried {carried} and kept `{slo}`{} in a short load, which longer ones at that rate \
             did not confirm ({}){above}.",
            quiet.replace("are", "were"),
            points(&capacity.unconfirmed)
        );
    }
    let confirmed = match capacity.confirmations {
        0 if capacity.is_out_of_time => {
            ", the highest that had passed when the search's time was up, before it was confirmed"
                .into()
        }
        0 => ", the highest that was tried and passed".into(),
        1 if capacity.is_out_of_time => {
            ", which another load confirmed before the search's time was up".into()
        }
        1 => ", which another load confirmed".into(),
        loads => format!(", which {loads} further loads confirmed"),
    };
    let (at_least, bound) = if capacity.is_unmeasured_above {
        (
            "at least ",
            match capacity.failed_per_s {
                Some(_) => "; what lies between could not be measured",
                None => "; higher loads could not be measured",
            },
        )
    } else if capacity.limit.is_none() && capacity.is_out_of_time {
        ("at least ", "; there was no time for higher rates")
    } else if capacity.limit.is_none() {
        ("at least ", "; no higher rate was tried")
    } else {
        ("", "")
    };
    format!(
        "One instance carries {at_least}{carried} and keeps `{slo}`{quiet}{confirmed}{above}{bound}."
    )
}

/// Where a figure comes from.
fn points(points: &[u32]) -> String {
    match points {
        [] => "stepped back to from higher rates".into(),
        [one] => format!("from point {one}"),
        several => {
            let numbers: Vec<String> = several.iter().map(u32::to_string).collect();
            format!("from points {}", numbers.join(", "))
        }
    }
}

fn slo_flag(slo: Option<&Slo>) -> String {
    let slo = slo.map_or_else(|| "p99<1ms,err<0.1%".into(), Slo::to_string);
    format!("--slo '{slo}'")
}

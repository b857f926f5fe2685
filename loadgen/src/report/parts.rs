//! The parts of a report that show measurements: verdict, curves, distributions and scaling.

use super::comparison;
use super::document::{Block, Figure, Section, Table};
use super::evidence::{Evidence, Point};
use super::outlook::{Facts, what_breaks_first};
use super::surroundings::command;
use super::verdict::{self, Capacity, Planning};
use crate::analysis::queueing::{Kind, Queue, SeparateQueues};
use crate::analysis::slo::{Metric, Slo};
use crate::analysis::usl;
use crate::plots::{self, CpuPoint, HeatColumn, HockeyPoint, Objective, SpectrumLine, WaitPoint};
use crate::study::record::StudyRecord;
use crate::units::{format_count, format_ns};

/// Parts 1 to 9.
pub(super) fn sections(evidence: &Evidence, slo: Option<&Slo>, planning: Planning) -> Vec<Section> {
    let capacity = verdict::capacity(evidence, slo);
    let curve = evidence.curve();
    let view = View {
        evidence,
        slo: verdict::objective(evidence, slo),
        law_s: verdict::law_s_per_call(&curve),
        at_capacity: at_capacity(&curve, capacity.as_ref()),
        capacity,
        curve,
        planning,
    };
    vec![
        view.verdict(),
        view.hockey_stick(),
        view.achieved(),
        view.spectrum(),
        view.heat(),
        view.cpu(),
        view.scaling(),
        view.waiting(),
        view.balance(),
    ]
}

/// What the parts look at.
struct View<'a> {
    evidence: &'a Evidence,
    curve: Vec<&'a Point>,
    capacity: Option<Capacity>,
    slo: Option<Slo>,
    /// CPU seconds of a call.
    law_s: Option<f64>,
    /// The point that shows the server at its capacity; without one, the busiest that is valid.
    at_capacity: Option<&'a Point>,
    planning: Planning,
}

fn at_capacity<'a>(curve: &[&'a Point], capacity: Option<&Capacity>) -> Option<&'a Point> {
    let rate = |point: &Point| point.summary.offered_per_s;
    let valid = || {
        let curve = curve.iter().copied();
        curve.filter(|point| point.summary.validity.is_valid)
    };
    match capacity {
        Some(capacity) => valid().min_by(|a, b| {
            let distance = |point: &Point| (rate(point) - capacity.rate_per_s).abs();
            distance(a).total_cmp(&distance(b))
        }),
        None => valid().next_back(),
    }
    .or_else(|| curve.last().copied())
}

impl View<'_> {
    fn verdict(&self) -> Section {
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
                blocks.push(Block::Figures(self.figures(capacity)));
                blocks.push(Block::Text("What breaks first:".into()));
                blocks.push(Block::List(what_breaks_first(&self.facts(capacity))));
                if !capacity.is_confirmed {
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
                            "loadgen report results/{} --peak 100k --growth 1.5 --spare 1 --headroom 0.3",
                            self.evidence.folders[0].name
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
        let why = match &self.slo {
            Some(slo) => format!("No load met the objective `{slo}`, or none was offered openly."),
            None => "There is no objective to judge by.".into(),
        };
        vec![
            Block::Headline(why),
            Block::Missing {
                what: "the rate at an objective.".into(),
                command: command(self.evidence, "search", &slo_flag(self.slo.as_ref())),
            },
        ]
    }

    fn figures(&self, capacity: &Capacity) -> Vec<Figure> {
        let figure = |name: &str, value: String, note: String| Figure {
            name: name.into(),
            value,
            note,
        };
        let interval = match capacity.failed_per_s {
            Some(failed) => format!("surely not {}", rate(failed)),
            None => "no higher load has surely failed".into(),
        };
        let headroom = self.planning.headroom * 100.0;
        let mut figures = vec![
            figure(
                &format!("Highest rate at {}", capacity.slo),
                rate(capacity.rate_per_s),
                interval,
            ),
            figure(
                "Rated capacity of an instance",
                rate(capacity.rated_per_s(self.planning)),
                format!("after {headroom:.0} % headroom"),
            ),
        ];
        if let Some(cost_s) = capacity.cpu_s_per_call {
            let note = "of the server, kernel included, at that rate";
            let value = format!("{} CPU", format_ns(cost_s * 1e9));
            figures.push(figure("A call costs", value, note.into()));
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
            figures.push(figure("Instances needed", instances.to_string(), note));
        }
        figures
    }

    fn facts(&self, capacity: &Capacity) -> Facts {
        let point = self.at_capacity;
        let cpus = point.and_then(|point| verdict::server_cpus(point, self.evidence));
        Facts {
            rate_per_s: capacity.rate_per_s,
            limit: capacity.limit.clone(),
            is_generator_limited: capacity.is_generator_limited,
            cpu_ceiling_per_s: self.law_s.zip(cpus).map(|(cost_s, cpus)| cpus / cost_s),
            imbalance: point.and_then(Point::imbalance),
            system_ratio: point
                .and_then(|point| point.summary.server)
                .map(|server| server.system_ratio),
        }
    }

    fn hockey_stick(&self) -> Section {
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
        let leading = self.slo.as_ref().and_then(|slo| {
            slo.objectives().iter().find_map(|objective| {
                matches!(objective.metric, Metric::Quantile(_)).then(|| Objective {
                    text: objective.to_string(),
                    limit_ns: objective.limit,
                })
            })
        });
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
        let time = |ns: Option<f64>| ns.map_or_else(|| "–".into(), format_ns);
        let row = |point: &&Point| {
            let quantile = |quantile| time(point.quantile(quantile).map(|bounds| bounds.value));
            let bounds = point.quantile(0.99);
            let bounds = bounds
                .map(|bounds| format!("{} – {}", format_ns(bounds.lower), format_ns(bounds.upper)));
            let summary = &point.summary;
            vec![
                rate(summary.offered_per_s),
                rate(summary.achieved_per_s),
                quantile(0.5),
                quantile(0.99),
                bounds.unwrap_or_else(|| "–".into()),
                quantile(0.999),
                format!("{:.3} %", summary.books.error_ratio() * 100.0),
                time(summary.server.map(|server| server.cpu_us_per_call * 1e3)),
                if summary.validity.is_valid {
                    "yes"
                } else {
                    "NO"
                }
                .into(),
            ]
        };
        Table {
            head: [
                "offered",
                "achieved",
                "p50",
                "p99",
                "p99, 95 % confidence",
                "p99.9",
                "errors",
                "CPU per call",
                "valid",
            ]
            .map(str::to_owned)
            .into(),
            rows: self.curve.iter().map(row).collect(),
        }
    }

    fn achieved(&self) -> Section {
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

    fn spectrum(&self) -> Section {
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
                name: "send lag of the generator",
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

    fn heat(&self) -> Section {
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

    fn cpu(&self) -> Section {
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
            return section(
                TITLE,
                vec![Block::Missing {
                    what: "the CPU time of the server, whose process was not known.".into(),
                    command: command(self.evidence, "search", "--server-pid PID"),
                }],
            );
        }
        let cpus = self
            .at_capacity
            .and_then(|point| verdict::server_cpus(point, self.evidence));
        let svg = plots::cpu(&points, self.law_s, cpus);
        let caption = "Utilisation law: CPUs in use = rate × CPU time of a call, through the busier \
                       half of the points. Points above the line at low rates are a server that looks \
                       for work before it sleeps, which it stops doing under load.";
        section(TITLE, vec![plot("cpu", svg, caption)])
    }

    fn scaling(&self) -> Section {
        const TITLE: &str = "Throughput against shards";
        let points: Vec<usl::Point> = self
            .evidence
            .shard_sweep()
            .into_iter()
            .filter(|point| point.summary.validity.is_valid)
            .filter_map(|point| {
                Some(usl::Point {
                    shards: point.row.shards?.into(),
                    rate_per_s: point.summary.achieved_per_s,
                })
            })
            .collect();
        if points.is_empty() {
            return section(
                TITLE,
                vec![Block::Missing {
                    what: "how the server scales with shards.".into(),
                    command: command(self.evidence, "sweep", "--shard-counts 1,2,4 --repeat 3"),
                }],
            );
        }
        let fit = usl::Fit::new(&points, FIT_SEED);
        let svg = plots::scaling(&points, fit.as_ref());
        let mut blocks = vec![plot(
            "scaling",
            svg,
            "Closed loop: each caller waits for its answer before it calls again.",
        )];
        match &fit {
            Some(fit) => {
                blocks.push(Block::Text(describe_fit(fit)));
                let svg = plots::residuals(&points, fit);
                let caption = "A pattern here would mean that the law does not fit.";
                blocks.push(plot("scaling_residuals", svg, caption));
            }
            None => {
                let why = "A fit needs at least two different numbers of shards.";
                blocks.push(Block::Text(why.into()));
            }
        }
        section(TITLE, blocks)
    }

    fn waiting(&self) -> Section {
        const TITLE: &str = "Waiting against the model";
        let model = self.curve.first().zip(self.law_s);
        let Some((idlest, cost_s)) = model else {
            return section(
                TITLE,
                vec![Block::Missing {
                    what: "waiting: it takes an open loop and the CPU time of the server.".into(),
                    command: command(self.evidence, "search", "--server-pid PID"),
                }],
            );
        };
        let points: Vec<WaitPoint> = self
            .curve
            .iter()
            .filter(|point| point.summary.validity.is_valid)
            .map(|point| wait_point(point, idlest, cost_s))
            .collect();
        let caption = format!(
            "Mean response time beyond the base latency, against queues whose calls take \
             {} of one CPU; each shard is a queue of its own. Below the model: calls that come together \
             are served together, which makes each cheaper. Above it: something other than CPU makes \
             them wait. The least loaded point lies on M/D/1 by definition.",
            format_ns(cost_s * 1e9),
        );
        section(TITLE, vec![plot("wait", plots::wait(&points), &caption)])
    }

    fn balance(&self) -> Section {
        const TITLE: &str = "Balance between shards";
        let several = |point: &&Point| point.shards.len() > 1;
        let point = self.at_capacity.filter(several).or_else(|| {
            let points = self.evidence.points.iter().filter(several);
            points.max_by_key(|point| point.shards.len())
        });
        let Some(point) = point else {
            return section(
                TITLE,
                vec![Block::Missing {
                    what: "balance: the server had one shard, or did not tell.".into(),
                    command: command(self.evidence, "sweep", "--shard-counts 1,2,4 --repeat 3"),
                }],
            );
        };
        let requests: Vec<u64> = point.shards.iter().map(|shard| shard.requests).collect();
        let times = point.imbalance().unwrap_or(1.0);
        let caption = format!(
            "Load {}: the busiest shard has {times:.2} times the mean. Connections are spread by the \
             kernel, calls follow their connection.",
            point.summary.label
        );
        section(
            TITLE,
            vec![plot("shards", plots::imbalance(&requests), &caption)],
        )
    }

    fn missing_curve(&self, title: &str) -> Section {
        let missing = Block::Missing {
            what: "loads at fixed rates, in an open loop.".into(),
            command: command(self.evidence, "sweep", "--rates 10k..200k"),
        };
        section(title, vec![missing])
    }
}

fn headline(capacity: &Capacity) -> String {
    let confirmed = if capacity.is_confirmed {
        ", which repeated loads confirmed"
    } else {
        ", the highest that was tried and passed"
    };
    let above = match capacity.failed_per_s {
        Some(failed) => format!("; at {} it surely does not", rate(failed)),
        None => String::new(),
    };
    format!(
        "One instance carries {} and keeps `{}`{confirmed}{above}.",
        rate(capacity.rate_per_s),
        capacity.slo
    )
}

fn describe_fit(fit: &usl::Fit) -> String {
    let with_bounds = |name: &str, bounds: Option<crate::analysis::Estimate>, value: f64| {
        let bounds = bounds.map(|bounds| format!(" ({:.4} to {:.4})", bounds.lower, bounds.upper));
        format!("{name} = {value:.4}{}", bounds.unwrap_or_default())
    };
    let parameters = fit.parameters;
    let peak = match parameters.shards_at_peak() {
        Some(shards) => format!("Throughput would peak at {shards:.0} shards."),
        None => "More shards never make it slower, as far as these points tell.".into(),
    };
    format!(
        "Universal Scalability Law X(N) = λN ÷ (1 + σ(N−1) + κN(N−1)): one shard carries λ = {}; \
         {} (waiting for what only one may do), {} (agreeing with each other), with 95 % confidence \
         where there are enough points. {peak}",
        rate(parameters.lambda_per_s),
        with_bounds("σ", fit.sigma(0.95), parameters.sigma),
        with_bounds("κ", fit.kappa(0.95), parameters.kappa),
    )
}

fn wait_point(point: &Point, idlest: &Point, cost_s: f64) -> WaitPoint {
    let mean_ns = |point: &Point| point.summary.latency.response.mean_ns;
    // What remains of the least loaded point without its modelled wait is the base latency.
    let base_ns = mean_ns(idlest) - model_ns(idlest, Kind::RandomFixed, cost_s);
    WaitPoint {
        rate_per_s: point.summary.offered_per_s,
        wait_ns: mean_ns(point) - base_ns,
        random_ns: model_ns(point, Kind::RandomRandom, cost_s),
        fixed_ns: model_ns(point, Kind::RandomFixed, cost_s),
    }
}

/// The mean wait of a model with a queue for each shard.
fn model_ns(point: &Point, kind: Kind, cost_s: f64) -> f64 {
    let shares: Vec<f64> = match point.shards.len() {
        0 => vec![1.0; point.row.shards.unwrap_or(1) as usize],
        _ => point
            .shards
            .iter()
            .map(|shard| shard.requests as f64)
            .collect(),
    };
    let whole = Queue {
        kind,
        arrivals_per_s: point.summary.offered_per_s,
        services_per_s: 1.0 / cost_s,
    };
    (SeparateQueues::new(whole, &shares).mean_s() - cost_s) * 1e9
}

fn section(title: &str, blocks: Vec<Block>) -> Section {
    Section {
        title: title.into(),
        blocks,
    }
}

fn plot(name: &'static str, svg: String, caption: &str) -> Block {
    Block::Plot {
        name,
        svg,
        caption: caption.into(),
    }
}

fn slo_flag(slo: Option<&Slo>) -> String {
    let slo = slo.map_or_else(|| "p99<1ms,err<0.1%".into(), Slo::to_string);
    format!("--slo '{slo}'")
}

/// Calls per second.
fn rate(per_s: f64) -> String {
    format!("{} calls/s", format_count(per_s.round() as u64))
}

/// The same points always give the same interval.
const FIT_SEED: u64 = 1;

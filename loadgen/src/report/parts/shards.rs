//! What more shards bring, how calls wait for them, and how evenly they work.

use super::curves::NO_PROCESS;
use super::{View, plot, rate, section};
use crate::analysis::Estimate;
use crate::analysis::queueing::{Kind, Queue, SeparateQueues};
use crate::analysis::usl;
use crate::plots::{self, WaitPoint};
use crate::report::document::{Block, Section};
use crate::report::evidence::Point;
use crate::report::provenance::command;
use crate::units::{format_ns, several};

impl View<'_> {
    pub(super) fn scaling(&self) -> Section {
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
                vec![self.missing_shards("how the server scales with shards")],
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

    /// What a sweep over shards would show, and how to run one, if the machine has the CPUs for it.
    fn missing_shards(&self, what: &str) -> Block {
        let folder = &self.evidence.folders[0];
        let cpus = folder.manifest.machine.cpus_allowed.len();
        let free = cpus.saturating_sub(folder.manifest.load.threads as usize);
        if !folder.manifest.load.is_own_server {
            return Block::Text(format!(
                "Not measured: {what}. Start the server with other numbers of shards, and run the same command again."
            ));
        }
        if free < 2 {
            return Block::Text(format!(
                "Not measured: {what}. That takes a CPU for each shard beside those of the load, and this \
                 machine has {}.",
                several(cpus, "CPU")
            ));
        }
        let counts: Vec<String> = [1, 2, 4, 8, 16, 32]
            .into_iter()
            .filter(|count| *count <= free)
            .map(|count| count.to_string())
            .collect();
        let flags = format!("--shard-counts {} --repeat 3", counts.join(","));
        Block::Missing {
            what: format!("{what}."),
            command: command(self.evidence, "sweep", &flags),
        }
    }

    pub(super) fn waiting(&self) -> Section {
        const TITLE: &str = "Waiting against the model";
        let model = self.curve.first().zip(self.law_s);
        let Some((idlest, cost_s)) = model else {
            return section(TITLE, vec![Block::Text(NO_PROCESS.into())]);
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

    pub(super) fn balance(&self) -> Section {
        const TITLE: &str = "Balance between shards";
        let several = |point: &&Point| point.shards.len() > 1;
        let point = self.at_capacity.filter(several).or_else(|| {
            let points = self.evidence.points.iter().filter(several);
            points.max_by_key(|point| point.shards.len())
        });
        let Some(point) = point else {
            return section(
                TITLE,
                vec![self.missing_shards("balance: the server had one shard, or did not tell")],
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
}

fn describe_fit(fit: &usl::Fit) -> String {
    let with_bounds = |name: &str, bounds: Option<Estimate>, value: f64| {
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

/// The same points always give the same interval.
const FIT_SEED: u64 = 1;

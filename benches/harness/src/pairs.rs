//! Servers in two states each, *alone* and *beside* something that may disturb them.
//!
//! Both states of a server are measured right after each other, in turns one or the other first, so
//! that their ratio says little of what else the machine does; and the servers take turns.

use std::io;
use std::time::Duration;

use loadgen::report::document::Table;
use loadgen::report::markdown::render_table;
use loadgen::units::{several, significant};
use serde::Serialize;

use crate::client::Outcome;
use crate::options::Common;
use crate::progress::Progress;
use crate::report::environment::Environment;
use crate::report::row::{Interval, median};
use crate::report::{Intervals, Method};
use crate::rounds::{Repeats, Rounds};

/// One server in both states.
#[derive(Debug)]
pub struct Pair {
    /// Without what may disturb it.
    pub alone: Outcome,
    /// With it.
    pub beside: Outcome,
}

/// A state of a server. The two take turns in being measured first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Without what may disturb.
    Alone,
    /// With it.
    Beside,
}

impl Condition {
    /// Measures both states, this one first.
    pub fn measure(
        self,
        mut measure: impl FnMut(Condition) -> io::Result<Outcome>,
    ) -> io::Result<Pair> {
        let (alone, beside);
        match self {
            Self::Alone => {
                alone = measure(Self::Alone)?;
                beside = measure(Self::Beside)?;
            }
            Self::Beside => {
                beside = measure(Self::Beside)?;
                alone = measure(Self::Alone)?;
            }
        }
        Ok(Pair { alone, beside })
    }
}

/// What was found of a server.
#[derive(Debug)]
pub enum Series<Run> {
    /// The runs that count, in the order of time.
    Measured(Vec<Run>),
    /// What went wrong.
    Failed(String),
}

/// Measures so many rounds of one run of each server, as often as [`Repeats`] says, and shows how it
/// goes. A server that fails is not measured again, and the others go on.
pub fn measure<Server, Run>(
    servers: &[Server],
    wanted: usize,
    replacing_max: Duration,
    name: impl Fn(&Server) -> &str,
    mut run: impl FnMut(&Server, Condition) -> io::Result<Run>,
    pair: impl Fn(&Run) -> &Pair,
) -> (Vec<Series<Run>>, Rounds) {
    let mut series: Vec<_> = servers
        .iter()
        .map(|_| Series::Measured(Vec::with_capacity(wanted)))
        .collect();
    let mut repeats = Repeats::new(wanted, replacing_max);
    let mut progress = Progress::new(wanted * servers.len());
    while series.iter().any(Series::is_measured) && repeats.go_on() {
        let first = match repeats.count() % 2 {
            0 => Condition::Alone,
            _ => Condition::Beside,
        };
        let mut loads = Vec::new();
        for (server, series) in servers.iter().zip(&mut series) {
            let Series::Measured(runs) = series else {
                continue;
            };
            // Rounds that replace others were not foreseen.
            if repeats.count() < wanted {
                progress.next(&name(server));
            }
            match run(server, first) {
                Ok(run) => {
                    let Pair { alone, beside } = pair(&run);
                    progress.tell(name(server), beside);
                    loads.extend([alone.load, beside.load]);
                    runs.push(run);
                }
                Err(error) => *series = Series::Failed(error.to_string()),
            }
        }
        repeats.end(loads);
    }
    let (kept, rounds) = repeats.kept();
    for series in &mut series {
        if let Series::Measured(runs) = series {
            let mut round = 0..;
            runs.retain(|_| round.next().is_some_and(|round| kept.contains(&round)));
        }
    }
    (series, rounds)
}

/// What `row` makes of the runs of each server that could be measured, and a line for each of the
/// others.
pub fn rows<Server, Run, Row>(
    servers: &[Server],
    all: Vec<Series<Run>>,
    name: impl Fn(&Server) -> &str,
    row: impl Fn(&Server, &[Run]) -> Row,
) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for (server, series) in servers.iter().zip(all) {
        match series {
            Series::Measured(runs) => rows.push(row(server, &runs)),
            Series::Failed(why) => failed.push(format!("{}: {why}", name(server))),
        }
    }
    (rows, failed)
}

impl<Run> Series<Run> {
    fn is_measured(&self) -> bool {
        matches!(self, Self::Measured(_))
    }
}

/// A figure in both states: medians over the runs, each with its interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Compared {
    /// Without what may disturb.
    pub alone: f64,
    /// See there.
    pub alone_interval: Option<Interval>,
    /// With it.
    pub beside: f64,
    /// See there.
    pub beside_interval: Option<Interval>,
    /// Median of the ratios of pairs, beside ÷ alone.
    pub ratio: f64,
    /// Where that median lies. An interval around 1 says that no difference was found.
    pub ratio_interval: Option<Interval>,
}

impl Compared {
    /// Of one figure of the outcomes.
    pub fn of<'a>(
        pairs: impl Iterator<Item = &'a Pair> + Clone,
        figure: impl Fn(&Outcome) -> f64,
    ) -> Self {
        let over = |of: &dyn Fn(&Pair) -> f64| median(pairs.clone().map(of));
        let alone = over(&|pair| figure(&pair.alone));
        let beside = over(&|pair| figure(&pair.beside));
        let ratio = over(&|pair| figure(&pair.beside) / figure(&pair.alone));
        Self {
            alone: alone.value,
            alone_interval: alone.interval,
            beside: beside.value,
            beside_interval: beside.interval,
            ratio: ratio.value,
            ratio_interval: ratio.interval,
        }
    }

    /// Of a quantile of latency, in microseconds.
    pub fn of_latency_us<'a>(pairs: impl Iterator<Item = &'a Pair> + Clone, quantile: f64) -> Self {
        Self::of(pairs, |outcome| {
            outcome.latency_ns.value_at_quantile(quantile) as f64 / 1e3
        })
    }

    /// As it stands in a table: both medians, and the ratio with its interval.
    pub fn cells(&self) -> [String; 3] {
        let ratio = significant(self.ratio);
        let ratio = match self.ratio_interval {
            Some((low, high)) => format!("{ratio} ({}–{})", significant(low), significant(high)),
            None => ratio,
        };
        [significant(self.alone), significant(self.beside), ratio]
    }
}

/// All that a bench of pairs found.
#[derive(Debug, Serialize)]
pub struct Report<Setting, Row> {
    /// Where it was measured.
    pub environment: Environment,
    /// How it was measured.
    pub method: Method,
    /// What is special about this bench.
    #[serde(flatten)]
    pub setting: Setting,
    /// One for each server that could be measured.
    pub rows: Vec<Row>,
    /// What went wrong, a line for each of the others.
    pub failed: Vec<String>,
}

impl<Setting: Serialize, Row: Serialize> Report<Setting, Row> {
    /// Prints a table of the rows, whose first column is text, and writes it and the report into files
    /// where that was asked for. `legend` is what only this bench has to say below the table. An error
    /// when a server failed.
    pub fn publish(
        &self,
        bench: &str,
        common: &Common,
        table: &Table,
        legend: &str,
    ) -> io::Result<()> {
        let failed: String = self.failed.iter().map(|why| format!("\n{why}\n")).collect();
        let method = &self.method;
        let in_brackets = match method.intervals {
            Intervals::Confidence => "in brackets where it lies with 95 % confidence",
            Intervals::Range => "in brackets the lowest and the highest",
            Intervals::None => "of one pair",
        };
        let text = format!(
            "{}\n{failed}\n{}\n{legend} Medians of {} runs of {} s. *×*: median of the ratios of pairs of \
             runs, which follow each other, {in_brackets}. {}\n",
            self.environment,
            render_table(table, 1),
            method.runs,
            method.seconds,
            method.noise(),
        );
        common.publish(bench, &text, self)?;
        common.say_how_to_get_more(bench);
        if self.failed.is_empty() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{} failed\n{}",
            several(self.failed.len(), "server"),
            self.failed.join("\n")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuLoad;
    use hdrhistogram::Histogram;

    fn outcome(calls: u64, others: f64) -> Outcome {
        Outcome {
            calls,
            elapsed: Duration::from_secs(1),
            latency_ns: Histogram::new(3).unwrap(),
            load: CpuLoad::of_others(others),
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn the_states_take_turns_and_disturbed_rounds_are_left_out() {
        let (mut order, mut round) = (Vec::new(), 0);
        let run = |server: &u64, first: Condition| {
            round += 1;
            first.measure(|state| {
                order.push(state);
                Ok(outcome(*server, if round == 1 { 0.5 } else { 0.0 }))
            })
        };
        let (series, rounds) = measure(&[7], 2, LONG, |_| "server", run, |pair| pair);
        use Condition::{Alone, Beside};
        assert_eq!(order, [Alone, Beside, Beside, Alone, Alone, Beside]);
        assert_eq!((rounds.kept, rounds.disturbed, rounds.replaced), (2, 0, 1));
        assert!(matches!(&series[..], [Series::Measured(runs)] if runs.len() == 2));
    }

    #[test]
    fn a_server_that_fails_ends_nothing() {
        let run = |server: &u64, first: Condition| match server {
            0 => Err(io::Error::other("no")),
            calls => first.measure(|_| Ok(outcome(*calls, 0.0))),
        };
        let (series, _) = measure(&[0, 1], 3, LONG, |_| "server", run, |pair| pair);
        assert!(matches!(&series[0], Series::Failed(why) if why == "no"));
        assert!(matches!(&series[1], Series::Measured(runs) if runs.len() == 3));
        let (series, rounds) = measure(&[0, 0], 3, LONG, |_| "server", run, |pair| pair);
        assert!(!series.iter().any(Series::is_measured));
        assert_eq!(rounds.kept, 1, "nobody is left for another");
    }

    #[test]
    fn ratios_are_of_pairs() {
        // The machine changes its speed from pair to pair; the ratio does not.
        let pairs = [100, 10, 1].map(|calls| Pair {
            alone: outcome(calls, 0.0),
            beside: outcome(2 * calls, 0.0),
        });
        let compared = Compared::of(pairs.iter(), |outcome| outcome.calls as f64);
        assert_eq!((compared.alone, compared.beside), (10.0, 20.0));
        assert_eq!(
            (compared.ratio, compared.ratio_interval),
            (2.0, Some((2.0, 2.0)))
        );
        assert_eq!(compared.cells()[2], "2.00 (2.00–2.00)");
    }
}

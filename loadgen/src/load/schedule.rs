//! When calls are due, and what each of them asks for: fixed before any answer is seen.
//!
//! One stream of calls is drawn from the seed and then dealt to the threads, so the same seed gives
//! the same stream whatever their number. Dealing at random keeps a Poisson stream one on every
//! thread; even streams are dealt in turn, so that they stay even.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, Gamma};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::plan::Part;
use super::work::{Work, Workload};

/// How the times between calls are distributed.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival {
    /// All alike.
    Uniform,
    /// Exponentially: independent users.
    Poisson,
    /// By a gamma distribution with this coefficient of variation: 1 is Poisson, above it bursts.
    Gamma {
        /// Standard deviation ÷ mean.
        cv: f64,
    },
    /// As recorded: times since the beginning, in nanoseconds, ascending.
    Trace(Vec<u64>),
}

impl FromStr for Arrival {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(cv) = text.strip_prefix("gamma:") {
            let cv = cv.parse().ok().filter(|cv| (0.01..=100.0).contains(cv));
            return cv.map(|cv| Self::Gamma { cv }).ok_or_else(|| {
                "gamma takes a coefficient of variation from 0.01 to 100, such as gamma:2".into()
            });
        }
        if let Some(path) = text.strip_prefix("trace:") {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("can't read the trace {path}: {error}"))?;
            return parse_trace(&text).map(Self::Trace);
        }
        match text {
            "uniform" => Ok(Self::Uniform),
            "poisson" => Ok(Self::Poisson),
            _ => Err(
                "use uniform, poisson, gamma:CV, or trace:FILE (a time in seconds on each line)"
                    .into(),
            ),
        }
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Poisson => f.write_str("poisson"),
            Self::Gamma { cv } => write!(f, "gamma:{cv}"),
            Self::Trace(_) => f.write_str("trace"),
        }
    }
}

/// Reads times in seconds, one on each line, that never go back.
fn parse_trace(text: &str) -> Result<Vec<u64>, String> {
    let mut times_ns = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at_s: Option<f64> = line.parse().ok();
        let at_ns = at_s
            .filter(|at_s| (0.0..=TRACE_S_MAX).contains(at_s))
            .map(|at_s| (at_s * 1e9) as u64)
            .filter(|at_ns| times_ns.last().is_none_or(|last| last <= at_ns))
            .ok_or_else(|| {
                format!(
                    "line {} of the trace, `{line}`, is no time in seconds at or after the one before",
                    number + 1
                )
            })?;
        times_ns.push(at_ns);
    }
    if times_ns.is_empty() {
        return Err("the trace is empty; put a time in seconds on each line".into());
    }
    Ok(times_ns)
}

/// The calls of one thread, in the order of their times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// Nanoseconds since the call before. [`NO_CALL`] stands for a part of a longer gap.
    gaps_ns: Vec<u32>,
    /// What each call asks for. When all ask for the same, there is one.
    works: Vec<Work>,
}

/// A call of a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// When it is due, since the beginning of the load.
    pub intended_ns: u64,
    /// What it asks for.
    pub work: Work,
}

/// A place in a schedule.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    gap: usize,
    call: usize,
    at_ns: u64,
}

impl Cursor {
    /// Whether both are at the same call.
    pub fn is_at(&self, other: &Self) -> bool {
        self.call == other.call
    }
}

/// As a gap: so much time passes without a call.
const NO_CALL: u32 = u32::MAX;

impl Schedule {
    /// Draws all calls up to `until`, and deals those of a part to the threads.
    pub fn deal(
        arrival: &Arrival,
        rate_per_s: f64,
        until: Duration,
        workload: &Workload,
        seed: u64,
        part: Part,
        threads: usize,
    ) -> Vec<Self> {
        let mut times = Xoshiro256PlusPlus::seed_from_u64(seed);
        // Streams that never meet, so that what is asked does not depend on when.
        let mut dealing = times.clone();
        dealing.jump();
        let mut works = dealing.clone();
        works.jump();
        let mut parting = works.clone();
        parting.jump();
        let mut schedules = vec![Builder::default(); threads];
        let until_ns = until.as_nanos() as u64;
        for (number, at_ns) in Times::new(arrival, rate_per_s, &mut times)
            .take_while(|&at_ns| at_ns < until_ns)
            .enumerate()
        {
            // Every part draws the same, whatever it keeps.
            let work = workload
                .constant()
                .is_none()
                .then(|| workload.draw(&mut works));
            let owner = match arrival {
                _ if part.of == 1 => 0,
                Arrival::Uniform => number % part.of,
                _ => parting.random_range(0..part.of),
            };
            if owner != part.number {
                continue;
            }
            let thread = match arrival {
                _ if threads == 1 => 0,
                Arrival::Uniform => number / part.of % threads,
                _ => dealing.random_range(0..threads),
            };
            schedules[thread].push(at_ns);
            schedules[thread].schedule.works.extend(work);
        }
        let finish = |mut builder: Builder| {
            builder.schedule.works.extend(workload.constant());
            builder.schedule
        };
        schedules.into_iter().map(finish).collect()
    }

    /// What the callers of a closed loop ask for, over and over. Each thread of each part has a
    /// stream of its own, which no other seed shares.
    pub fn of_closed_loop(workload: &Workload, seed: u64, part: Part, thread: usize) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        (0..part.number).for_each(|_| random.long_jump());
        (0..thread).for_each(|_| random.jump());
        let works = (0..CLOSED_LOOP_WORKS).map(|_| workload.draw(&mut random));
        Self {
            gaps_ns: Vec::new(),
            works: works.collect(),
        }
    }

    /// The call at a place; `None` at the end.
    #[inline]
    pub fn next(&self, cursor: &mut Cursor) -> Option<Planned> {
        loop {
            let gap_ns = *self.gaps_ns.get(cursor.gap)?;
            cursor.gap += 1;
            cursor.at_ns += u64::from(gap_ns);
            if gap_ns != NO_CALL {
                let work = self.work(cursor.call);
                cursor.call += 1;
                return Some(Planned {
                    intended_ns: cursor.at_ns,
                    work,
                });
            }
        }
    }

    /// What the call of this number asks for.
    #[inline]
    pub fn work(&self, call: usize) -> Work {
        match &self.works[..] {
            [all] => *all,
            works => works[call % works.len()],
        }
    }

    /// All calls.
    pub fn calls(&self) -> impl Iterator<Item = Planned> {
        let mut cursor = Cursor::default();
        std::iter::from_fn(move || self.next(&mut cursor))
    }
}

#[derive(Clone, Default)]
struct Builder {
    schedule: Schedule,
    last_ns: u64,
}

impl Builder {
    fn push(&mut self, at_ns: u64) {
        let gaps_ns = &mut self.schedule.gaps_ns;
        let mut gap_ns = at_ns - self.last_ns;
        while gap_ns >= u64::from(NO_CALL) {
            gaps_ns.push(NO_CALL);
            gap_ns -= u64::from(NO_CALL);
        }
        gaps_ns.push(gap_ns as u32);
        self.last_ns = at_ns;
    }
}

/// The times of the whole stream, without end unless it is a trace.
enum Times<'a> {
    Gaps {
        random: &'a mut Xoshiro256PlusPlus,
        gap: Gap,
        mean_ns: f64,
        at_ns: f64,
    },
    Trace(std::slice::Iter<'a, u64>),
}

enum Gap {
    Constant,
    Exponential,
    Gamma(Gamma<f64>),
}

impl<'a> Times<'a> {
    fn new(arrival: &'a Arrival, rate_per_s: f64, random: &'a mut Xoshiro256PlusPlus) -> Self {
        let gap = match arrival {
            Arrival::Uniform => Gap::Constant,
            Arrival::Poisson => Gap::Exponential,
            Arrival::Gamma { cv } => {
                let shape = 1.0 / (cv * cv);
                Gap::Gamma(Gamma::new(shape, 1.0 / shape).expect("cv is positive and finite"))
            }
            Arrival::Trace(times_ns) => return Self::Trace(times_ns.iter()),
        };
        Self::Gaps {
            random,
            gap,
            mean_ns: 1e9 / rate_per_s,
            at_ns: 0.0,
        }
    }
}

impl Iterator for Times<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Trace(times_ns) => times_ns.next().copied(),
            Self::Gaps {
                random,
                gap,
                mean_ns,
                at_ns,
            } => {
                let gap: f64 = match gap {
                    Gap::Constant => 1.0,
                    Gap::Exponential => Exp1.sample(random),
                    Gap::Gamma(gamma) => gamma.sample(random),
                };
                *at_ns += gap * *mean_ns;
                Some(*at_ns as u64)
            }
        }
    }
}

/// Different calls of a closed loop, before they repeat.
const CLOSED_LOOP_WORKS: usize = 1 << 16;
/// A year: longer traces are in another unit.
const TRACE_S_MAX: f64 = 366.0 * 86_400.0;

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;

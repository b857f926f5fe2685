//! How often a round of runs is repeated, and which rounds count.
//!
//! A round in which other processes used the CPUs is repeated, up to a limit; then those count that
//! were disturbed least. What decides is CPU time, never the result.

use std::iter::Sum;
use std::time::{Duration, Instant};

use crate::cpu::CpuLoad;

/// Rounds, one run of each peer: how many there were, and how calm they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Those that count.
    pub kept: usize,
    /// Those among them in which other processes used the CPUs all the same.
    pub disturbed: usize,
    /// Those that do not count, because they were disturbed more than those that do.
    pub replaced: usize,
}

impl Sum for Rounds {
    fn sum<All: Iterator<Item = Self>>(all: All) -> Self {
        all.fold(Self::default(), |sum, rounds| Self {
            kept: sum.kept + rounds.kept,
            disturbed: sum.disturbed + rounds.disturbed,
            replaced: sum.replaced + rounds.replaced,
        })
    }
}

/// Rounds that are being measured.
#[derive(Debug)]
pub struct Repeats {
    runs: usize,
    replacing_max: Duration,
    replace_until: Option<Instant>,
    /// Of each round the largest share that others had of the CPUs; `None` when all of it was calm.
    disturbances: Vec<Option<f64>>,
}

impl Repeats {
    /// For so many rounds that count. Others replace disturbed ones for so long at most.
    pub fn new(runs: usize, replacing_max: Duration) -> Self {
        Self {
            runs,
            replacing_max,
            replace_until: None,
            disturbances: Vec::new(),
        }
    }

    /// Whether there is another round.
    pub fn go_on(&mut self) -> bool {
        let rounds = self.disturbances.len();
        if rounds < self.runs {
            return true;
        }
        let now = Instant::now();
        let until = *self.replace_until.get_or_insert(now + self.replacing_max);
        let calm = self.disturbances.iter().filter(|share| share.is_none());
        calm.count() < self.runs && rounds < self.runs * ROUNDS_PER_RUN_MAX && now < until
    }

    /// A round has ended, of whose runs these are the loads.
    pub fn end(&mut self, loads: impl IntoIterator<Item = CpuLoad>) {
        let disturbed = loads.into_iter().filter(|load| !load.is_calm);
        let shares = disturbed.filter_map(|load| load.others);
        self.disturbances.push(shares.reduce(f64::max));
    }

    /// Rounds until now.
    pub fn count(&self) -> usize {
        self.disturbances.len()
    }

    /// The rounds that count, by the order of time, and how calm they were.
    pub fn kept(&self) -> (Vec<usize>, Rounds) {
        let share = |round: &usize| self.disturbances[*round];
        let mut kept: Vec<usize> = (0..self.count()).collect();
        // Calm ones are alike, and the first of them stay.
        kept.sort_by(|a, b| share(a).unwrap_or(0.0).total_cmp(&share(b).unwrap_or(0.0)));
        kept.truncate(self.runs);
        kept.sort_unstable();
        let rounds = Rounds {
            kept: kept.len(),
            disturbed: kept.iter().filter(|round| share(round).is_some()).count(),
            replaced: self.count() - kept.len(),
        };
        (kept, rounds)
    }
}

/// Rounds that are tried for each that counts.
const ROUNDS_PER_RUN_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn rounds_that_were_disturbed_least_stay() {
        let mut repeats = Repeats::new(3, LONG);
        // One disturbed run spoils its round.
        for (one, other) in [
            (0.0, 0.2),
            (0.3, 0.0),
            (0.04, 0.03),
            (0.0, 0.5),
            (0.01, 0.02),
        ] {
            repeats.end([CpuLoad::of_others(one), CpuLoad::of_others(other)]);
        }
        let expected = Rounds {
            kept: 3,
            disturbed: 1,
            replaced: 2,
        };
        assert_eq!(repeats.kept(), (vec![0, 2, 4], expected));
    }

    #[test]
    fn disturbed_rounds_are_replaced_up_to_a_limit() {
        let mut calm = Repeats::new(2, LONG);
        while calm.go_on() {
            calm.end([CpuLoad::of_others(0.0)]);
        }
        assert_eq!(calm.count(), 2);
        let mut restless = Repeats::new(2, LONG);
        while restless.go_on() {
            restless.end([CpuLoad::of_others(0.5)]);
        }
        assert_eq!(restless.count(), 2 * ROUNDS_PER_RUN_MAX);
        let mut hurried = Repeats::new(2, Duration::ZERO);
        while hurried.go_on() {
            hurried.end([CpuLoad::of_others(0.5)]);
        }
        assert_eq!(hurried.count(), 2);
    }
}

//! What others than the server and the generator took of their CPUs while a load ran.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::units::{format_ns, percent, several};

/// Times of a millisecond or longer in which a thread did not run that wanted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pauses {
    /// How many.
    pub count: u64,
    /// All of them: the mean over threads.
    pub total_ns: u64,
    /// The longest.
    pub longest_ns: u64,
}

impl Pauses {
    /// A single one.
    pub fn one(ns: u64) -> Self {
        Self {
            count: 1,
            total_ns: ns,
            longest_ns: ns,
        }
    }

    /// The mean over so many threads that were looked at.
    pub fn per_thread(self, threads: usize) -> Self {
        Self {
            total_ns: self.total_ns / threads.max(1) as u64,
            ..self
        }
    }

    fn ratio(&self, window_s: f64) -> f64 {
        self.total_ns as f64 / 1e9 / window_s.max(1e-9)
    }
}

impl AddAssign for Pauses {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.total_ns += other.total_ns;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }
}

/// What took CPUs of the generator or the server away in the window, so far as it was seen. It makes
/// latencies longer for which the server is not to blame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disturbance {
    /// Of the generator's threads that never sleep.
    pub generator: Pauses,
    /// Of a thread that wakes up every half a millisecond on the server's CPUs; `None`: it could not look.
    pub server: Option<Pauses>,
    /// Share of the CPUs of generator and server that other programs used; `None`: not known.
    pub programs_ratio: Option<f64>,
    /// Share of them that the host of the virtual machine took; `None`: not known.
    pub host_ratio: Option<f64>,
}

impl Disturbance {
    /// Share of the time that was taken of what was hit most, in a window of so many seconds.
    pub fn taken_ratio(&self, window_s: f64) -> f64 {
        let taken = [
            Some(self.generator.ratio(window_s)),
            self.server.map(|pauses| pauses.ratio(window_s)),
            self.host_ratio,
            // Counted by ticks, so a little of it is noise.
            self.programs_ratio.filter(|_| self.has_other_programs()),
        ];
        taken.into_iter().flatten().fold(0.0, f64::max)
    }

    /// Whether more was taken than is of every CPU now and then.
    pub fn is_noteworthy(&self, window_s: f64) -> bool {
        self.taken_ratio(window_s) >= NOTED_RATIO
    }

    /// Whether other programs took more than is noise.
    pub fn has_other_programs(&self) -> bool {
        self.programs_ratio
            .is_some_and(|ratio| ratio >= PROGRAMS_RATIO_MIN)
    }

    /// What was taken, in words; `None` where it is not worth a word.
    pub fn note(&self, window_s: f64) -> Option<String> {
        let mut parts = Vec::new();
        let noted = |ratio: Option<f64>| ratio.filter(|ratio| *ratio >= NOTED_RATIO);
        if let Some(ratio) = noted(self.programs_ratio) {
            parts.push(format!(
                "other programs took {} of the CPUs of generator and server",
                percent(ratio)
            ));
        }
        if let Some(ratio) = noted(self.host_ratio) {
            parts.push(format!(
                "the host took {} of the CPUs of generator and server",
                percent(ratio)
            ));
        }
        let sides = [("generator", Some(self.generator)), ("server", self.server)];
        for (side, pauses) in sides {
            let Some(pauses) = pauses.filter(|pauses| pauses.ratio(window_s) >= NOTED_RATIO) else {
                continue;
            };
            parts.push(format!(
                "the {side}'s CPU stood still {}, for {} in all and {} at the longest",
                several(pauses.count as usize, "time"),
                format_ns(pauses.total_ns as f64),
                format_ns(pauses.longest_ns as f64)
            ));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl AddAssign for Disturbance {
    fn add_assign(&mut self, other: Self) {
        self.generator += other.generator;
        self.server = self.server.or(other.server);
        self.programs_ratio = self.programs_ratio.or(other.programs_ratio);
        self.host_ratio = self.host_ratio.or(other.host_ratio);
    }
}

/// Less than this of other programs excuses nothing.
const PROGRAMS_RATIO_MIN: f64 = 0.03;
/// Less than this of a CPU is taken from every program now and then.
const NOTED_RATIO: f64 = 0.005;

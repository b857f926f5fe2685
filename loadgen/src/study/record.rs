//! `study.json`: what a study has asked and found. Beside the tables of the points it says what each
//! of them was for.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Side;
use super::compare::ComparisonRecord;
use super::judge::Verdict;
use super::search::Phase;
use super::sweep::Axis;
use crate::analysis::Estimate;
use crate::units::format_per_s;

/// What kind of study it was, and what came out beyond the points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StudyRecord {
    /// Loads along an axis.
    Sweep {
        /// What differs between them.
        axis: Axis,
    },
    /// The highest rate that meets an objective.
    Search(SearchRecord),
    /// One against another.
    Compare(ComparisonRecord),
}

/// A search and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchRecord {
    /// The objective, as on the command line.
    pub slo: String,
    /// The width of the last gap, as a share of the rate.
    pub tolerance: f64,
    /// Whether it went to its end.
    pub is_complete: bool,
    /// Whether that was because its time was up.
    #[serde(default)]
    pub is_out_of_time: bool,
    /// Its loads in order; each is a point of the folder.
    pub probes: Vec<SearchProbe>,
    /// `None`: no rate meets the objective.
    pub answer: Option<SearchAnswer>,
}

impl SearchRecord {
    /// The points that have passed at a rate.
    pub fn passed_at(&self, rate_per_s: f64) -> Vec<u32> {
        let has_passed = |probe: &&SearchProbe| {
            probe.rate_per_s == rate_per_s && probe.verdict == Verdict::Passed
        };
        let passed = self.probes.iter().filter(has_passed);
        passed.map(|probe| probe.point).collect()
    }

    /// Those of them that met the objective only in what was due while no CPU stood still.
    pub fn passed_in_quiet_at(&self, rate_per_s: f64) -> Vec<u32> {
        let is_of_quiet = |point: &u32| {
            let mut probes = self.probes.iter();
            probes.any(|probe| probe.point == *point && probe.is_of_quiet)
        };
        let passed = self.passed_at(rate_per_s).into_iter();
        passed.filter(is_of_quiet).collect()
    }

    /// Loads that did not pass while others had the CPUs.
    pub fn disturbed(&self) -> usize {
        let is_disturbed = |probe: &&SearchProbe| probe.verdict == Verdict::Disturbed;
        self.probes.iter().filter(is_disturbed).count()
    }

    /// Why there is no answer although the server may well meet the objective: at the lowest rate that was
    /// tried no load was a measurement. `None`: there is an answer, or that rate was refused.
    pub fn undecided(&self) -> Option<String> {
        if !self.is_complete && self.answer.is_none() {
            let passed = self
                .probes
                .iter()
                .filter(|probe| probe.verdict == Verdict::Passed);
            let highest = passed.map(|probe| probe.rate_per_s).reduce(f64::max);
            return Some(match highest {
                Some(rate) => format!(
                    "the search was ended early; the highest rate at which a load had passed was {} calls/s",
                    format_per_s(rate)
                ),
                None => "the search was ended early, before a load had passed".into(),
            });
        }
        if self.is_out_of_time && self.answer.is_none() {
            return Some(
                "its time was up before a rate had passed; give it more (--time-max)".into(),
            );
        }
        let rates = self.probes.iter().map(|probe| probe.rate_per_s);
        let lowest = rates.fold(f64::INFINITY, f64::min);
        let mut at_lowest = self
            .probes
            .iter()
            .filter(|probe| probe.rate_per_s == lowest);
        let is_refusal = |probe: &SearchProbe| probe.verdict.is_of_the_server();
        let is_open = self.answer.is_none() && !at_lowest.clone().any(is_refusal);
        is_open.then(|| {
            let last = at_lowest.next_back().map(|probe| probe.reasons.join("; "));
            format!(
                "{} of {} loads said nothing of the server, {} because others had the CPUs; the last: {}",
                self.probes.iter().filter(|probe| !probe.verdict.is_of_the_server()).count(),
                self.probes.len(),
                self.disturbed(),
                last.unwrap_or_else(|| "none was run".into())
            )
        })
    }
}

/// A load of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchProbe {
    /// Its point.
    pub point: u32,
    /// Calls per second that were to be offered.
    pub rate_per_s: f64,
    /// Why it was run.
    pub phase: Phase,
    /// What it showed.
    pub verdict: Verdict,
    /// Why it did not pass, or how it did in spite of a disturbance.
    pub reasons: Vec<String>,
    /// Whether only the calls decided that were due while no CPU stood still.
    #[serde(default)]
    pub is_of_quiet: bool,
    /// The objective's quantile in nanoseconds, where enough calls were measured.
    pub quantile_ns: Option<Interval>,
}

/// What a search has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchAnswer {
    /// The highest rate that passed and that no valid load has refuted.
    pub rate_per_s: f64,
    /// The last point that has passed at it; `None`: the rate was stepped back to, and never measured.
    pub point: Option<u32>,
    /// Further loads that have passed at it.
    pub confirmations: u32,
    /// The points of those that should have and did not.
    #[serde(default)]
    pub unconfirmed: Vec<u32>,
    /// The lowest rate that surely failed and above which none has passed.
    pub failed_per_s: Option<f64>,
    /// Why the next higher rate did not pass; `None`: no higher one was tried.
    pub limit: Option<String>,
    /// Whether that says nothing of the server, since the generator was late or others had the CPUs, so that
    /// it may carry more; also when the rate could not be confirmed for such a reason.
    #[serde(alias = "is_generator_limited")]
    pub is_unmeasured_above: bool,
}

/// An estimate with its bounds at 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The best guess.
    pub value: f64,
    /// The lower bound.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
}

impl From<Estimate> for Interval {
    fn from(estimate: Estimate) -> Self {
        let Estimate {
            value,
            lower,
            upper,
        } = estimate;
        Self {
            value,
            lower,
            upper,
        }
    }
}

impl StudyRecord {
    /// Reads the record of a folder; `None` if it has none, as after `loadgen run`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(folder.join(FILE)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the record into a folder.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::write(
            folder.join(FILE),
            serde_json::to_string_pretty(self)? + "\n",
        )
    }

    /// The side that a point belongs to: of a comparison, B's points are another target's.
    pub fn side(&self, point: u32) -> Side {
        match self {
            Self::Compare(record) => record.side(point),
            Self::Sweep { .. } | Self::Search(_) => Side::A,
        }
    }
}

const FILE: &str = "study.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_decided_by_what_the_server_refuses() {
        let probe = |verdict| SearchProbe {
            point: 0,
            rate_per_s: 1000.0,
            phase: Phase::Ramp,
            verdict,
            reasons: Vec::new(),
            quantile_ns: None,
            is_of_quiet: false,
        };
        let record = |verdicts: &[Verdict], answer| SearchRecord {
            slo: "p99<1ms".into(),
            tolerance: 0.02,
            is_complete: true,
            is_out_of_time: false,
            probes: verdicts.iter().copied().map(probe).collect(),
            answer,
        };
        let invalid = [Verdict::Invalid, Verdict::Disturbed, Verdict::Invalid];
        let why = record(&invalid, None).undecided().unwrap();
        assert!(
            why.starts_with("3 of 3 loads") && why.contains("1 because others"),
            "{why}"
        );
        assert_eq!(
            record(&[Verdict::Invalid, Verdict::Failed], None).undecided(),
            None
        );
        // What was refused higher up says nothing of the lowest rate.
        let mut open = record(&[Verdict::Failed, Verdict::Disturbed], None);
        open.probes[1].rate_per_s = 10.0;
        assert!(open.undecided().is_some());
        let mut ended = record(&[Verdict::Passed, Verdict::Failed], None);
        ended.is_complete = false;
        let why = ended.undecided().unwrap();
        assert!(
            why.contains("ended early") && why.contains("was 1 000 calls/s"),
            "{why}"
        );
        let answer = SearchAnswer {
            rate_per_s: 1000.0,
            point: Some(0),
            confirmations: 2,
            unconfirmed: Vec::new(),
            failed_per_s: None,
            limit: None,
            is_unmeasured_above: true,
        };
        assert_eq!(record(&[Verdict::Invalid], Some(answer)).undecided(), None);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(StudyRecord::read(folder.path()).unwrap(), None);
        let record = StudyRecord::Search(SearchRecord {
            slo: "p99<1ms".into(),
            tolerance: 0.02,
            is_complete: true,
            is_out_of_time: false,
            probes: vec![SearchProbe {
                point: 0,
                rate_per_s: 1000.0,
                phase: Phase::Ramp,
                verdict: Verdict::Unsure,
                reasons: vec!["p99<1ms violated".into()],
                quantile_ns: Some(Interval {
                    value: 2.0,
                    lower: 1.0,
                    upper: 3.0,
                }),
                is_of_quiet: true,
            }],
            answer: None,
        });
        record.write(folder.path()).unwrap();
        assert_eq!(StudyRecord::read(folder.path()).unwrap(), Some(record));
        std::fs::write(folder.path().join(FILE), "{}").unwrap();
        assert!(StudyRecord::read(folder.path()).is_err());
    }
}

//! What calls have cost before, and whether they have become dearer.

use std::collections::BTreeMap;

use loadgen::environment::RUSTC;
use loadgen::report::document::Table;
use loadgen::report::markdown::render_table;
use loadgen::units::{or_dash, significant};
use serde::{Deserialize, Serialize};

/// What calls cost, as the file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The compiler; another one counts differently.
    pub rustc: String,
    /// By the name of the call.
    pub calls: BTreeMap<String, Cost>,
}

/// What one call costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Instructions in user space.
    pub instructions: f64,
    /// Allocations and reallocations.
    pub allocations: f64,
}

/// Share by which a call may grow before that is an error. C libraries and CPUs differ a little in how
/// they copy memory, and runs in where it lies.
const TOLERANCE: f64 = 0.02;

impl Baseline {
    /// An empty record of this compiler.
    #[expect(clippy::new_without_default, reason = "an empty record is no default")]
    pub fn new() -> Self {
        Self {
            rustc: RUSTC.into(),
            calls: BTreeMap::new(),
        }
    }

    /// A table of these calls, beside what was recorded before.
    pub fn to_table(&self, before: Option<&Self>) -> String {
        const HEADINGS: [&str; 5] = ["call", "instructions", "on record", "change", "allocations"];
        let rows = self.calls.iter().map(|(name, now)| {
            let before = before.and_then(|before| before.calls.get(name));
            vec![
                name.clone(),
                significant(now.instructions),
                or_dash(before, |before| significant(before.instructions)),
                or_dash(before, |before| {
                    format!("{:+.1} %", now.growth(before) * 100.0)
                }),
                significant(now.allocations),
            ]
        });
        render_table(&Table::new(&HEADINGS, rows), 1)
    }

    /// Fails when a call has become dearer than in `before`, or when either has calls that the other
    /// has not.
    pub fn check(&self, before: &Self) -> Result<(), String> {
        let complaint = |(name, now): (&String, &Cost)| match before.calls.get(name) {
            None => Some(format!("{name}: not on record")),
            Some(then) if now.is_dearer(then) => Some(format!(
                "{name}: {:.1} instructions and {} allocations; {:.1} and {} are on record",
                now.instructions, now.allocations, then.instructions, then.allocations
            )),
            Some(_) => None,
        };
        let gone = before
            .calls
            .keys()
            .filter(|name| !self.calls.contains_key(*name));
        let dearer = self.calls.iter().filter_map(complaint);
        let complaints: Vec<_> = dearer
            .chain(gone.map(|name| format!("{name}: on record, but no longer counted")))
            .collect();
        if complaints.is_empty() {
            return Ok(());
        }
        Err(format!(
            "calls differ from the record; if it must be so, `-- --update` records it\n{}\n({}; on \
             record: {})",
            complaints.join("\n"),
            self.rustc,
            before.rustc
        ))
    }

    /// Calls that have become so much cheaper that it is worth recording.
    pub fn cheaper_than<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        let is_cheaper = |(name, now): &(&String, &Cost)| {
            let then = before.calls.get(*name);
            then.is_some_and(|then| now.growth(then) < -TOLERANCE)
        };
        self.calls
            .iter()
            .filter(is_cheaper)
            .map(|(name, _)| &**name)
    }
}

impl Cost {
    fn growth(&self, before: &Self) -> f64 {
        self.instructions / before.instructions - 1.0
    }

    fn is_dearer(&self, before: &Self) -> bool {
        self.growth(before) > TOLERANCE || self.allocations > before.allocations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(instructions: f64, allocations: f64) -> Baseline {
        let mut baseline = Baseline::new();
        let cost = Cost {
            instructions,
            allocations,
        };
        baseline.calls.insert("echo".into(), cost);
        baseline
    }

    #[test]
    fn growth_beyond_the_tolerance_fails() {
        let before = baseline(1000.0, 0.0);
        assert!(baseline(1019.0, 0.0).check(&before).is_ok());
        let dearer = baseline(1021.0, 0.0).check(&before).unwrap_err();
        assert!(dearer.contains("echo: 1021.0 instructions"), "{dearer}");
        assert!(baseline(900.0, 0.1).check(&before).is_err());
        assert!(baseline(1.0, 0.0).check(&Baseline::new()).is_err());
        let gone = Baseline::new().check(&before).unwrap_err();
        assert!(
            gone.contains("echo: on record, but no longer counted"),
            "{gone}"
        );
    }

    #[test]
    fn what_has_become_cheaper_is_told() {
        let before = baseline(1000.0, 0.0);
        let (cheaper, same) = (baseline(970.0, 0.0), baseline(985.0, 0.0));
        assert_eq!(cheaper.cheaper_than(&before).collect::<Vec<_>>(), ["echo"]);
        assert_eq!(same.cheaper_than(&before).count(), 0);
    }
}

//! `capacity.json`: what an instance carries, for programs such as a scaling policy.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::verdict::{self, Planning};
use crate::analysis::slo::Slo;
use crate::results::Protocol;

/// What an instance carries, and where that is from. Rates are calls per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapacityFile {
    /// Version of this file's shape.
    pub schema_version: u32,
    /// The objective that is kept, as on the command line.
    pub objective: String,
    /// The highest rate at which an instance keeps it.
    pub rate_per_s: f64,
    /// Whether the truth may be higher: no higher rate was tried, or none could be measured.
    pub is_at_least: bool,
    /// Whether loads of full length have confirmed it.
    pub is_confirmed: bool,
    /// Whether it holds only while nobody else takes the machine's CPUs.
    pub is_of_quiet_only: bool,
    /// The lowest rate that surely does not keep it; `None`: none was found.
    pub failed_per_s: Option<f64>,
    /// Share of the rate that is kept free.
    pub headroom_ratio: f64,
    /// What an instance should be given at most: the rate without the headroom.
    pub rated_per_s: f64,
    /// CPU time of the server for a call at that rate, in seconds.
    pub cpu_s_per_call: Option<f64>,
    /// The peak that was planned for.
    pub peak_per_s: Option<f64>,
    /// By how much it grows.
    pub growth: f64,
    /// Instances that may be lost.
    pub spare: u32,
    /// Instances that this takes.
    pub instances: Option<u64>,
    /// Points of the result folder that the rate is from.
    pub points: Vec<u32>,
    /// The result folder.
    pub folder: String,
    /// When it was measured.
    pub measured_utc: String,
    /// The commit that was measured.
    pub commit: String,
    /// What was spoken.
    pub protocol: Protocol,
    /// The methods, each with its share of the calls.
    pub methods: Vec<(String, f64)>,
    /// The server's shards, where it told.
    pub server_shards: Option<u32>,
    /// The processor.
    pub cpu_model: Option<String>,
}

impl CapacityFile {
    /// What the evidence shows; `None` if that is no capacity.
    pub fn of(evidence: &Evidence, slo: Option<&Slo>, planning: Planning) -> Option<Self> {
        let capacity = verdict::capacity(evidence, slo)?;
        let folder = &evidence.folders[0];
        let (manifest, load) = (&folder.manifest, &folder.manifest.load);
        let methods = load.methods.iter();
        Some(Self {
            schema_version: SCHEMA_VERSION,
            objective: capacity.slo.to_string(),
            rate_per_s: capacity.rate_per_s,
            is_at_least: capacity.is_unmeasured_above || capacity.limit.is_none(),
            is_confirmed: capacity.is_confirmed(),
            is_of_quiet_only: !capacity.quiet_points.is_empty(),
            failed_per_s: capacity.failed_per_s,
            headroom_ratio: planning.headroom,
            rated_per_s: capacity.rated_per_s(planning),
            cpu_s_per_call: capacity.cpu_s_per_call,
            peak_per_s: planning.peak_per_s,
            growth: planning.growth,
            spare: planning.spare,
            instances: capacity.instances(planning),
            points: capacity.points,
            folder: folder.name.clone(),
            measured_utc: manifest.started_utc.clone(),
            commit: manifest.build.commit.clone(),
            protocol: load.protocol,
            methods: methods
                .map(|share| (share.method.clone(), share.share_ratio))
                .collect(),
            server_shards: load.server_shards,
            cpu_model: manifest.machine.cpu_model.clone(),
        })
    }

    /// Writes it into a folder, or removes that of an earlier report, which this one no longer shows.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn write(capacity: Option<&Self>, folder: &Path) -> io::Result<()> {
        let path = folder.join(FILE);
        match capacity {
            Some(capacity) => fs::write(path, serde_json::to_string_pretty(capacity)? + "\n"),
            None => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }
}

const SCHEMA_VERSION: u32 = 1;
const FILE: &str = "capacity.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_capacity_is_written_for_programs_and_taken_back() {
        let folder = fixture::search();
        let evidence = Evidence::read(&[folder.path()]).unwrap();
        let planning = Planning {
            peak_per_s: Some(20_000.0),
            growth: 1.5,
            spare: 1,
            headroom: 0.25,
        };
        let capacity = CapacityFile::of(&evidence, None, planning).unwrap();
        let needed = (30_000.0 / (0.75 * capacity.rate_per_s)).ceil() as u64 + 1;
        assert_eq!(capacity.instances, Some(needed));
        assert_eq!(capacity.rated_per_s, 0.75 * capacity.rate_per_s);
        assert!(capacity.is_confirmed && !capacity.is_of_quiet_only);
        CapacityFile::write(Some(&capacity), folder.path()).unwrap();
        let path = folder.path().join(FILE);
        let read: CapacityFile = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, capacity);
        CapacityFile::write(None, folder.path()).unwrap();
        assert!(!path.exists());
        CapacityFile::write(None, folder.path()).unwrap();
    }
}

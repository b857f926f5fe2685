//! Result folders of simulated servers, for tests.

use std::time::Duration;

use tempfile::TempDir;

use crate::results::*;
use crate::study::conduct;
use crate::study::record::StudyRecord;
use crate::study::search::Settings;
use crate::study::simulated::Server;
use crate::study::sweep::{Axis, CURVE, Plan};
use crate::study::{Load, Probe, Probed};

/// A search on one random queue with μ = 5000/s and p99 < 5 ms, and the curve around its answer.
pub(crate) fn search() -> TempDir {
    let slo = "p99<5ms".parse().unwrap();
    let settings = Settings {
        rate_min_per_s: 10.0,
        start_per_s: 500.0,
        rate_max_per_s: 1e6,
        tolerance: 0.02,
        confirmations: 1,
        time_max_s: f64::INFINITY,
    };
    let mut probe = Recorded::new("search", 1);
    probe.server.window_s = 20.0;
    let record = conduct::conduct(&mut probe, &slo, settings, 1, |_| true).unwrap();
    let rate = record.answer.as_ref().unwrap().rate_per_s;
    let rates = CURVE.iter().map(|share| share * rate).collect();
    for load in Plan::Rates(rates).loads(1, 0.0, 7) {
        probe.probe(&load).unwrap();
    }
    probe.finish(&StudyRecord::Search(record))
}

/// A sweep over shards.
pub(crate) fn shards() -> TempDir {
    let mut probe = Recorded::new("sweep", 4);
    probe.server.window_s = 1.0;
    for load in Plan::Shards(vec![1, 2, 3, 4]).loads(2, 0.0, 7) {
        probe.probe(&load).unwrap();
    }
    probe.finish(&StudyRecord::Sweep { axis: Axis::Shards })
}

/// A simulated server whose points are kept in a folder.
struct Recorded {
    server: Server,
    shards: u32,
    folder: TempDir,
    writer: ResultWriter,
    points: Vec<PointSummary>,
    at: Duration,
}

impl Recorded {
    fn new(study: &str, shards: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest(study, shards);
        let writer = ResultWriter::create(folder.path(), &manifest, wall_clock()).unwrap();
        Self {
            server: Server::random(5000.0),
            shards,
            folder,
            writer,
            points: Vec::new(),
            at: Duration::ZERO,
        }
    }

    /// Moves the result folder to where the test looks for it.
    fn finish(self, record: &StudyRecord) -> TempDir {
        let summary = Summary {
            schema_version: SCHEMA_VERSION,
            completion: Completion::Complete,
            exit_code: 0,
            ceiling: Some(Ceiling {
                pipelined_per_s: 1.7e6,
                kept: Some(KeptRate {
                    per_s: 1.2e6,
                    own_lag_p99_ns: 31_000,
                }),
                stalls: None,
            }),
            points: self.points,
        };
        self.writer.write_summary(&summary).unwrap();
        record.write(self.writer.path()).unwrap();
        for entry in std::fs::read_dir(self.writer.path()).unwrap() {
            let from = entry.unwrap().path();
            std::fs::rename(&from, self.folder.path().join(from.file_name().unwrap())).unwrap();
        }
        self.folder
    }
}

impl Probe for Recorded {
    type Error = std::convert::Infallible;

    fn probe(&mut self, load: &Load) -> Result<Probed, Self::Error> {
        let mut probed = self.server.probe(load)?;
        let shards = load.shards.unwrap_or(self.shards);
        if load.rate_per_s.is_none() {
            probed.point.loop_kind = LoopKind::Closed;
            // A little contention.
            let speedup = f64::from(shards) / (1.0 + 0.1 * f64::from(shards - 1));
            probed.point.achieved_per_s *= speedup;
        }
        let length =
            Duration::from_secs_f64(probed.point.window_s / probed.responses_ns.len() as f64);
        for values_ns in &probed.responses_ns {
            for kind in Kind::ALL {
                let mut values_ns = values_ns.clone();
                if matches!(kind, Kind::RoomWait | Kind::OwnLag) {
                    let calls = values_ns.len();
                    values_ns.reset();
                    values_ns.record_n(12_000, calls).unwrap();
                }
                let key = HistogramKey {
                    point: probed.point.point,
                    method: "spin".into(),
                    kind,
                };
                let interval = IntervalHistogram {
                    key,
                    start: self.at,
                    length,
                    values_ns,
                };
                self.writer.add_histograms(&[interval]).unwrap();
            }
            self.at += length;
        }
        self.writer.add_point(&row(&probed.point, shards)).unwrap();
        let shard = |shard: u32| ShardRow {
            point: probed.point.point,
            shard,
            cpu: Some(shard),
            connections: 4,
            requests: probed.point.counts.ok * u64::from(shard + 2),
            in_place: 0,
            copied: 0,
            direct: 0,
        };
        let rows: Vec<_> = (0..shards).map(shard).collect();
        self.writer.add_shards(&rows).unwrap();
        self.points.push(probed.point.clone());
        Ok(probed)
    }
}

fn row(point: &PointSummary, shards: u32) -> PointRow {
    let response = &point.latency.response;
    PointRow {
        point: point.point,
        label: point.label.clone(),
        protocol: Protocol::Ringcall,
        loop_kind: point.loop_kind,
        shards: Some(shards),
        conns: 4,
        depth: 16,
        threads: 1,
        window_s: point.window_s,
        offered_per_s: point.offered_per_s,
        achieved_per_s: point.achieved_per_s,
        is_valid: point.validity.is_valid,
        invalid_reasons: String::new(),
        is_slo_met: None,
        p50_ns: response.percentile_ns(50.0),
        p90_ns: response.percentile_ns(90.0),
        p99_ns: response.percentile_ns(99.0),
        p999_ns: response.percentile_ns(99.9),
        max_ns: response.max_ns,
        mean_ns: response.mean_ns,
        p50_low_ns: None,
        p50_high_ns: None,
        p99_low_ns: None,
        p99_high_ns: None,
        p999_low_ns: None,
        p999_high_ns: None,
        service_p99_ns: None,
        room_wait_p99_ns: None,
        own_lag_p99_ns: None,
        scheduled: point.counts.scheduled,
        sent: point.counts.sent,
        ok: point.counts.ok,
        error: 0,
        timeout: 0,
        unfinished: 0,
        in_flight_mean: 0.0,
        server_cpu_us_per_call: point.server.map(|server| server.cpu_us_per_call),
        server_cpus_busy: point.server.map(|server| server.cpus_busy),
    }
}

fn manifest(study: &str, shards: u32) -> Manifest {
    let limit = LimitPair {
        soft: Some(1 << 20),
        hard: None,
    };
    let arguments = [study, "--slo", "p99<5ms", "--method", "spin"];
    Manifest {
        schema_version: SCHEMA_VERSION,
        started_utc: "2026-11-21T04:02:14Z".into(),
        name: study.into(),
        study: study.into(),
        arguments: arguments.map(str::to_owned).into(),
        seed: 1,
        build: Build {
            version: "0.1.0".into(),
            commit: "0123456".into(),
            profile: "release".into(),
            rustc: "rustc 1.95.0".into(),
        },
        machine: Machine {
            kernel: Some("6.18".into()),
            cpu_model: Some("Simulated".into()),
            cpus_allowed: (0..8).collect(),
            quota_cpus: None,
            governor: None,
            clock_source: Some("tsc".into()),
            isolation: Isolation::default(),
            memlock_bytes: limit,
            nofile: limit,
            io_uring: Uring::Usable {
                features: vec!["MULTISHOT".into(), "DEFER_TASKRUN".into()],
            },
        },
        pinning: Pinning {
            generator_cpus: vec![Some(1)],
            server_cpus: Some((0..shards as usize).collect()),
        },
        agents: Vec::new(),
        load: LoadSettings {
            protocol: Protocol::Ringcall,
            transport: "tcp".into(),
            is_own_server: true,
            server_shards: Some(shards),
            server_idle: Some("park".into()),
            methods: vec![MethodShare {
                method: "spin".into(),
                share_ratio: 1.0,
            }],
            loop_kind: LoopKind::Open,
            arrival: "poisson".into(),
            rate_per_s: None,
            closed_callers: None,
            conns: 4,
            depth: 16,
            churn_calls: None,
            payload: "fixed:64".into(),
            service_time: Some("exp:200us".into()),
            warmup_s: 1.0,
            duration_s: 20.0,
            timeout_s: 10.0,
            interval_s: 1.0,
            threads: 1,
            slo: Some("p99<5ms".into()),
        },
        caveats: vec!["Loopback: no network lies between generator and server.".into()],
    }
}

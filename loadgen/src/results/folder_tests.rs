use std::time::Duration;

use super::*;
use crate::results::*;

fn manifest() -> Manifest {
    let limit = LimitPair {
        soft: Some(1 << 16),
        hard: None,
    };
    Manifest {
        schema_version: SCHEMA_VERSION,
        started_utc: "2026-11-21T04:02:14.25Z".into(),
        name: "run".into(),
        study: "run".into(),
        arguments: vec!["run".into(), "--rate".into(), "1000".into()],
        seed: 7,
        build: Build {
            version: "0.1.0".into(),
            commit: "0123456".into(),
            profile: "release".into(),
            rustc: "rustc 1.95.0".into(),
        },
        machine: Machine {
            kernel: Some("6.18".into()),
            cpu_model: None,
            cpus_allowed: vec![0, 1],
            quota_cpus: Some(1.5),
            governor: None,
            clock_source: Some("tsc".into()),
            isolation: Isolation::default(),
            memlock_bytes: limit,
            nofile: limit,
            io_uring: Uring::Usable {
                features: vec!["MULTISHOT".into()],
            },
        },
        pinning: Pinning {
            generator_cpus: vec![Some(1)],
            server_cpus: Some(vec![0]),
        },
        agents: Vec::new(),
        load: LoadSettings {
            protocol: Protocol::Ringcall,
            transport: "tcp".into(),
            is_own_server: true,
            server_shards: Some(1),
            server_idle: Some("park".into()),
            methods: vec![MethodShare {
                method: "echo".into(),
                share_ratio: 1.0,
            }],
            loop_kind: LoopKind::Open,
            arrival: "poisson".into(),
            rate_per_s: Some(1000.0),
            closed_callers: None,
            conns: 1,
            depth: 16,
            churn_calls: None,
            payload: "fixed:64".into(),
            service_time: None,
            warmup_s: 1.0,
            duration_s: 10.0,
            timeout_s: 1.0,
            interval_s: 1.0,
            threads: 1,
            slo: Some("p99<1ms".into()),
        },
        caveats: vec!["loopback".into()],
    }
}

fn interval() -> IntervalHistogram {
    let mut values_ns = Histogram::new(3).unwrap();
    values_ns.record_n(123_456, 42).unwrap();
    IntervalHistogram {
        key: HistogramKey {
            point: 0,
            method: "echo".into(),
            kind: Kind::Response,
        },
        start: Duration::from_secs(1),
        length: Duration::from_secs(1),
        values_ns,
    }
}

fn server_row(point: u32) -> ServerRow {
    ServerRow {
        point,
        start_s: 0.5,
        length_s: 1.0,
        cpu_ns: 123_456_789,
        cpu_user_s: 0.1,
        cpu_system_s: 0.02,
        voluntary_switches: 3,
        involuntary_switches: 4,
        rss_bytes: 1 << 20,
        threads: 2,
    }
}

#[test]
fn a_folder_is_read_as_it_was_written() {
    let parent = tempfile::tempdir().unwrap();
    let manifest = manifest();
    let writer = ResultWriter::create(parent.path(), &manifest, wall_clock()).unwrap();
    let name = writer.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(name, "20261121T040214Z-0123456-run");
    writer.add_server(&[server_row(0)]).unwrap();
    writer.add_server(&[server_row(1), server_row(2)]).unwrap();
    writer.add_histograms(&[interval(), interval()]).unwrap();
    let key = interval().key;
    writer.write_hgrm(&key, &interval().values_ns).unwrap();
    let summary = Summary {
        schema_version: SCHEMA_VERSION,
        completion: Completion::Interrupted,
        exit_code: 1,
        ceiling: None,
        points: Vec::new(),
    };
    writer.write_summary(&summary).unwrap();

    let reader = ResultReader::open(writer.path()).unwrap();
    assert_eq!(reader.manifest().unwrap(), manifest);
    assert_eq!(reader.summary().unwrap(), summary);
    assert_eq!(
        reader.server().unwrap(),
        [server_row(0), server_row(1), server_row(2)]
    );
    assert_eq!(reader.shards().unwrap(), []);
    assert_eq!(reader.points().unwrap(), [], "there is none");
    let histograms = reader.histograms().unwrap();
    assert_eq!(histograms.len(), 2);
    assert_eq!(histograms[1].values_ns, interval().values_ns);
    assert!(writer.path().join("p0.echo.response.hgrm").exists());
}

/// Those that the README shows must stay readable, whatever the schema becomes.
#[test]
fn published_folders_are_read() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results");
    let entries = fs::read_dir(results)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut folders = 0;
    for folder in entries.filter(|path| path.join(MANIFEST).exists()) {
        let reader = ResultReader::open(&folder).unwrap();
        assert_eq!(
            reader.points().unwrap().len(),
            reader.summary().unwrap().points.len()
        );
        folders += 1;
    }
    assert!(folders > 0);
}

#[test]
fn another_schema_is_refused() {
    for schema_version in [SCHEMA_VERSION_MIN - 1, SCHEMA_VERSION + 1] {
        let parent = tempfile::tempdir().unwrap();
        let other = Manifest {
            schema_version,
            ..manifest()
        };
        let writer = ResultWriter::create(parent.path(), &other, wall_clock()).unwrap();
        let refusal = ResultReader::open(writer.path()).unwrap_err().to_string();
        assert!(refusal.contains("schema"), "{refusal}");
    }
}

#[test]
fn a_full_disk_is_named_with_a_way_out() {
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let told = failed("write", Path::new("results/x/points.csv"))(full).to_string();
    assert!(
        told.contains("points.csv") && told.contains("--out"),
        "{told}"
    );
}

#[test]
fn a_folder_is_never_overwritten() {
    let parent = tempfile::tempdir().unwrap();
    let began = wall_clock();
    let [first, second] =
        [(); 2].map(|()| ResultWriter::create(parent.path(), &manifest(), began).unwrap());
    assert_ne!(first.path(), second.path());
    assert!(second.path().to_str().unwrap().ends_with("-2"));
}

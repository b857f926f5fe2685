//! `loadgen sweep`, `search`, `compare` and `report` as a user and as a script see them. What is
//! looked at is what is kept and answered: how fast the machine is decides nothing here.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loadgen::results::ResultReader;
use serde_json::Value;
use support::{complaint, run};
use tempfile::TempDir;

/// A study of short loads, in a folder of its own.
struct Study {
    out: TempDir,
    output: Output,
}

impl Study {
    fn run(arguments: &[&str]) -> Self {
        let out = tempfile::tempdir().unwrap();
        let mut all = arguments.to_vec();
        all.extend(["--warmup", "50ms", "--interval", "50ms", "--conns", "2"]);
        all.extend(["--format", "json", "--out", out.path().to_str().unwrap()]);
        let output = run(&all);
        Self { out, output }
    }

    fn code(&self) -> i32 {
        let complaint = complaint(&self.output);
        self.output
            .status
            .code()
            .unwrap_or_else(|| panic!("{complaint}"))
    }

    fn folder(&self) -> PathBuf {
        let mut folders = fs::read_dir(self.out.path()).unwrap();
        folders.next().expect("a folder").unwrap().path()
    }

    fn record(&self) -> Value {
        let text = fs::read_to_string(self.folder().join("study.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn report(&self) -> String {
        fs::read_to_string(self.folder().join("report.md")).unwrap()
    }
}

#[test]
fn a_sweep_measures_each_rate_and_reports() {
    let study = Study::run(&["sweep", "--rates", "300,600,900", "--duration", "300ms"]);
    let summary = ResultReader::open(&study.folder())
        .unwrap()
        .summary()
        .unwrap();
    // Overload is what a sweep looks for, so one valid load is enough; a machine that is busy enough
    // leaves none.
    let has_valid = summary.points.iter().any(|point| point.validity.is_valid);
    let code = if has_valid { 0 } else { 4 };
    assert_eq!(study.code(), code, "{}", complaint(&study.output));
    let told: Value = serde_json::from_slice(&study.output.stdout).unwrap();
    assert_eq!(told["study"]["kind"], "sweep");
    assert_eq!(told["study"]["axis"], "rate");
    let html = PathBuf::from(told["report"].as_str().unwrap());
    assert!(fs::read_to_string(html).unwrap().contains("</html>"));
    let reader = ResultReader::open(&study.folder()).unwrap();
    let mut labels: Vec<_> = reader.points().unwrap();
    labels.sort_by(|a, b| a.offered_per_s.total_cmp(&b.offered_per_s));
    let labels: Vec<_> = labels.iter().map(|row| row.label.as_str()).collect();
    assert_eq!(labels, ["300/s", "600/s", "900/s"]);
    rebuilds(&study.folder());
}

#[test]
fn a_grid_is_reported_as_closed_loops() {
    let study = Study::run(&["sweep", "--grid", "2x1,8", "--duration", "300ms"]);
    assert_eq!(study.code(), 0, "{}", complaint(&study.output));
    let report = study.report();
    assert!(
        report.contains("Closed loops") && report.contains("closed loop;"),
        "{report}"
    );
    assert!(!report.contains("open loop,"), "{report}");
    for point in ResultReader::open(&study.folder())
        .unwrap()
        .points()
        .unwrap()
    {
        let rate = loadgen::units::format_count(point.achieved_per_s.round() as u64);
        assert!(
            report.contains(&rate),
            "{rate} of {}: {report}",
            point.label
        );
    }
}

#[test]
fn what_can_not_be_measured_is_refused_before_anything_runs() {
    let out = tempfile::tempdir().unwrap();
    let out_path = out.path().to_str().unwrap();
    let trace = out.path().join("trace");
    fs::write(&trace, "0\n1000\n").unwrap();
    let trace = format!("trace:{}", trace.display());
    for (arguments, why) in [
        (&["sweep", "--rates", "1e300"][..], "no rate"),
        (
            &["sweep", "--rates", "1k", "--arrival", &trace],
            "a trace has its own rate",
        ),
        (&["compare", "--rounds", "2"], "use at least 7"),
        (&["search", "--slo", "p99<1ms", "--target", "foo"], "tcp://"),
        (&["run", "--target", "tcp://127.0.0.1:99999"], "tcp://"),
    ] {
        let output = run(&[arguments, &["--out", out_path]].concat());
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            complaint(&output)
        );
        assert!(complaint(&output).contains(why), "{}", complaint(&output));
    }
    let entries = fs::read_dir(out.path()).unwrap().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    assert_eq!(folders.count(), 0, "nothing is left behind");
}

#[test]
fn the_kept_studies_can_be_reported() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../results");
    let is_study = |path: &PathBuf| path.join("study.json").exists();
    let paths = fs::read_dir(kept)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let studies: Vec<_> = paths.filter(is_study).collect();
    assert!(!studies.is_empty());
    for study in studies {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&study).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
        }
        let output = run(&["report", copy.path().to_str().unwrap(), "--peak", "500k"]);
        assert!(
            output.status.success(),
            "{}: {}",
            study.display(),
            complaint(&output)
        );
    }
}

/// A report that is built again is the same, unless something else is asked for.
fn rebuilds(folder: &Path) {
    let before = fs::read_to_string(folder.join("report.md")).unwrap();
    fs::remove_file(folder.join("report.md")).unwrap();
    let path = folder.to_str().unwrap();
    assert!(run(&["report", path]).status.success());
    assert_eq!(
        fs::read_to_string(folder.join("report.md")).unwrap(),
        before
    );
    let strict = run(&["report", path, "--slo", "p50<1ns"]);
    assert!(strict.status.success(), "{}", complaint(&strict));
    let after = fs::read_to_string(folder.join("report.md")).unwrap();
    assert!(
        after.contains("No load met the objective `p50<1ns`"),
        "{after}"
    );
}

#[test]
fn an_objective_that_nothing_meets_has_its_exit_code() {
    let arguments = [
        "search",
        "--slo",
        "p50<1ns",
        "--start",
        "4k",
        "--duration",
        "100ms",
    ];
    let study = Study::run(&arguments);
    let record = study.record();
    assert!(record["answer"].is_null());
    let probes = record["probes"].as_array().unwrap();
    assert!(probes.iter().all(|probe| probe["verdict"] != "passed"));
    // A machine so busy that no load at the lowest rate was a measurement finds nothing, and says so.
    let rate = |probe: &Value| probe["rate_per_s"].as_f64().unwrap();
    let lowest = probes.iter().map(rate).fold(f64::INFINITY, f64::min);
    let mut at_lowest = probes.iter().filter(|probe| rate(probe) == lowest);
    let says_nothing = |probe: &Value| {
        ["invalid", "disturbed", "too_few_calls"]
            .iter()
            .any(|it| probe["verdict"] == *it)
    };
    let (code, headline) = if at_lowest.all(says_nothing) {
        (4, "is not known")
    } else {
        (3, "No load met the objective")
    };
    assert_eq!(study.code(), code, "{}", complaint(&study.output));
    assert!(study.report().contains(headline));
    assert!(
        lowest >= 240.0,
        "what has too few calls is not tried: {lowest}"
    );
    let progress = complaint(&study.output);
    assert!(progress.contains("left: ramp, "), "{progress}");
    let folded = study.report();
    assert!(folded.contains("How the answer was found"), "{folded}");
}

#[test]
fn a_search_stops_at_its_maximum() {
    let arguments = ["search", "--slo", "p50<10s", "--start", "2k", "--max", "4k"];
    let study = Study::run(&[&arguments[..], &["--duration", "200ms", "--no-curve"]].concat());
    let record = study.record();
    let passed = |probe: &&Value| probe["verdict"] == "passed";
    let highest = record["probes"].as_array().unwrap().iter().filter(passed);
    let highest = highest.filter_map(|probe| probe["rate_per_s"].as_f64());
    let highest = highest.fold(0.0, f64::max);
    assert!(highest <= 4000.0);
    // A machine so busy that the generator is late at any rate finds nothing, and says so.
    match study.code() {
        0 => assert!(record["answer"]["rate_per_s"].as_f64().unwrap() <= highest),
        4 => assert!(
            record["answer"].is_null() || record["answer"]["confirmations"] == 0,
            "{record}"
        ),
        code => assert!(code == 3 && record["answer"].is_null(), "{code}"),
    }
}

#[test]
fn a_server_is_compared_with_itself() {
    let arguments = [
        "compare",
        "--rounds",
        "4",
        "--level",
        "0.3",
        "--rate",
        "1000",
        "--duration",
        "300ms",
    ];
    let study = Study::run(&arguments);
    let record = study.record();
    let rounds = record["rounds"].as_array().unwrap().len();
    // Whatever the machine does to it: nothing was found, or, once in three or four times, something.
    let code = study.code();
    assert!(matches!(code, 0 | 4 | 5), "{}", complaint(&study.output));
    assert_eq!(
        code == 5,
        record["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|finding| finding["is_regression"] == true)
    );
    let says_so =
        study.report().contains("can't tell") || study.report().contains("nothing to compare");
    assert_eq!(code == 4, says_so, "{}", study.report());
    let points = ResultReader::open(&study.folder())
        .unwrap()
        .points()
        .unwrap();
    assert_eq!(points.len(), 16);
    for finding in record["findings"].as_array().unwrap() {
        assert!(finding["noise_floor"].as_f64().unwrap() >= 0.0);
    }
    assert!(study.report().contains("noise floor") || rounds == 0);
}

#[test]
fn a_comparison_is_reported_as_one() {
    let arguments = [
        "compare",
        "--rounds",
        "5",
        "--rate",
        "500",
        "--duration",
        "100ms",
    ];
    let study = Study::run(&[&arguments[..], &["--level", "0.3"]].concat());
    let report = study.report();
    assert!(report.starts_with("# Comparison: "), "{report}");
    assert!(report.contains("The loads of both sides"), "{report}");
    assert!(!report.contains("Not measured"), "{report}");
    let html = fs::read_to_string(study.folder().join("report.html")).unwrap();
    assert!(html.contains("<title>Comparison: "), "{html}");
}

#[test]
fn the_commands_that_a_report_suggests_run_as_printed() {
    let study = Study::run(&["sweep", "--rates", "300,600", "--duration", "100ms"]);
    let folder = study.folder();
    let report = study.report();
    let is_command = |line: &&str| line.starts_with("loadgen ");
    let commands: Vec<&str> = report.lines().filter(is_command).collect();
    assert!(commands.len() > 1, "{report}");
    let program = Path::new(env!("CARGO_BIN_EXE_loadgen"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    for command in commands {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(study.out.path())
            .env("PATH", &path)
            .output()
            .unwrap();
        // What they find is the machine's; that they run and say it is theirs.
        let code = output.status.code();
        assert!(
            matches!(code, Some(0 | 3 | 4)),
            "{command}: {}",
            complaint(&output)
        );
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("report.html"), "{command}: {text}");
    }
    assert!(folder.exists());
}

#[test]
fn two_studies_are_laid_over_each_other() {
    let sweep = || Study::run(&["sweep", "--rates", "20k", "--duration", "300ms"]);
    let (one, other) = (sweep(), sweep());
    let folders = [&one, &other].map(|study| study.folder().to_str().unwrap().to_owned());
    let output = run(&["report", &folders[0], &folders[1]]);
    assert!(output.status.success(), "{}", complaint(&output));
    let report = one.report();
    assert!(report.contains("The studies over each other"), "{report}");
    let html = fs::read_to_string(one.folder().join("report.html")).unwrap();
    assert!(html.contains("1: echo on ringcall over tcp") && html.contains("2: echo on ringcall"));
}

#[test]
fn what_can_not_be_is_refused_with_a_way_out() {
    for (arguments, words) in [
        (&["search"][..], "--slo 'p99<1ms"),
        (&["search", "--slo", "p99"], "--slo: `p99` has no `<`"),
        (&["search", "--slo", "p99<1ms", "--closed", "4"], "--closed"),
        (
            &["sweep", "--rates", "1k", "--grid", "1x1"],
            "cannot be used with",
        ),
        (&["sweep", "--rates", "10k..1k"], "ends below its beginning"),
        (&["sweep", "--grid", "8"], "has no `x`"),
        (
            &["sweep", "--shard-counts", "1,1000"],
            "1 000 shards need a CPU each",
        ),
        (&["compare", "one-folder"], "2 values"),
        (&["report"], "required"),
        (&["report", "x", "--headroom", "1"], "share from 0 to 0.9"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let complaint = complaint(&output);
        assert!(complaint.contains(words), "{arguments:?}: {complaint}");
    }
    let missing = run(&["report", "no/such/folder"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(complaint(&missing).contains("no/such/folder"));
}

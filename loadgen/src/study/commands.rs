//! `loadgen sweep`, `search` and `compare`: studies on real servers, with a report.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{CompareArgs, SearchArgs, SweepArgs};
use super::compare::{self, ComparisonRecord};
use super::conduct::{self, Step};
use super::eta::{self, Eta};
use super::live::{LONGER_MAX, LiveProbe, TargetB};
use super::record::{SearchProbe, SearchRecord, StudyRecord};
use super::search::Settings;
use super::sweep::{CURVE, Plan};
use super::{Load, Probe, Side, calls_for};
use crate::analysis::slo::Slo;
use crate::cli::Format;
use crate::failure::Failure;
use crate::report::capacity_file::CapacityFile;
use crate::report::document::Document;
use crate::report::evidence::Evidence;
use crate::report::verdict::Planning;
use crate::report::{self, markdown};
use crate::results::PointSummary;
use crate::run::args::LoadArgs;
use crate::run::generator_cpus;
use crate::run::session::check_address;
use crate::units::{format_ns, format_per_s, format_rate, several};
use crate::{print, print_json};

/// Measures loads along an axis.
///
/// # Errors
/// When nothing was measured, or the study was ended early.
pub fn sweep(args: &SweepArgs) -> Result<(), Failure> {
    let plan = args.plan()?;
    let is_open = matches!(plan, None | Some(Plan::Rates(_)));
    if is_open {
        refuse_closed(&args.load)?;
    }
    let load = LoadArgs {
        is_closed_study: !is_open,
        ..args.load.clone()
    };
    if let Some(Plan::Shards(counts)) = &plan {
        refuse_too_many_shards(counts, &load)?;
    }
    let mut live = LiveProbe::start(&load, "sweep", None)?;
    let plan = match plan {
        Some(plan) => plan,
        None => rates_around_the_highest(&mut live, args.load.seed)?,
    };
    let axis = plan.axis();
    let loads = plan.loads(args.repeat, calls_for(0.99), args.load.seed);
    run_all(&mut live, &loads)?;
    let failure = sweep_failure(live.session.points());
    let record = StudyRecord::Sweep { axis };
    end(live, &record, failure, args.planning.into(), args.format)
}

/// Runs loads one after the other, and says how far it is, until the study is ended early.
fn run_all(live: &mut LiveProbe, loads: &[Load]) -> Result<(), Failure> {
    let times = live.times(loads);
    for (number, load) in (1..).zip(loads) {
        if live.stopped().get() {
            break;
        }
        eta::tell_load(number, &times);
        let probed = live.probe(load)?;
        tell(&probed.point);
    }
    Ok(())
}

/// A sweep goes where the server is overloaded, so it has not failed as long as there is a valid load,
/// and one that meets the objective, if there is one.
fn sweep_failure(points: &[PointSummary]) -> Option<Failure> {
    let valid = || points.iter().filter(|point| point.validity.is_valid);
    if valid().next().is_none() {
        let why = points
            .first()
            .map(|point| point.validity.reasons.join("; "));
        return Some(Failure::Invalid(format!(
            "no load was a measurement: {}",
            why.unwrap_or_else(|| "none was run".into())
        )));
    }
    let missed = |point: &PointSummary| point.slo.as_ref().is_some_and(|slo| !slo.is_met);
    valid()
        .all(missed)
        .then(|| Failure::SloViolated("no load meets the objective".into()))
}

/// Ten rates around that of a closed loop.
fn rates_around_the_highest(live: &mut LiveProbe, seed: u64) -> Result<Plan, Failure> {
    Ok(Plan::Rates(around(rate_of_closed_loop(live, seed)?)))
}

/// What a closed loop reaches: the most that the server carries, however long its answers take.
fn rate_of_closed_loop(live: &mut LiveProbe, seed: u64) -> Result<f64, Failure> {
    eprintln!("closed loop, to see where to begin");
    let probed = live.probe(&Load {
        time_ratio: CLOSED_TIME_RATIO,
        ..Load::closed("closed loop".into(), seed)
    })?;
    tell(&probed.point);
    let highest = probed.point.achieved_per_s;
    if highest < 1.0 {
        let first = probed.point.failures.first();
        let why = first.map_or("no call ended", |failure| &failure.text);
        return Err(Failure::Other(format!(
            "the server answers no calls: {why}"
        )));
    }
    Ok(highest)
}

fn around(rate_per_s: f64) -> Vec<f64> {
    CURVE
        .iter()
        .map(|share| (share * rate_per_s).round().max(1.0))
        .collect()
}

/// Finds the highest rate that meets the objective.
///
/// # Errors
/// When no rate meets it, nothing was measured, or the study was ended early.
pub fn search(args: &SearchArgs) -> Result<(), Failure> {
    refuse_closed(&args.load)?;
    let Some(slo) = &args.load.slo else {
        let why = "a search needs an objective: --slo 'p99<1ms,err<0.1%'";
        return Err(Failure::Usage(why.into()));
    };
    let slo: Slo = slo
        .parse()
        .map_err(|why| Failure::Usage(format!("--slo: {why}")))?;
    let (warmup, duration) = (args.load.warmup, args.load.duration);
    let rate_max_per_s = args.max;
    let longest_s = (duration * LONGER_MAX).as_secs_f64();
    let mut live = LiveProbe::start(&args.load, "search", None)?;
    let start_per_s = match args.start {
        Some(start_per_s) => start_per_s,
        None => START_RATIO * rate_of_closed_loop(&mut live, args.load.seed)?,
    };
    let settings = Settings {
        start_per_s: start_per_s.min(rate_max_per_s),
        rate_max_per_s,
        rate_min_per_s: (conduct::calls_wanted(&slo) / longest_s)
            .max(start_per_s * LOWEST_RATIO)
            .max(RATE_MIN_PER_S),
        tolerance: TOLERANCE,
        confirmations: args.confirm,
        time_max_s: args.time_max.map_or_else(
            || {
                let for_calls = conduct::calls_wanted(&slo) / start_per_s;
                LOADS_USUAL * (warmup + duration).as_secs_f64().max(for_calls)
            },
            |time| time.as_secs_f64(),
        ),
    };
    let curve_loads = if args.no_curve { 0 } else { CURVE.len() };
    let eta = Eta {
        warmup,
        duration,
        curve_loads,
        calls_min: conduct::calls_wanted(&slo),
    };
    let stopped = live.stopped();
    let record = conduct::conduct(&mut live, &slo, settings, args.load.seed, |step| {
        match step {
            Step::Begin { .. } => eta.tell(&step),
            Step::End(probe) => tell_search(probe, &slo),
        }
        !stopped.get()
    })?;
    if let Some(answer) = &record.answer
        && !args.no_curve
    {
        // Seeds apart from those of the search.
        let seed = args.load.seed + CURVE_SEEDS;
        let mut loads = Plan::Rates(around(answer.rate_per_s)).loads(1, calls_for(0.99), seed);
        for load in &mut loads {
            load.time_ratio = CURVE_TIME_RATIO;
        }
        eprintln!("the curve around the answer");
        run_all(&mut live, &loads)?;
    }
    let failure = search_failure(&record);
    let record = StudyRecord::Search(record);
    end(live, &record, failure, args.planning.into(), args.format)
}

fn search_failure(record: &SearchRecord) -> Option<Failure> {
    if let Some(answer) = &record.answer
        && answer.confirmations == 0
        && !answer.unconfirmed.is_empty()
    {
        return Some(Failure::Invalid(format!(
            "a short load passed at {} calls/s, and longer ones did not confirm it",
            format_rate(answer.rate_per_s)
        )));
    }
    let has_none = record.is_complete && record.answer.is_none();
    has_none.then(|| {
        if let Some(why) = record.undecided() {
            return Failure::Invalid(format!("no rate could be measured: {why}"));
        }
        let rates = record.probes.iter().map(|probe| probe.rate_per_s);
        let lowest = rates.fold(f64::INFINITY, f64::min);
        Failure::SloViolated(format!(
            "no rate meets {}: it is below {} calls/s, the lowest that was tried",
            record.slo,
            format_rate(lowest)
        ))
    })
}

/// Compares two servers, or two folders.
///
/// # Errors
/// When B is worse, nothing was measured, or the study was ended early.
pub fn compare(args: &CompareArgs) -> Result<(), Failure> {
    if let [a, b] = &args.folders[..] {
        return compare_folders(a, b, args);
    }
    let rounds_min = compare::rounds_min(args.level, MEASURES_USUAL);
    if args.rounds < rounds_min {
        return Err(Failure::Usage(format!(
            "--rounds {} can't find anything at --level {}: no chance would be small enough; use at least {rounds_min}",
            args.rounds, args.level
        )));
    }
    if let Some(address) = &args.against {
        check_address(address)?;
    }
    let other = args.against.as_ref().map(|address| TargetB {
        address: address.clone(),
        protocol: args.against_protocol.unwrap_or(args.load.protocol),
        pid: args.against_pid,
    });
    let a = args.load.target.clone();
    let a = a.unwrap_or_else(|| format!("sample server, {}", args.load.protocol));
    let b = match &other {
        Some(other) => format!("{}, {}", other.address, other.protocol),
        None => format!("{a}, again"),
    };
    let mut live = LiveProbe::start(&args.load, "compare", other)?;
    let base = match args.load.closed {
        Some(_) => Load::closed(String::new(), 0),
        None => Load::at_rate(args.load.rate, 0),
    };
    let loads = compare::loads(&base, args.rounds, args.load.seed);
    let stopped = live.stopped();
    let times = live.times(&loads);
    let mut next = 1;
    eta::tell_load(next, &times);
    let record = compare::conduct(&mut live, [a, b], &loads, args.level, |point| {
        tell(point);
        next += 1;
        let goes_on = !stopped.get();
        if goes_on && next <= times.len() {
            eta::tell_load(next, &times);
        }
        goes_on
    })?;
    let failure = comparison_failure(&record);
    end(
        live,
        &StudyRecord::Compare(record),
        failure,
        NO_PLANNING,
        args.format,
    )
}

fn compare_folders(a: &Path, b: &Path, args: &CompareArgs) -> Result<(), Failure> {
    let evidence = [Evidence::read(&[a])?, Evidence::read(&[b])?];
    let rounds = paired_rounds(&evidence);
    let rounds_min = compare::rounds_min(args.level, 1);
    if rounds.len() < rounds_min as usize {
        return Err(Failure::Usage(format!(
            "the folders share {} rounds of two points each at the same load, and a comparison at level {} needs at \
             least {rounds_min}: measure both with `loadgen sweep --rates RATE --repeat 16`",
            rounds.len(),
            args.level
        )));
    }
    let [a, b] = [&evidence[0], &evidence[1]].map(|side| side.folders[0].name.clone());
    let record = compare::evaluate(a, b, args.level, false, &rounds);
    let failure = comparison_failure(&record);
    let section = report::comparison(&record);
    show(&section, &StudyRecord::Compare(record), None, args.format)?;
    failure.map_or(Ok(()), Err)
}

/// Usable points of the same load in both folders, two of either in a round.
fn paired_rounds(evidence: &[Evidence; 2]) -> Vec<Vec<(Side, PointSummary)>> {
    let key = |point: &report::evidence::Point| {
        let row = &point.row;
        (
            row.label.clone(),
            row.loop_kind.to_string(),
            row.conns,
            row.depth,
            row.shards,
        )
    };
    let [a, b] = evidence.each_ref().map(|side| {
        side.points
            .iter()
            .filter(|point| compare::is_usable(&point.summary))
            .collect::<Vec<_>>()
    });
    let mut keys: Vec<_> = a.iter().map(|point| key(point)).collect();
    keys.sort();
    keys.dedup();
    let mut rounds = Vec::new();
    for wanted in keys {
        let of = |side: &[&report::evidence::Point]| -> Vec<PointSummary> {
            let same = side.iter().filter(|point| key(point) == wanted);
            same.map(|point| point.summary.clone()).collect()
        };
        for (a, b) in of(&a).chunks_exact(2).zip(of(&b).chunks_exact(2)) {
            let of_side = |side, pair: &[PointSummary]| {
                pair.iter()
                    .map(move |point| (side, point.clone()))
                    .collect::<Vec<_>>()
            };
            rounds.push([of_side(Side::A, a), of_side(Side::B, b)].concat());
        }
    }
    rounds.truncate(crate::analysis::paired::ROUNDS_MAX);
    rounds
}

fn comparison_failure(record: &ComparisonRecord) -> Option<Failure> {
    if record.rounds.is_empty() {
        let why = "no round was valid: there is nothing to compare";
        return Some(Failure::Invalid(why.into()));
    }
    if let Some(wanted) = record.rounds_missing() {
        return Some(Failure::Invalid(format!(
            "{} can't tell whether B is worse: that takes {wanted}; raise --rounds",
            several(record.rounds.len(), "valid round")
        )));
    }
    record
        .has_regression()
        .then(|| Failure::Regression(format!("{} is worse than {}", record.b, record.a)))
}

/// What is printed as JSON.
#[derive(Serialize)]
struct StudyOutput<'a> {
    /// Where the report is.
    report: Option<PathBuf>,
    study: &'a StudyRecord,
}

/// Ends a study: its record, its summary, its report, and what the user sees.
fn end(
    live: LiveProbe,
    record: &StudyRecord,
    failure: Option<Failure>,
    planning: Planning,
    format: Format,
) -> Result<(), Failure> {
    let is_stopped = live.stopped().get();
    let folder = live.session.path().to_owned();
    record
        .write(&folder)
        .map_err(|error| Failure::Other(format!("{}: {error}", folder.display())))?;
    let code = failure.as_ref().map_or(0, Failure::code);
    let (_, write_error) = live.session.finish_study(Some(code));
    if let Some(error) = write_error {
        return Err(Failure::Other(error));
    }
    let evidence = Evidence::read(&[&folder])?;
    let document = report::compose(&evidence, None, planning);
    let capacity = CapacityFile::of(&evidence, None, planning);
    let path = report::write(&folder, &document, capacity.as_ref())
        .map_err(|error| Failure::Other(format!("{}: {error}", folder.display())))?;
    let verdict = Document {
        sections: document.sections.into_iter().take(1).collect(),
        ..document
    };
    show(&verdict, record, Some(path), format)?;
    if is_stopped {
        let why = format!(
            "ended early; what was measured is kept in {}",
            folder.display()
        );
        return Err(Failure::Other(why));
    }
    failure.map_or(Ok(()), Err)
}

fn show(
    verdict: &Document,
    record: &StudyRecord,
    report: Option<PathBuf>,
    format: Format,
) -> Result<(), Failure> {
    match format {
        Format::Text => {
            print(&markdown::render(verdict))?;
            if let Some(path) = report {
                print(&format!("\nThe report: {}\n", path.display()))?;
            }
        }
        Format::Json => print_json(&StudyOutput {
            report,
            study: record,
        })?,
    }
    Ok(())
}

fn tell(point: &PointSummary) {
    let p99 = point.latency.response.show(99.0);
    let verdict = match (&point.slo, point.validity.is_valid) {
        (_, false) => format!(", INVALID ({})", point.validity.reasons.join("; ")),
        (Some(slo), true) => {
            let checks = slo.checks.iter().filter(|check| !check.is_met);
            let missed = checks.map(|check| format!(", {} {}", check.objective, check.verdict()));
            missed.collect()
        }
        (None, true) => String::new(),
    };
    let achieved = format_per_s(point.achieved_per_s);
    eprintln!("{}: {achieved} calls/s, p99 {p99}{verdict}", point.label);
}

fn tell_search(probe: &SearchProbe, slo: &Slo) {
    let quantile = probe.quantile_ns.map_or_else(String::new, |interval| {
        format!(
            ", {} to {}",
            format_ns(interval.lower),
            format_ns(interval.upper)
        )
    });
    // What was quiet has decided; the rest is in the report.
    let told = if probe.is_of_quiet {
        1
    } else {
        probe.reasons.len()
    };
    let reasons = match &probe.reasons[..told] {
        [] => String::new(),
        told => format!(" ({})", told.join("; ")),
    };
    let rate = format_rate(probe.rate_per_s);
    eprintln!(
        "  {rate} calls/s, {slo}: {}{quantile}{reasons}",
        probe.verdict.name()
    );
}

/// Shards that share CPUs say nothing of how shards scale.
fn refuse_too_many_shards(counts: &[u32], load: &LoadArgs) -> Result<(), Failure> {
    if load.pin.as_deref() == Some("none") {
        // Whoever pins nothing has decided to share.
        return Ok(());
    }
    let generator = generator_cpus(load.pin.as_deref())?;
    let cpus = ringcall::environment().cpus;
    let is_free = |cpu: &&usize| !generator.contains(&Some(**cpu));
    let free = cpus.iter().filter(is_free).count();
    match counts.iter().find(|count| **count as usize > free) {
        Some(count) => Err(Failure::Usage(format!(
            "{} need a CPU each, and {} of the {} that this process may use {} left beside the load's: use at most \
             {free}, fewer CPUs for the load (--pin), or --pin none, with which shards and load share all CPUs and \
             take time from each other",
            several(*count as usize, "shard"),
            free,
            cpus.len(),
            if free == 1 { "is" } else { "are" },
        ))),
        None => Ok(()),
    }
}

fn refuse_closed(load: &LoadArgs) -> Result<(), Failure> {
    if load.closed.is_some() {
        let why = "--closed has no rate: this study offers rates in an open loop";
        return Err(Failure::Usage(why.into()));
    }
    Ok(())
}

/// What a comparison in an open loop looks at: mean, two percentiles, CPU time; failures where there are any.
const MEASURES_USUAL: usize = 4;
/// So many loads of full length is how long a search takes, unless others disturb it.
const LOADS_USUAL: f64 = 12.0;
/// Where a search begins, as a share of what a closed loop reaches.
const START_RATIO: f64 = 0.5;
/// No rate is tried below this share of the first: then load is not what the objective suffers from.
const LOWEST_RATIO: f64 = 0.001;
/// Less is no load.
const RATE_MIN_PER_S: f64 = 0.1;
/// Lengths of loads whose figures are not the answer, as shares of the others.
const CLOSED_TIME_RATIO: f64 = 0.15;
pub(super) const CURVE_TIME_RATIO: f64 = 0.3;
/// Width of a search's last gap.
const TOLERANCE: f64 = 0.02;
/// More than the loads of any search.
const CURVE_SEEDS: u64 = 10_000;
/// A comparison plans nothing.
const NO_PLANNING: Planning = Planning {
    peak_per_s: None,
    growth: 1.0,
    spare: 0,
    headroom: 0.0,
};

//! `loadgen selftest`: what the generator itself can do here.

pub(crate) mod ceiling;
mod stalls;
pub mod statistics;
pub mod theory;

use std::time::{Duration, Instant};

use serde::Serialize;

use self::ceiling::CeilingProbe;
use self::statistics::{kolmogorov_smirnov_exponential, kolmogorov_smirnov_limit};
use crate::cli::{Format, SelftestArgs};
use crate::failure::Failure;
use crate::load::arrival::Arrival;
use crate::load::dealer::Dealer;
use crate::load::plan::Part;
use crate::load::work::Workload;
use crate::results::{Ceiling, Protocol};
use crate::target::placement::Placement;
use crate::units::{format_count, format_ns};
use crate::{print, print_json};

/// What was found out.
#[derive(Debug, Serialize)]
struct Report {
    /// Cost of reading the clock.
    clock_ns: f64,
    arrivals: Vec<Arrivals>,
    /// What one thread can do here.
    ceiling: Ceiling,
    /// Every rate that was tried.
    tried: Vec<CeilingProbe>,
}

/// How far planned Poisson arrivals are from what they should be.
#[derive(Debug, Serialize)]
struct Arrivals {
    threads: usize,
    gaps: usize,
    distance: f64,
    /// A right stream is above this once in a thousand times.
    limit: f64,
}

/// Tries and prints.
///
/// # Errors
/// When a server or a thread can't be started, or arrivals are not what they should be.
pub fn run(args: &SelftestArgs) -> Result<(), Failure> {
    let placement = Placement::choose(&ringcall::environment());
    let mut tried =
        ceiling::search(Protocol::Ringcall, placement, args.duration).map_err(Failure::Other)?;
    let stalls = ceiling::look(placement, args.duration);
    let ceiling = ceiling::judge(&tried, stalls.as_ref());
    for tried in tried.iter_mut().filter(|tried| tried.is_open) {
        let busy_ratio = (tried.answered_per_s / ceiling.pipelined_per_s).min(BUSY_RATIO_MAX);
        tried.stall_lag_p99_ns = stalls.as_ref().map(|seen| seen.lag_p99_ns(busy_ratio));
    }
    let report = Report {
        clock_ns: clock_ns(),
        arrivals: [1, 3].map(arrivals).into(),
        ceiling,
        tried,
    };
    match args.format {
        Format::Text => print(&text(&report))?,
        Format::Json => print_json(&report)?,
    }
    let wrong = report
        .arrivals
        .iter()
        .find(|arrivals| arrivals.distance > arrivals.limit);
    match wrong {
        Some(wrong) => Err(Failure::Other(format!(
            "arrivals are not Poisson: {wrong:?}"
        ))),
        None => Ok(()),
    }
}

fn clock_ns() -> f64 {
    let start = Instant::now();
    for _ in 0..CLOCK_READINGS {
        std::hint::black_box(Instant::now());
    }
    start.elapsed().as_nanos() as f64 / f64::from(CLOCK_READINGS)
}

fn arrivals(threads: usize) -> Arrivals {
    let until = Duration::from_secs(1);
    let workload = Workload::echo(0);
    let dealer = Dealer::new(
        &Arrival::Poisson,
        ARRIVALS_PER_S,
        until,
        &workload,
        SEED,
        Part::WHOLE,
        threads,
    );
    let mut times_ns = Vec::new();
    for mut schedule in dealer.start().0 {
        times_ns.extend(schedule.calls().map(|call| call.intended_ns));
    }
    times_ns.sort_unstable();
    let gaps = times_ns.windows(2).map(|pair| (pair[1] - pair[0]) as f64);
    let mut gaps: Vec<f64> = gaps.map(|gap_ns| gap_ns * ARRIVALS_PER_S / 1e9).collect();
    Arrivals {
        threads,
        gaps: gaps.len(),
        distance: kolmogorov_smirnov_exponential(&mut gaps),
        limit: kolmogorov_smirnov_limit(gaps.len()),
    }
}

fn text(report: &Report) -> String {
    let mut text = format!("clock      {:.0} ns for each reading\n", report.clock_ns);
    for arrivals in &report.arrivals {
        text += &format!(
            "arrivals   {} planned gaps over {} thread(s), merged: Kolmogorov-Smirnov distance {:.5}, limit {:.5}\n",
            format_count(arrivals.gaps as u64),
            arrivals.threads,
            arrivals.distance,
            arrivals.limit
        );
    }
    for tried in &report.tried {
        let kind = if tried.is_open {
            "open loop"
        } else {
            "closed loop"
        };
        text += &format!(
            "{kind:<11}{} calls per second",
            format_count(tried.answered_per_s as u64)
        );
        if tried.is_open {
            text += &format!(", p99 own lag {}", format_ns(tried.own_lag_p99_ns as f64));
        }
        if let Some(floor_ns) = tried.stall_lag_p99_ns {
            text += &format!(
                ", of which this machine's stalls alone make {}",
                format_ns(floor_ns)
            );
        }
        if tried.is_open && !tried.is_kept {
            text += ": too late";
        }
        text.push('\n');
    }
    text + &format!("ceiling    {}\n", report.ceiling)
}

/// Busier than this a generator never catches up, as far as anybody can wait for it.
const BUSY_RATIO_MAX: f64 = 0.99;
const CLOCK_READINGS: u32 = 1_000_000;
const ARRIVALS_PER_S: f64 = 1e6;
const SEED: u64 = 1;

//! Options of the studies.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::sweep::{Plan, parse_rates};
use crate::cli::Format;
use crate::failure::Failure;
use crate::report::PlanningArgs;
use crate::results::Protocol;
use crate::run::args::LoadArgs;
use crate::units::parse_rate;

/// Options of `loadgen sweep`.
#[derive(Args, Debug)]
pub struct SweepArgs {
    /// Rates to offer: 10k,20k,50k, or 10k..200k for ten of them in equal proportions [default:
    /// ten around the rate that a closed loop reaches]
    #[arg(long, value_name = "RATES", conflicts_with_all = ["grid", "shard_counts"])]
    rates: Option<String>,
    /// Connections × depths, each with each, in a closed loop: 1,8,64x1,16
    #[arg(long, value_name = "CONNSxDEPTHS", conflicts_with = "shard_counts")]
    grid: Option<String>,
    /// Shards of the server that is started, in a closed loop: 1,2,4
    #[arg(long, value_name = "NUMBERS", conflicts_with = "target")]
    shard_counts: Option<String>,
    /// How often to measure each load; all come once before any comes again
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) repeat: u32,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    pub(super) planning: PlanningArgs,
    /// How to print the summary; progress goes to standard error
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// Options of `loadgen search`.
#[derive(Args, Debug)]
pub struct SearchArgs {
    /// The first rate; from there it is doubled, or divided by eight [default: half of what a closed loop
    /// reaches; --rate is not used]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(super) start: Option<f64>,
    /// No rate above this is tried
    #[arg(long, value_name = "RATE", default_value = "10M", value_parser = parse_rate)]
    pub(super) max: f64,
    /// Loads of the whole --duration that must pass at the answer, besides the one that found it; those on
    /// the way there are shorter
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub(super) confirm: u32,
    /// Time under load after which the search settles for the highest rate that has passed by then [default:
    /// twelve times --warmup and --duration, and more for objectives that need many calls]
    #[arg(long, value_name = "TIME", value_parser = crate::run::args::time)]
    pub(super) time_max: Option<Duration>,
    /// Leave out the ten loads from 10 % to 125 % of the answer that the report's curves show
    #[arg(long)]
    pub(super) no_curve: bool,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    pub(super) planning: PlanningArgs,
    /// How to print the summary; progress goes to standard error
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// Options of `loadgen compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Two result folders to compare instead of servers, A and B
    #[arg(value_name = "FOLDER", num_args = 2, conflicts_with_all = ["target", "against"])]
    pub(super) folders: Vec<PathBuf>,
    /// Server B [default: A again, which shows the noise floor]; A is --target
    #[arg(long, value_name = "ADDR")]
    pub(super) against: Option<String>,
    /// What B speaks [default: what A does]
    #[arg(long, value_enum, requires = "against")]
    pub(super) against_protocol: Option<Protocol>,
    /// Process of B, for its CPU time
    #[arg(long, value_name = "PID", requires = "against")]
    pub(super) against_pid: Option<u32>,
    /// Rounds of four loads each
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=20))]
    pub(super) rounds: u32,
    /// How often a regression may be found where there is none
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = parse_level)]
    pub(super) level: f64,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// How to print the summary; progress goes to standard error
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

impl SweepArgs {
    /// What to measure; `None`: rates around the highest.
    ///
    /// # Errors
    /// In words for the user.
    pub(super) fn plan(&self) -> Result<Option<Plan>, Failure> {
        let plan = if let Some(rates) = &self.rates {
            parse_rates(rates).map(Plan::Rates)
        } else if let Some(grid) = &self.grid {
            parse_grid(grid)
        } else if let Some(counts) = &self.shard_counts {
            parse_numbers(counts).map(Plan::Shards)
        } else {
            return Ok(None);
        };
        plan.map(Some).map_err(Failure::Usage)
    }
}

fn parse_grid(text: &str) -> Result<Plan, String> {
    let (conns, depths) = text.split_once('x').ok_or_else(|| {
        format!("`{text}` has no `x`: write connections × depths like 1,8,64x1,16")
    })?;
    Ok(Plan::Grid {
        conns: parse_numbers(conns)?,
        depths: parse_numbers(depths)?,
    })
}

fn parse_numbers(text: &str) -> Result<Vec<u32>, String> {
    let number = |part: &str| {
        let number = part.trim().parse().ok();
        number
            .filter(|number| (1..=NUMBER_MAX).contains(number))
            .ok_or_else(|| format!("`{part}` is no number from 1 to {NUMBER_MAX}"))
    };
    text.split(',').map(number).collect()
}

fn parse_level(text: &str) -> Result<f64, String> {
    let level = text.parse().ok();
    let level = level.filter(|level| (LEVEL_MIN..=LEVEL_MAX).contains(level));
    level.ok_or_else(|| format!("use a share from {LEVEL_MIN} to {LEVEL_MAX}, such as 0.05"))
}

const NUMBER_MAX: u32 = 10_000;
const LEVEL_MIN: f64 = 0.0001;
const LEVEL_MAX: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_read() {
        let plan = Plan::Grid {
            conns: vec![1, 8],
            depths: vec![1, 16],
        };
        assert_eq!(parse_grid("1, 8x1,16"), Ok(plan));
        for wrong in ["", "8", "x", "0x1", "1x", "1x1x1", "99999x1"] {
            assert!(parse_grid(wrong).is_err(), "{wrong}");
        }
    }
}

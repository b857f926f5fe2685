//! `loadgen run`: one load, measured, judged, and kept in a result folder.

pub mod args;
mod cpu_watch;
mod display;
mod observer;
pub(crate) mod point;
mod progress;
pub(crate) mod quiet;
mod screen;
pub mod session;
mod stall_probe;
mod testbed;
mod text;
pub(crate) mod validity;

use serde::Serialize;

use self::args::RunArgs;
use self::session::{Session, label};
pub(crate) use self::testbed::generator_cpus;
use self::text::Text;
use crate::cli::Format;
use crate::failure::Failure;
use crate::results::Summary;
use crate::{print, print_json};

/// The objective of a load that was given none.
const SLO_USUAL: &str = "err<1%";

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    /// The result folder.
    folder: &'a str,
    #[serde(flatten)]
    summary: &'a Summary,
}

/// Measures, prints and keeps.
///
/// # Errors
/// When nothing was measured, the measurement is invalid, or the objective was not met.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let mut load = args.load.clone();
    // Something decides the exit code, also where nobody has said what.
    load.slo.get_or_insert_with(|| SLO_USUAL.into());
    let mut session = Session::start(&load, "run")?;
    let plan = session.plan()?;
    let measured = session.measure(label(&plan), &plan)?;
    let folder = session.path().display().to_string();
    let caveats = session.caveats().to_vec();
    let (summary, write_error) = session.finish();
    match args.format {
        Format::Text => {
            let text = Text {
                point: &measured.point,
                plan: &plan,
                agents: args.load.agents.len(),
                ceiling: summary.ceiling.as_ref(),
                folder: &folder,
                caveats: &caveats,
            };
            print(&text.to_string())?;
        }
        Format::Json => print_json(&Report {
            folder: &folder,
            summary: &summary,
        })?,
    }
    if let Some(error) = write_error {
        return Err(Failure::Other(error));
    }
    let reasons = || measured.point.validity.reasons.join("; ");
    match summary.exit_code {
        0 => Ok(()),
        3 => Err(Failure::SloViolated("the objective was not met".into())),
        4 if measured.point.validity.is_valid => Err(Failure::Invalid(
            "too few calls were measured to decide the objective; take a longer --duration".into(),
        )),
        4 => Err(Failure::Invalid(format!(
            "the measurement is INVALID: {}",
            reasons()
        ))),
        _ => Err(Failure::Other(format!(
            "the results are partial: {}; they are kept in {folder}",
            reasons()
        ))),
    }
}

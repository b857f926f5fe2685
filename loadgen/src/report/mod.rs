//! The capacity report: what a service carries, what it needs, and what breaks first.
//!
//! [`evidence`] reads result folders, [`verdict`] and [`bottleneck`] say what they mean, `parts` and
//! `provenance` write that into a [`document`], which [`markdown`] and [`html`] render.

pub mod bottleneck;
pub mod capacity_file;
mod comparison;
pub mod document;
pub mod evidence;
#[cfg(test)]
pub(crate) mod fixture;
pub mod html;
pub mod markdown;
mod parts;
mod provenance;
pub mod verdict;
mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use self::capacity_file::CapacityFile;
use self::document::{Document, Section};
use self::evidence::Evidence;
use self::verdict::Planning;
use crate::analysis::slo::Slo;
use crate::environment::to_the_second;
use crate::failure::Failure;
use crate::print;
use crate::study::compare::ComparisonRecord;
use crate::study::record::StudyRecord;
use crate::units::parse_rate;

/// Options of `loadgen report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Result folders; the report is written into the first, and shows the points of all of them
    #[arg(required = true, value_name = "FOLDER")]
    pub folders: Vec<PathBuf>,
    /// Judge by this objective instead of the one that was measured with, such as p99<1ms
    #[arg(long, value_name = "OBJECTIVES")]
    pub slo: Option<Slo>,
    /// What to plan for
    #[command(flatten)]
    pub planning: PlanningArgs,
}

/// What to plan for.
#[derive(Args, Clone, Copy, Debug)]
pub struct PlanningArgs {
    /// Calls per second of all users together at the busiest time, such as 250k
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    peak: Option<f64>,
    /// By how much the peak will grow: 1.5 is half as much again
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = parse_growth)]
    growth: f64,
    /// Instances that may be lost, or be out for an update, without harm
    #[arg(long, value_name = "N", default_value_t = 1)]
    spare: u32,
    /// Share of each instance's capacity that is kept free, from 0 to 0.9
    #[arg(long, value_name = "SHARE", default_value = "0.3", value_parser = parse_headroom)]
    headroom: f64,
}

impl From<PlanningArgs> for Planning {
    fn from(args: PlanningArgs) -> Self {
        Self {
            peak_per_s: args.peak,
            growth: args.growth,
            spare: args.spare,
            headroom: args.headroom,
        }
    }
}

fn parse_growth(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok();
    let factor = factor.filter(|factor| (GROWTH_MIN..=GROWTH_MAX).contains(factor));
    factor.ok_or_else(|| format!("use a factor from {GROWTH_MIN} to {GROWTH_MAX}, such as 1.5"))
}

fn parse_headroom(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    let share = share.filter(|share| (0.0..=HEADROOM_MAX).contains(share));
    share.ok_or_else(|| format!("use a share from 0 to {HEADROOM_MAX}, such as 0.3"))
}

/// Builds the report of a folder again.
///
/// # Errors
/// When a folder can't be read, or the report can't be written.
pub fn run(args: &ReportArgs) -> Result<(), Failure> {
    let evidence = Evidence::read(&args.folders)?;
    let (slo, planning) = (args.slo.as_ref(), args.planning.into());
    let document = compose(&evidence, slo, planning);
    let capacity = CapacityFile::of(&evidence, slo, planning);
    let written = write(&args.folders[0], &document, capacity.as_ref());
    let path = written.map_err(|error| {
        let folder = args.folders[0].display();
        Failure::Other(format!("can't write the report into {folder}: {error}"))
    })?;
    print(&format!("{}\n", path.display()))?;
    Ok(())
}

/// The report of what was measured.
pub fn compose(evidence: &Evidence, slo: Option<&Slo>, planning: Planning) -> Document {
    let manifest = &evidence.folders[0].manifest;
    let subtitle = format!(
        "Measured {} with loadgen {} (commit {}), folder `{}`",
        to_the_second(&manifest.started_utc),
        manifest.build.version,
        manifest.build.commit,
        evidence.folders[0].name,
    );
    if let Some(StudyRecord::Compare(record)) = &evidence.folders[0].record {
        let mut document = comparison(record);
        let sides = parts::sides(evidence);
        let rest = [sides, provenance::section(evidence), words::section()];
        document.sections.extend(rest);
        return Document {
            subtitle,
            ..document
        };
    }
    let load = &manifest.load;
    let methods: Vec<_> = load
        .methods
        .iter()
        .map(|method| method.method.as_str())
        .collect();
    let methods = methods.join(", ");
    Document {
        title: format!(
            "Capacity of {methods} over {} on {}",
            load.transport, load.protocol
        ),
        subtitle,
        sections: [
            parts::sections(evidence, slo, planning),
            vec![provenance::section(evidence), words::section()],
        ]
        .concat(),
    }
}

/// The verdict of a comparison alone.
pub fn comparison(record: &ComparisonRecord) -> Document {
    Document {
        title: format!("Comparison: {} (B) against {} (A)", record.b, record.a),
        subtitle: String::new(),
        sections: vec![Section {
            title: "Verdict".into(),
            blocks: comparison::blocks(record),
        }],
    }
}

/// Writes `report.md`, `report.html`, `plots/*.svg` and, if there is a capacity, `capacity.json`; returns
/// where the HTML is.
///
/// # Errors
/// When they can't be written.
pub fn write(
    folder: &Path,
    document: &Document,
    capacity: Option<&CapacityFile>,
) -> io::Result<PathBuf> {
    CapacityFile::write(capacity, folder)?;
    let plots = folder.join("plots");
    // Pictures of an earlier report may show what this one does not.
    if plots.exists() {
        fs::remove_dir_all(&plots)?;
    }
    fs::create_dir(&plots)?;
    for (name, svg) in document.plots() {
        fs::write(plots.join(format!("{name}.svg")), svg)?;
    }
    fs::write(folder.join("report.md"), markdown::render(document))?;
    let path = folder.join("report.html");
    fs::write(&path, html::render(document))?;
    Ok(path)
}

const GROWTH_MIN: f64 = 0.1;
const GROWTH_MAX: f64 = 1000.0;
const HEADROOM_MAX: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    const PLANNING: Planning = Planning {
        peak_per_s: Some(20_000.0),
        growth: 1.5,
        spare: 1,
        headroom: 0.25,
    };

    /// The section of this title, as text.
    fn text_of(document: &Document, title: &str) -> String {
        let mut sections = document.sections.iter();
        let section = sections.find(|section| section.title == title);
        let section = Document {
            sections: vec![section.expect(title).clone()],
            ..Document::default()
        };
        markdown::render(&section)
    }

    #[test]
    fn a_search_is_reported() {
        let folder = fixture::search();
        let evidence = Evidence::read(&[folder.path()]).unwrap();
        says_what_was_found(&evidence);
        judges_by_another_objective(&evidence);
        is_written_again(&evidence);
    }

    fn says_what_was_found(evidence: &Evidence) {
        let capacity = verdict::capacity(evidence, None).unwrap();
        assert!(
            (3700.0..4130.0).contains(&capacity.rate_per_s),
            "{capacity:?}"
        );
        let document = compose(evidence, None, PLANNING);
        assert_eq!(document.sections.len(), 12);
        let verdict = text_of(&document, "Verdict");
        let rate = crate::units::format_count(capacity.rate_per_s.round() as u64);
        assert!(verdict.contains(&rate), "{verdict}");
        // 30 000 calls/s over 75 % of about 4000, rounded up, and one to spare.
        let rated = capacity.rated_per_s(PLANNING);
        let needed = (30_000.0 / rated).ceil() as u64 + 1;
        assert!(verdict.contains(&format!("**{needed}**")), "{verdict}");
        let search = text_of(&document, "How the answer was found");
        for part in ["plots/search.svg", "passed", "| confirm", "All "] {
            assert!(search.contains(part), "{part}: {search}");
        }
        assert!(verdict.contains("from points"), "{verdict}");
        let scaling = text_of(&document, "Throughput against shards");
        assert!(
            scaling.contains("loadgen sweep --shard-counts"),
            "{scaling}"
        );
        assert!(
            text_of(&document, "Environment, caveats, commands")
                .contains("loadgen search --slo 'p99<5ms'")
        );
    }

    fn judges_by_another_objective(evidence: &Evidence) {
        let strict: Slo = "p99<2ms".parse().unwrap();
        let capacity = verdict::capacity(evidence, Some(&strict)).unwrap();
        // p99 = 2 ms at μ - 2300.
        assert!(
            (1900.0..2750.0).contains(&capacity.rate_per_s),
            "{capacity:?}"
        );
        assert!(!capacity.is_confirmed());
        let impossible: Slo = "p99<10us".parse().unwrap();
        assert_eq!(verdict::capacity(evidence, Some(&impossible)), None);
        let document = compose(evidence, Some(&impossible), PLANNING);
        assert!(text_of(&document, "Verdict").contains("No load met"));
        assert!(text_of(&document, "Verdict").contains("not the load breaks this objective"));
    }

    fn is_written_again(evidence: &Evidence) {
        let document = compose(evidence, None, PLANNING);
        let folder = tempfile::tempdir().unwrap();
        let plots = folder.path().join("plots");
        fs::create_dir(&plots).unwrap();
        fs::write(plots.join("old.svg"), "").unwrap();
        let path = write(folder.path(), &document, None).unwrap();
        let html = fs::read_to_string(path).unwrap();
        assert!(html.contains("Latency against offered rate") && html.contains("</html>"));
        // Names of XML's namespaces look like addresses, but nobody fetches them.
        let fetched = html.replace("http://www.w3.org/", "");
        assert!(!fetched.contains("://") && !fetched.contains("src="));
        let markdown = fs::read_to_string(folder.path().join("report.md")).unwrap();
        for (name, svg) in document.plots() {
            assert!(markdown.contains(&format!("plots/{name}.svg")));
            let kept = fs::read_to_string(plots.join(format!("{name}.svg")));
            assert_eq!(kept.unwrap(), svg);
        }
        assert!(!plots.join("old.svg").exists());
    }

    #[test]
    fn several_folders_make_one_report() {
        let (search, shards) = (fixture::search(), fixture::shards());
        let evidence = Evidence::read(&[search.path(), shards.path()]).unwrap();
        let document = compose(&evidence, None, PLANNING);
        let scaling = text_of(&document, "Throughput against shards");
        assert!(scaling.contains("plots/scaling.svg"), "{scaling}");
        assert!(scaling.contains("σ"), "{scaling}");
        let balance = text_of(&document, "Balance between shards");
        assert!(balance.contains("plots/shards.svg"), "{balance}");
    }

    #[test]
    fn what_is_no_folder_is_named() {
        let nowhere = Path::new("no/such/folder");
        let error = Evidence::read(&[nowhere]).unwrap_err().to_string();
        assert!(error.contains("no/such/folder"), "{error}");
    }
}

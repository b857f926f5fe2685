//! Several studies over each other.

use super::{View, plot, rate, section};
use crate::plots::{OverlayCurve, overlay};
use crate::report::document::{Block, Section, Table};
use crate::report::evidence::{Folder, Point};
use crate::results::LoopKind;
use crate::study::Side;
use crate::study::record::StudyRecord;
use crate::units::or_dash;

impl View<'_> {
    /// The curves of all folders; `None` for a single one.
    pub(super) fn overlay(&self) -> Option<Section> {
        let folders = &self.evidence.folders;
        if folders.len() < 2 {
            return None;
        }
        let quantile = self.slo.as_ref().and_then(|slo| slo.leading_quantile());
        let quantile = quantile.map_or(0.99, |(quantile, _)| quantile);
        let numbered = || (1..).zip(folders);
        let curve = |(number, folder): (usize, &Folder)| OverlayCurve {
            name: format!("{number}: {}", describe(folder)),
            points: self.points_of(number - 1, quantile),
        };
        let curves: Vec<OverlayCurve> = numbered().map(curve).collect();
        let percentile = format!("p{}", round(quantile * 100.0));
        let svg = overlay(&percentile, &curves, self.leading().as_ref());
        let head = [
            "study",
            "folder",
            "speaks",
            "objective",
            "rate that meets it",
        ];
        let rows = numbered().map(|(number, folder)| {
            let search = match &folder.record {
                Some(StudyRecord::Search(search)) => Some(search),
                _ => None,
            };
            let answer = search.and_then(|search| search.answer.as_ref());
            vec![
                number.to_string(),
                folder.name.clone(),
                describe(folder),
                or_dash(search, |search| search.slo.clone()),
                or_dash(answer, |answer| rate(answer.rate_per_s)),
            ]
        });
        let caption = "Valid loads of the open loop. Whiskers: 95 % confidence.";
        let blocks = vec![
            plot("overlay", svg, caption),
            Block::Table(Table::new(&head, rows)),
        ];
        Some(section("The studies over each other", blocks))
    }

    fn points_of(&self, folder: usize, quantile: f64) -> Vec<(f64, crate::analysis::Estimate)> {
        let is_drawn = |point: &&Point| {
            point.folder == folder
                && point.side == Side::A
                && point.summary.loop_kind == LoopKind::Open
                && point.summary.validity.is_valid
        };
        let points = self.evidence.points.iter().filter(is_drawn);
        let value = |point: &Point| Some((point.summary.offered_per_s, point.quantile(quantile)?));
        points.filter_map(value).collect()
    }
}

fn describe(folder: &Folder) -> String {
    let load = &folder.manifest.load;
    let methods: Vec<&str> = load
        .methods
        .iter()
        .map(|share| share.method.as_str())
        .collect();
    format!(
        "{} on {} over {}",
        methods.join(", "),
        load.protocol,
        load.transport
    )
}

/// Without the noise of binary fractions.
fn round(percent: f64) -> f64 {
    (percent * 1e6).round() / 1e6
}

//! What a report is made from: the points of one or several result folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::analysis::Estimate;
use crate::analysis::bounds::quantile_bounds;
use crate::failure::Failure;
use crate::results::{
    Ceiling, ErrorRow, IntervalHistogram, IntervalRow, Kind, LoopKind, Manifest, PointRow,
    PointSummary, ResultReader, ShardRow,
};
use crate::study::Side;
use crate::study::judge::CONFIDENCE;
use crate::study::record::StudyRecord;

/// All that was measured.
#[derive(Debug)]
pub struct Evidence {
    /// The folders; the report is written into the first.
    pub folders: Vec<Folder>,
    /// The points of all of them.
    pub points: Vec<Point>,
}

/// A result folder.
#[derive(Debug)]
pub struct Folder {
    /// Its name, without a path.
    pub name: String,
    /// Where it is, as it was named.
    pub path: PathBuf,
    /// What it is of.
    pub manifest: Manifest,
    /// What the study found; `None` for a single run.
    pub record: Option<StudyRecord>,
    /// What the generator can do at most.
    pub ceiling: Option<Ceiling>,
    /// Whether all of its points were measured to their end.
    pub is_complete: bool,
}

/// A load that was run.
#[derive(Debug)]
pub struct Point {
    /// Its folder's place.
    pub folder: usize,
    /// Which of two targets.
    pub side: Side,
    /// Its row of the table.
    pub row: PointRow,
    /// What came out.
    pub summary: PointSummary,
    /// Response times of all methods in each interval.
    pub responses: Vec<Interval>,
    /// What was counted in each interval.
    pub intervals: Vec<IntervalRow>,
    /// Why calls failed, interval by interval.
    pub errors: Vec<ErrorRow>,
    /// Service times of the whole window.
    pub service_ns: Histogram<u64>,
    /// The generator's own lags of the whole window.
    pub lag_ns: Histogram<u64>,
    /// The server's shards.
    pub shards: Vec<ShardRow>,
}

/// A piece of a point's window.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Its beginning, since that of the point's first interval.
    pub start_s: f64,
    /// Its end.
    pub end_s: f64,
    /// Times of calls, in nanoseconds.
    pub values_ns: Histogram<u64>,
}

impl Evidence {
    /// Reads folders.
    ///
    /// # Errors
    /// When one of them can't be read; the text says which.
    pub fn read(paths: &[impl AsRef<Path>]) -> Result<Self, Failure> {
        let mut evidence = Self {
            folders: Vec::new(),
            points: Vec::new(),
        };
        for path in paths {
            evidence.add(path.as_ref())?;
        }
        Ok(evidence)
    }

    fn add(&mut self, path: &Path) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
        let reader = ResultReader::open(path).map_err(|error| failed(&error))?;
        let manifest = reader.manifest().map_err(|error| failed(&error))?;
        let summary = reader.summary().map_err(|error| failed(&error))?;
        let rows = reader.points().map_err(|error| failed(&error))?;
        let shards = reader.shards().map_err(|error| failed(&error))?;
        let mut errors = by_point(reader.errors().map_err(|error| failed(&error))?, |row| {
            row.point
        });
        let intervals = reader.intervals().map_err(|error| failed(&error))?;
        let mut intervals = by_point(intervals, |row| row.point);
        let mut times: BTreeMap<u32, PointTimes> = BTreeMap::new();
        reader
            .each_histogram(
                |key| key.kind != Kind::RoomWait,
                |interval| {
                    let point = times.entry(interval.key.point).or_default();
                    point.add(&interval);
                },
            )
            .map_err(|error| failed(&error))?;
        let record = StudyRecord::read(path)
            .map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?;
        let folder = self.folders.len();
        for summary in &summary.points {
            let row = rows.iter().find(|row| row.point == summary.point);
            let Some(row) = row.cloned() else { continue };
            let mut times = times.remove(&row.point).unwrap_or_default();
            self.points.push(Point {
                folder,
                side: record
                    .as_ref()
                    .map_or(Side::A, |record| record.side(row.point)),
                responses: times.responses(),
                intervals: intervals.remove(&row.point).unwrap_or_default(),
                errors: errors.remove(&row.point).unwrap_or_default(),
                service_ns: times.service_ns.0,
                lag_ns: times.lag_ns.0,
                shards: shards
                    .iter()
                    .filter(|shard| shard.point == row.point)
                    .cloned()
                    .collect(),
                summary: summary.clone(),
                row,
            });
        }
        self.folders.push(Folder {
            path: path.to_owned(),
            name: path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            manifest,
            record,
            ceiling: summary.ceiling,
            is_complete: summary.completion == crate::results::Completion::Complete,
        });
        Ok(())
    }

    /// The points of the open loop in the setting of the first of them, by rate: a curve.
    pub fn curve(&self) -> Vec<&Point> {
        let is_open =
            |point: &&Point| point.summary.loop_kind == LoopKind::Open && point.side == Side::A;
        let Some(first) = self.points.iter().find(is_open) else {
            return Vec::new();
        };
        let setting = |point: &Point| (point.row.shards, point.row.conns, point.row.depth);
        let same = |point: &&Point| {
            setting(point) == setting(first) && point.row.protocol == first.row.protocol
        };
        let mut curve: Vec<&Point> = self.points.iter().filter(is_open).filter(same).collect();
        curve.sort_by(|a, b| a.summary.offered_per_s.total_cmp(&b.summary.offered_per_s));
        curve
    }

    /// The points of sweeps over shards.
    pub fn shard_sweep(&self) -> Vec<&Point> {
        use crate::study::sweep::Axis;
        let is_shards = |point: &&Point| {
            let record = &self.folders[point.folder].record;
            matches!(record, Some(StudyRecord::Sweep { axis: Axis::Shards }))
        };
        self.points.iter().filter(is_shards).collect()
    }
}

impl Point {
    /// A quantile of the response time with its bounds.
    pub fn quantile(&self, quantile: f64) -> Option<Estimate> {
        let intervals: Vec<_> = self
            .responses
            .iter()
            .map(|interval| &interval.values_ns)
            .collect();
        quantile_bounds(&intervals, quantile, CONFIDENCE)
    }

    /// Response times of the whole window.
    pub fn response_ns(&self) -> Histogram<u64> {
        pool(&self.responses)
    }

    /// The hottest shard's requests over the mean of all; `None` with one shard, or when the server
    /// did not tell.
    pub fn imbalance(&self) -> Option<f64> {
        let requests = || self.shards.iter().map(|shard| shard.requests);
        let sum: u64 = requests().sum();
        let hottest = requests()
            .max()
            .filter(|_| self.shards.len() > 1 && sum > 0)?;
        Some(hottest as f64 * self.shards.len() as f64 / sum as f64)
    }
}

fn by_point<T>(rows: Vec<T>, point: impl Fn(&T) -> u32) -> BTreeMap<u32, Vec<T>> {
    let mut by_point: BTreeMap<u32, Vec<T>> = BTreeMap::new();
    for row in rows {
        by_point.entry(point(&row)).or_default().push(row);
    }
    by_point
}

/// The times of a point, as they are read: methods are added up, and so are neighbouring intervals where
/// there are many.
#[derive(Default)]
struct PointTimes {
    /// By their beginnings: their ends, and the times.
    stretches: BTreeMap<Duration, (Duration, Histo)>,
    /// Length of stretches that were joined.
    joined: Duration,
    service_ns: Histo,
    lag_ns: Histo,
}

struct Histo(Histogram<u64>);

impl Default for Histo {
    fn default() -> Self {
        Self(Histogram::new(3).expect("three digits are possible"))
    }
}

impl PointTimes {
    fn add(&mut self, interval: &IntervalHistogram) {
        match interval.key.kind {
            Kind::Response => self.add_response(interval),
            Kind::Service => add(&mut self.service_ns.0, &interval.values_ns),
            Kind::OwnLag => add(&mut self.lag_ns.0, &interval.values_ns),
            Kind::RoomWait => (),
        }
    }

    fn add_response(&mut self, interval: &IntervalHistogram) {
        let end = interval.start + interval.length;
        // The stretch in which it begins; methods of one interval follow each other.
        let around = self.stretches.range_mut(..=interval.start).next_back();
        let around = around.filter(|(start, (known_end, _))| {
            // Beginnings and ends are rounded to the millisecond.
            let begins = interval.start + Duration::from_millis(1);
            **start == interval.start || begins < (**start + self.joined).max(*known_end)
        });
        if let Some((_, (known_end, values_ns))) = around {
            *known_end = end.max(*known_end);
            return add(&mut values_ns.0, &interval.values_ns);
        }
        if self.stretches.len() == STRETCHES_MAX {
            self.join_neighbours();
        }
        let mut values_ns = Histo::default();
        add(&mut values_ns.0, &interval.values_ns);
        self.stretches.insert(interval.start, (end, values_ns));
    }

    /// Half as many stretches, each twice as long.
    fn join_neighbours(&mut self) {
        let longest = self.stretches.iter().map(|(start, (end, _))| *end - *start);
        self.joined = 2 * longest.max().unwrap_or_default();
        let mut all = std::mem::take(&mut self.stretches).into_iter();
        while let Some((start, (mut end, mut values_ns))) = all.next() {
            if let Some((_, (next_end, next))) = all.next() {
                end = next_end.max(end);
                add(&mut values_ns.0, &next.0);
            }
            self.stretches.insert(start, (end, values_ns));
        }
    }

    fn responses(&mut self) -> Vec<Interval> {
        let stretches = std::mem::take(&mut self.stretches);
        let first = stretches.keys().next().copied().unwrap_or_default();
        let interval = |(start, (end, values_ns)): (Duration, (Duration, Histo))| Interval {
            start_s: start.saturating_sub(first).as_secs_f64(),
            end_s: end.saturating_sub(first).as_secs_f64(),
            values_ns: values_ns.0,
        };
        stretches.into_iter().map(interval).collect()
    }
}

/// Stretches of a point that are told apart: more than a picture of it can show.
const STRETCHES_MAX: usize = 240;

fn pool(intervals: &[Interval]) -> Histogram<u64> {
    let mut pooled = Histo::default().0;
    for interval in intervals {
        add(&mut pooled, &interval.values_ns);
    }
    pooled
}

fn add(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    to.auto(true);
    to.add(from)
        .expect("a histogram that resizes takes all values");
}

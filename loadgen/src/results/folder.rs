//! Writing and reading a result folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::histograms::{self, HistogramKey, IntervalHistogram};
use super::manifest::Manifest;
use super::summary::Summary;
use super::tables::{ErrorRow, IntervalRow, PointRow, ServerRow, ShardRow};
use super::{SCHEMA_VERSION, SCHEMA_VERSION_MIN, hgrm};

/// What could not be done with a file, and why.
#[derive(Debug)]
pub struct FolderError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl std::fmt::Display for FolderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (action, path, source) = (self.action, self.path.display(), &self.source);
        write!(f, "can't {action} {path}: {source}")?;
        if source.kind() == io::ErrorKind::StorageFull {
            write!(
                f,
                "; free some space, or choose another place with --out. What was written before is kept"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for FolderError {}

/// The name of a folder: `20261121T040214Z-18e4a94-run`.
pub fn folder_name(manifest: &Manifest) -> String {
    let time: String = manifest
        .started_utc
        .chars()
        .take_while(|&letter| letter != '.')
        .filter(|letter| letter.is_ascii_alphanumeric())
        .collect();
    let time = time.trim_end_matches('Z');
    format!("{time}Z-{}-{}", manifest.build.commit, manifest.name)
}

/// The date and time of day. Only names folders and heads logs: what is measured is measured by
/// clocks that nobody sets.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a date is asked for, not a duration"
)]
pub fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// Writes a folder, piece by piece: whatever ends the measurement, what was written is kept.
#[derive(Debug)]
pub struct ResultWriter {
    path: PathBuf,
}

impl ResultWriter {
    /// Makes the folder under `parent` and writes the manifest. `began` is when the first point's
    /// window begins, as far as is known: intervals of the log count from it.
    ///
    /// # Errors
    /// When the folder exists, or can't be written.
    pub fn create(
        parent: &Path,
        manifest: &Manifest,
        began: SystemTime,
    ) -> Result<Self, FolderError> {
        let path = parent.join(folder_name(manifest));
        let made = fs::create_dir_all(parent).and_then(|()| make_new(&path));
        let path = made.map_err(failed("make", &path))?;
        let writer = Self { path };
        writer.replace_json(MANIFEST, manifest)?;
        let header = histograms::encode_header(began).map_err(failed("write", &writer.path))?;
        writer.append(HLOG, &header)?;
        Ok(writer)
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the manifest again: more is known now.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn rewrite_manifest(&self, manifest: &Manifest) -> Result<(), FolderError> {
        self.replace_json(MANIFEST, manifest)
    }

    /// Adds a row to `points.csv`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add_point(&self, row: &PointRow) -> Result<(), FolderError> {
        self.append_rows(POINTS, std::slice::from_ref(row))
    }

    /// Adds rows to `timeseries.csv`.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn add_intervals(&self, rows: &[IntervalRow]) -> Result<(), FolderError> {
        self.append_rows(TIMESERIES, rows)
    }

    /// Adds rows to `errors.csv`, which there is only if calls failed.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn add_errors(&self, rows: &[ErrorRow]) -> Result<(), FolderError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.append_rows(ERRORS, rows)
    }

    /// Adds rows to `server.csv`.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn add_server(&self, rows: &[ServerRow]) -> Result<(), FolderError> {
        self.append_rows(SERVER, rows)
    }

    /// Adds rows to `shards.csv`.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn add_shards(&self, rows: &[ShardRow]) -> Result<(), FolderError> {
        self.append_rows(SHARDS, rows)
    }

    /// Adds intervals to `latency.hlog`.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn add_histograms(&self, intervals: &[IntervalHistogram]) -> Result<(), FolderError> {
        let mut lines = Vec::new();
        for interval in intervals {
            let line = histograms::encode_interval(interval);
            lines.extend(line.map_err(failed("write", &self.path.join(HLOG)))?);
        }
        self.append(HLOG, &lines)
    }

    /// Writes the percentiles of a whole point, to `p0.echo.response.hgrm`.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn write_hgrm(
        &self,
        key: &HistogramKey,
        values_ns: &Histogram<u64>,
    ) -> Result<(), FolderError> {
        let path = self.path.join(format!("{key}.hgrm"));
        fs::write(&path, hgrm::render(values_ns)).map_err(failed("write", &path))
    }

    /// Writes `summary.json`, in place of an earlier one.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_summary(&self, summary: &Summary) -> Result<(), FolderError> {
        self.replace_json(SUMMARY, summary)
    }

    /// Writes beside and renames, so that no reader meets half a file.
    fn replace_json(&self, name: &str, value: &impl Serialize) -> Result<(), FolderError> {
        let (path, beside) = (self.path.join(name), self.path.join(format!("{name}.part")));
        let write = || {
            let text = serde_json::to_string_pretty(value)? + "\n";
            fs::write(&beside, text)?;
            fs::rename(&beside, &path)
        };
        write().map_err(|error| {
            // Half a file helps nobody, and where the disk is full its room does.
            fs::remove_file(&beside).unwrap_or_default();
            failed("write", &path)(error)
        })
    }

    fn append_rows<T: Serialize>(&self, name: &str, rows: &[T]) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let is_new = fs::metadata(&path).map_or(true, |file| file.len() == 0);
        let encode = || -> io::Result<Vec<u8>> {
            let mut writer = csv::WriterBuilder::new()
                .has_headers(is_new)
                .from_writer(Vec::new());
            for row in rows {
                writer.serialize(row)?;
            }
            writer.into_inner().map_err(|error| error.into_error())
        };
        let bytes = encode().map_err(failed("write", &path))?;
        self.append(name, &bytes)
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let path = self.path.join(name);
        let append = || {
            let mut file: File = OpenOptions::new().create(true).append(true).open(&path)?;
            let before = file.metadata()?.len();
            file.write_all(bytes).inspect_err(|_| {
                // Readers want whole lines. Where even this fails, they leave out the last.
                file.set_len(before).unwrap_or_default();
            })
        };
        append().map_err(failed("write", &path))
    }
}

/// Makes a folder that is not there yet: with a number when another was made in the same second.
fn make_new(path: &Path) -> io::Result<PathBuf> {
    let mut made = path.to_owned();
    for number in 2.. {
        match fs::create_dir(&made) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number <= SAME_MAX => {
                made = PathBuf::from(format!("{}-{number}", path.display()));
            }
            result => return result.map(|()| made),
        }
    }
    unreachable!("numbers above the highest are not tried")
}

/// Folders of one name.
const SAME_MAX: u32 = 100;

/// Reads a folder.
#[derive(Debug)]
pub struct ResultReader {
    path: PathBuf,
}

impl ResultReader {
    /// Opens a folder that was written in this version of the schema, or in one before it.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let reader = Self {
            path: path.to_owned(),
        };
        let version = reader.manifest()?.schema_version;
        if !(SCHEMA_VERSION_MIN..=SCHEMA_VERSION).contains(&version) {
            let why = format!(
                "its schema has version {version}, this program reads {SCHEMA_VERSION_MIN} to {SCHEMA_VERSION}; use \
                 the program that wrote it"
            );
            let wrong = io::Error::new(io::ErrorKind::InvalidData, why);
            return Err(failed("read", path)(wrong));
        }
        Ok(reader)
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `manifest.json`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn manifest(&self) -> Result<Manifest, FolderError> {
        self.json(MANIFEST)
    }

    /// `summary.json`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn summary(&self) -> Result<Summary, FolderError> {
        self.json(SUMMARY)
    }

    /// `points.csv`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn points(&self) -> Result<Vec<PointRow>, FolderError> {
        self.rows_if_any(POINTS)
    }

    /// `timeseries.csv`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn intervals(&self) -> Result<Vec<IntervalRow>, FolderError> {
        self.rows_if_any(TIMESERIES)
    }

    /// `errors.csv`; empty when no call failed.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn errors(&self) -> Result<Vec<ErrorRow>, FolderError> {
        self.rows_if_any(ERRORS)
    }

    /// `server.csv`; empty when the server's process was not known.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn server(&self) -> Result<Vec<ServerRow>, FolderError> {
        self.rows_if_any(SERVER)
    }

    /// `shards.csv`; empty when the server did not tell.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn shards(&self) -> Result<Vec<ShardRow>, FolderError> {
        self.rows_if_any(SHARDS)
    }

    /// All intervals of `latency.hlog`, in its order.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn histograms(&self) -> Result<Vec<IntervalHistogram>, FolderError> {
        let mut all = Vec::new();
        self.each_histogram(|_| true, |interval| all.push(interval))?;
        Ok(all)
    }

    /// Reads the intervals of `latency.hlog` that are `wanted` one after the other, in its order: an hour
    /// of them is more than fits into memory. A last line that was not written to its end is left out.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn each_histogram(
        &self,
        wanted: impl Fn(&HistogramKey) -> bool,
        mut found: impl FnMut(IntervalHistogram),
    ) -> Result<(), FolderError> {
        let path = self.path.join(HLOG);
        let file = fs::File::open(&path).map_err(failed("read", &path))?;
        let mut log = io::BufReader::with_capacity(READ_BYTES, file);
        let (mut line, mut deserializer) = (Vec::new(), Deserializer::new());
        loop {
            line.clear();
            log.read_until(b'\n', &mut line)
                .map_err(failed("read", &path))?;
            if line.last() != Some(&b'\n') {
                return Ok(());
            }
            let interval = histograms::decode_line(&line, &mut deserializer, &wanted);
            let interval = interval.map_err(|why| {
                let error = io::Error::new(io::ErrorKind::InvalidData, why);
                failed("read", &path)(error)
            })?;
            interval.into_iter().for_each(&mut found);
        }
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, FolderError> {
        let path = self.path.join(name);
        let text = fs::read(&path).map_err(failed("read", &path))?;
        serde_json::from_slice(&text)
            .map_err(io::Error::from)
            .map_err(failed("read", &path))
    }

    fn rows_if_any<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, FolderError> {
        if self.path.join(name).exists() {
            self.rows(name)
        } else {
            Ok(Vec::new())
        }
    }

    fn rows<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, FolderError> {
        let path = self.path.join(name);
        let text = fs::read(&path).map_err(failed("read", &path))?;
        let mut reader = csv::Reader::from_reader(whole_lines(&text));
        let rows = reader.deserialize().collect::<Result<_, _>>();
        rows.map_err(io::Error::from).map_err(failed("read", &path))
    }
}

/// Of a log, at once.
const READ_BYTES: usize = 1 << 20;

/// Without a last line that was not written to its end.
fn whole_lines(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte == b'\n');
    &text[..end.map_or(0, |end| end + 1)]
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError {
        action,
        path: path.clone(),
        source,
    }
}

const MANIFEST: &str = "manifest.json";
const SUMMARY: &str = "summary.json";
const POINTS: &str = "points.csv";
const TIMESERIES: &str = "timeseries.csv";
const ERRORS: &str = "errors.csv";
const SERVER: &str = "server.csv";
const SHARDS: &str = "shards.csv";
const HLOG: &str = "latency.hlog";

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;

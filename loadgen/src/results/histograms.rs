//! `latency.hlog`: a histogram for each interval, point, method and kind of time.
//!
//! The file is an interval log of HdrHistogram, so the usual tools read it; its values are
//! nanoseconds. The tag says what a histogram is: `p3.echo.response` is the response time of method
//! `echo` in point 3. The intervals of one tag, added up, are the whole point.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

/// Which time of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// From the intended time to the answer.
    Response,
    /// From the actual sending to the answer.
    Service,
    /// From the intended time until there was room, where as many calls as permitted were in flight: the
    /// server's, or the permission's.
    RoomWait,
    /// From the intended time, or from when there was room for it, to the actual sending: the
    /// generator's.
    OwnLag,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Response, Self::Service, Self::RoomWait, Self::OwnLag];

    /// As it stands in tags and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Service => "service",
            Self::RoomWait => "room_wait",
            Self::OwnLag => "own_lag",
        }
    }
}

/// Stands in names of files for all methods together. No tag of the log has it.
pub const TOTAL: &str = "all";

/// What a histogram is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistogramKey {
    /// The point.
    pub point: u32,
    /// The method; it holds no dot.
    pub method: String,
    /// Which time.
    pub kind: Kind,
}

impl fmt::Display for HistogramKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}.{}.{}", self.point, self.method, self.kind.name())
    }
}

impl FromStr for HistogramKey {
    type Err = String;

    fn from_str(tag: &str) -> Result<Self, String> {
        let read = || {
            let mut parts = tag.strip_prefix('p')?.split('.');
            let (point, method, kind) = (parts.next()?, parts.next()?, parts.next()?);
            let key = Self {
                point: point.parse().ok()?,
                method: method.to_owned(),
                kind: Kind::ALL.into_iter().find(|known| known.name() == kind)?,
            };
            parts.next().is_none().then_some(key)
        };
        read().ok_or_else(|| format!("`{tag}` is no tag like p0.echo.response"))
    }
}

/// The values of one interval.
#[derive(Clone, Debug)]
pub struct IntervalHistogram {
    /// What they are of.
    pub key: HistogramKey,
    /// Beginning of the interval, since that of the folder's first point, to the millisecond.
    pub start: Duration,
    /// Its length, to the millisecond.
    pub length: Duration,
    /// The values, in nanoseconds.
    pub values_ns: Histogram<u64>,
}

/// The beginning of a log; `began` is the time from which intervals count.
pub(super) fn encode_header(began: SystemTime) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("Values are nanoseconds; the interval's maximum is in milliseconds.")
        .with_start_time(began)
        .with_base_time(began)
        .begin_log_with(&mut bytes, &mut V2DeflateSerializer::new())?;
    Ok(bytes)
}

/// The line of one interval.
pub(super) fn encode_interval(interval: &IntervalHistogram) -> io::Result<Vec<u8>> {
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let tag = interval.key.to_string();
    let mut log = IntervalLogWriterBuilder::new();
    log.with_max_value_divisor(NS_PER_MS);
    let mut log = log.begin_log_with(&mut bytes, &mut serializer)?;
    log.write_histogram(
        &tight(&interval.values_ns)?,
        interval.start,
        interval.length,
        Tag::new(&tag),
    )
    .map_err(|error| io::Error::other(format!("{error:?}")))?;
    // The builder repeats the divisor as a comment before each line; the header has said it.
    let line = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    bytes.drain(..line);
    Ok(bytes)
}

/// The interval of a line of a log, if it is one that is `wanted`; other lines have none.
pub(super) fn decode_line(
    line: &[u8],
    deserializer: &mut Deserializer,
    wanted: impl Fn(&HistogramKey) -> bool,
) -> Result<Option<IntervalHistogram>, String> {
    let Some(entry) = IntervalLogIterator::new(line).next() else {
        return Ok(None);
    };
    let LogEntry::Interval(interval) = entry.map_err(|error| format!("{error:?}"))? else {
        return Ok(None);
    };
    let tag = interval.tag().ok_or("an interval has no tag")?;
    let key: HistogramKey = tag.as_str().parse()?;
    if !wanted(&key) {
        return Ok(None);
    }
    let bytes = BASE64_STANDARD
        .decode(interval.encoded_histogram())
        .map_err(|error| format!("{}: {error}", tag.as_str()))?;
    let values_ns = deserializer
        .deserialize(&mut &bytes[..])
        .map_err(|error| format!("{}: {error}", tag.as_str()))?;
    Ok(Some(IntervalHistogram {
        key,
        start: interval.start_timestamp(),
        length: interval.duration(),
        values_ns,
    }))
}

/// The same values in a histogram that is no longer than they need: who reads it makes one as long.
fn tight(values_ns: &Histogram<u64>) -> io::Result<Histogram<u64>> {
    let high = values_ns.max().max(2);
    let tight = Histogram::new_with_bounds(1, high, values_ns.sigfig());
    let mut tight = tight.map_err(io::Error::other)?;
    tight.add(values_ns).map_err(io::Error::other)?;
    Ok(tight)
}

const NS_PER_MS: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::wall_clock;

    #[test]
    fn what_is_written_is_read_back() {
        let mut log = encode_header(wall_clock()).unwrap();
        let mut written = Vec::new();
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            let mut values_ns = Histogram::new(3).unwrap();
            values_ns
                .record_n(1000 + number as u64, 1 + number as u64)
                .unwrap();
            let interval = IntervalHistogram {
                key: HistogramKey {
                    point: 12,
                    method: "echo".into(),
                    kind,
                },
                start: Duration::from_millis(1500),
                length: Duration::from_millis(250),
                values_ns,
            };
            log.extend(encode_interval(&interval).unwrap());
            written.push(interval);
        }
        let mut deserializer = Deserializer::new();
        let mut read_all = |wanted: fn(&HistogramKey) -> bool| -> Vec<IntervalHistogram> {
            let lines = log.split_inclusive(|byte| *byte == b'\n');
            let read = lines.map(|line| decode_line(line, &mut deserializer, wanted).unwrap());
            read.flatten().collect()
        };
        let services = read_all(|key| key.kind == Kind::Service);
        assert_eq!(services.len(), 1);
        let read = read_all(|_| true);
        assert_eq!(read.len(), written.len());
        for (read, written) in read.iter().zip(&written) {
            assert_eq!(read.key, written.key);
            assert_eq!((read.start, read.length), (written.start, written.length));
            assert_eq!(read.values_ns, written.values_ns);
        }
        let text = String::from_utf8(log).unwrap();
        assert_eq!(
            text.lines().filter(|line| !line.starts_with('#')).count(),
            Kind::ALL.len()
        );
    }

    #[test]
    fn other_tags_are_refused() {
        for tag in [
            "",
            "p0",
            "p0.echo",
            "0.echo.response",
            "p0.echo.x",
            "p0.a.b.response",
        ] {
            assert!(tag.parse::<HistogramKey>().is_err(), "{tag}");
        }
    }
}

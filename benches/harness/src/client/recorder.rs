//! Counts every call in a histogram.

use hdrhistogram::Histogram;

/// Records latencies. Calls of one turn mostly have the same, so equal ones in a row are counted
/// and written together.
pub(crate) struct Recorder {
    histogram: Histogram<u64>,
    latency_ns: u64,
    repeats: u64,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            histogram: Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
                .expect("constant, valid bounds"),
            latency_ns: 0,
            repeats: 0,
        }
    }

    #[inline]
    pub(crate) fn record(&mut self, latency_ns: u64) {
        if latency_ns != self.latency_ns {
            self.write();
            self.latency_ns = latency_ns;
        }
        self.repeats += 1;
    }

    /// Forgets all that was recorded.
    pub(crate) fn reset(&mut self) {
        self.histogram.reset();
        self.repeats = 0;
    }

    /// All that was recorded since the last reset.
    pub(crate) fn finish(mut self) -> Histogram<u64> {
        self.write();
        self.histogram
    }

    fn write(&mut self) {
        self.histogram
            .saturating_record_n(self.latency_ns, self.repeats);
        self.repeats = 0;
    }
}

/// Longest latency that is told apart, one minute; a run gives up long before.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Three digits: an error of at most a thousandth.
const SIGNIFICANT_DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_since_the_reset_is_counted() {
        let mut recorder = Recorder::new();
        recorder.record(7);
        recorder.reset();
        for latency_ns in [7, 7, 9, 9, 9, 7] {
            recorder.record(latency_ns);
        }
        let histogram = recorder.finish();
        assert_eq!((histogram.count_at(7), histogram.count_at(9)), (3, 3));
        assert_eq!(histogram.len(), 6);
    }
}

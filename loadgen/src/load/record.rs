//! What one thread records: counts and times, apart for each method.

use hdrhistogram::Histogram;

use crate::results::{CallCounts, Disturbance, Failures, FullCap, Kind};

/// The times of the calls of one method. Values are nanoseconds with three significant digits.
#[derive(Clone, Debug)]
pub struct Times([Histogram<u64>; Kind::ALL.len()]);

impl Times {
    fn new() -> Self {
        let empty = || Histogram::new_with_bounds(1, TIME_NS_MAX, SIGNIFICANT_DIGITS);
        Self(Kind::ALL.map(|_| empty().expect("the bounds are in order")))
    }

    /// The histogram of one kind.
    pub fn of(&self, kind: Kind) -> &Histogram<u64> {
        &self.0[kind as usize]
    }

    #[inline]
    pub(super) fn record(&mut self, kind: Kind, ns: u64) {
        self.0[kind as usize].saturating_record(ns);
    }

    /// Adds so many times of one length.
    pub(crate) fn record_many(&mut self, kind: Kind, ns: u64, count: u64) {
        self.0[kind as usize].saturating_record_n(ns, count);
    }

    /// Adds what another has recorded.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.add(theirs).expect("all have the same bounds");
        }
    }

    fn clear(&mut self) {
        self.0.iter_mut().for_each(Histogram::reset);
    }
}

/// One method's calls.
#[derive(Clone, Debug)]
pub struct Tally {
    /// What became of them.
    pub counts: CallCounts,
    /// How long they took.
    pub times: Times,
}

/// What was recorded in an interval, or in several that were added up.
#[derive(Clone, Debug)]
pub struct Record {
    /// For each method of the workload, in its order.
    pub methods: Vec<Tally>,
    /// Calls that were answered within the window, whenever they were due.
    pub answered: u64,
    /// Calls between their intended time and their end, summed up over time, within the window.
    pub in_flight_ns: f64,
    /// Where as many calls as permitted were in flight.
    pub full_cap: FullCap,
    /// Where the generator stood still.
    pub disturbance: Disturbance,
    /// Why calls failed that did.
    pub failures: Failures,
}

impl Record {
    /// Nothing yet.
    pub fn new(methods: usize) -> Self {
        let tally = || Tally {
            counts: CallCounts::default(),
            times: Times::new(),
        };
        let mut record = Self {
            methods: std::iter::repeat_with(tally).take(methods).collect(),
            answered: 0,
            in_flight_ns: 0.0,
            full_cap: FullCap::default(),
            disturbance: Disturbance::default(),
            failures: Failures::default(),
        };
        // Writes to all of its memory: the kernel gives pages when they are first written to, which
        // takes time that must not be that of a call.
        record.clear();
        record
    }

    /// Adds what another has recorded.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.methods.iter_mut().zip(&other.methods) {
            mine.counts += theirs.counts;
            mine.times.add(&theirs.times);
        }
        self.answered += other.answered;
        self.in_flight_ns += other.in_flight_ns;
        self.full_cap += other.full_cap;
        self.disturbance += other.disturbance;
        self.failures += &other.failures;
    }

    /// All methods together.
    pub fn total(&self) -> Tally {
        let mut total = Self::new(1).methods.remove(0);
        for method in &self.methods {
            total.counts += method.counts;
            total.times.add(&method.times);
        }
        total
    }

    /// Forgets everything, and keeps the memory.
    pub fn clear(&mut self) {
        for tally in &mut self.methods {
            tally.counts = CallCounts::default();
            tally.times.clear();
        }
        self.answered = 0;
        self.in_flight_ns = 0.0;
        self.full_cap = FullCap::default();
        self.disturbance = Disturbance::default();
        self.failures.clear();
    }
}

/// An hour; longer times are recorded as this.
const TIME_NS_MAX: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

//! Intervals of several sources, added up by their numbers.

use std::time::Duration;

use super::generator::{Event, Interval};
use super::record::Record;

/// What has come from the sources up to now.
pub(crate) struct IntervalMerger {
    sources: usize,
    /// Everything that was told.
    pub(crate) total: Record,
    /// Intervals that some source has not ended yet: how many have, where it ended, their sum.
    open: Vec<(usize, u64, Record)>,
    told: usize,
    told_until_ns: u64,
}

/// Whoever listens to a load.
pub(crate) type Observe<'a> = dyn FnMut(Event<'_>) -> Result<(), String> + Send + 'a;

impl IntervalMerger {
    pub(crate) fn new(sources: usize, methods: usize) -> Self {
        Self {
            sources,
            total: Record::new(methods),
            open: Vec::new(),
            told: 0,
            told_until_ns: 0,
        }
    }

    /// Adds an interval of one source, which ended at a time since the beginning of the window. A
    /// source ends its intervals in order, each once.
    pub(crate) fn add(&mut self, number: usize, end_ns: u64, record: &Record) {
        let methods = record.methods.len();
        while self.open.len() <= number - self.told {
            self.open.push((0, 0, Record::new(methods)));
        }
        let (sources, latest_ns, sum) = &mut self.open[number - self.told];
        *sources += 1;
        *latest_ns = end_ns.max(*latest_ns);
        sum.add(record);
    }

    /// Tells the intervals that all sources have ended.
    pub(crate) fn tell_ended(&mut self, observe: &mut Observe<'_>) -> Result<(), String> {
        while let Some((sources, ..)) = self.open.first()
            && *sources == self.sources
        {
            self.tell_first(observe)?;
        }
        Ok(())
    }

    /// Tells the intervals that some sources have not come to, and never will.
    pub(crate) fn tell_rest(&mut self, observe: &mut Observe<'_>) -> Result<(), String> {
        while !self.open.is_empty() {
            self.tell_first(observe)?;
        }
        Ok(())
    }

    fn tell_first(&mut self, observe: &mut Observe<'_>) -> Result<(), String> {
        let (_, end_ns, record) = self.open.remove(0);
        self.total.add(&record);
        let start = Duration::from_nanos(self.told_until_ns);
        let interval = Interval {
            number: self.told,
            start,
            length: Duration::from_nanos(end_ns).saturating_sub(start),
            record,
        };
        self.told += 1;
        self.told_until_ns = end_ns.max(self.told_until_ns);
        observe(Event::Interval(&interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(count: u64) -> Record {
        Record {
            answered: count,
            ..Record::new(1)
        }
    }

    #[test]
    fn an_interval_is_told_when_every_source_has_ended_it() {
        let mut merger = IntervalMerger::new(2, 1);
        let mut told = Vec::new();
        let mut observe = |event: Event<'_>| {
            if let Event::Interval(interval) = event {
                told.push((interval.number, interval.start, interval.record.answered));
            }
            Ok(())
        };
        merger.add(0, 10, &answered(1));
        merger.add(1, 20, &answered(2));
        merger.tell_ended(&mut observe).unwrap();
        merger.add(0, 11, &answered(4));
        merger.tell_ended(&mut observe).unwrap();
        merger.tell_rest(&mut observe).unwrap();
        assert_eq!(merger.total.answered, 7);
        let ns = Duration::from_nanos;
        assert_eq!(told, [(0, ns(0), 5), (1, ns(11), 2)]);
    }
}

//! Writes down what a load tells while it runs, and shows how far it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::display::ProgressDisplay;
use crate::load::ServerSample;
use crate::load::generator::{Event, Interval, Plan};
use crate::results::{
    ErrorRow, FolderError, HistogramKey, IntervalHistogram, IntervalRow, Kind, ResultWriter,
    ServerRow, Spread,
};

/// One point while it is measured.
pub(super) struct PointObserver<'a> {
    point: u32,
    /// Beginning of the window, since that of the folder.
    offset: Duration,
    plan: &'a Plan,
    folder: &'a ResultWriter,
    stop: &'a AtomicBool,
    display: ProgressDisplay,
    /// Response times of the window, in stretches of equal length.
    responses_ns: Vec<Histogram<u64>>,
    /// Intervals in each of them, but the last, and in that.
    per_stretch: usize,
    in_last: usize,
    write_error: Option<String>,
}

impl<'a> PointObserver<'a> {
    pub(super) fn new(
        point: u32,
        display: ProgressDisplay,
        offset: Duration,
        plan: &'a Plan,
        folder: &'a ResultWriter,
        stop: &'a AtomicBool,
    ) -> Self {
        Self {
            point,
            offset,
            plan,
            folder,
            stop,
            display,
            responses_ns: Vec::new(),
            per_stretch: 1,
            in_last: 0,
            write_error: None,
        }
    }

    pub(super) fn handle(&mut self, event: Event<'_>) {
        let written = match event {
            Event::Begin => {
                self.display.begin();
                Ok(())
            }
            Event::Ready => Ok(()),
            Event::Tick => {
                self.display.tick();
                Ok(())
            }
            Event::Interval(interval) => self.interval(interval),
            Event::Server(before, after) => self.server(before, after),
        };
        if let Err(error) = written
            && self.write_error.is_none()
        {
            // What was written is kept; measuring on would be for nothing.
            self.write_error = Some(error.to_string());
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Response times of each stretch of the window, and why something could not be written.
    pub(super) fn finish(self) -> (Vec<Histogram<u64>>, Option<String>) {
        (self.responses_ns, self.write_error)
    }

    /// Keeps the response times of an interval. However long the window is, there are few stretches:
    /// when there would be more, each two neighbours become one.
    fn keep(&mut self, times: &Histogram<u64>) {
        let last = self.responses_ns.last_mut();
        if let Some(last) = last.filter(|_| self.in_last < self.per_stretch) {
            last.add(times).expect("all have the same bounds");
            self.in_last += 1;
            return;
        }
        if self.responses_ns.len() == STRETCHES_MAX {
            let all = std::mem::take(&mut self.responses_ns);
            let mut all = all.into_iter();
            while let (Some(mut first), second) = (all.next(), all.next()) {
                if let Some(second) = second {
                    first.add(second).expect("all have the same bounds");
                }
                self.responses_ns.push(first);
            }
            self.per_stretch *= 2;
        }
        self.responses_ns.push(times.clone());
        self.in_last = 1;
    }

    fn interval(&mut self, interval: &Interval) -> Result<(), FolderError> {
        let total = interval.record.total();
        let response = Spread::of(total.times.of(Kind::Response));
        let room_wait = Spread::of(total.times.of(Kind::RoomWait));
        let own_lag = Spread::of(total.times.of(Kind::OwnLag));
        self.keep(total.times.of(Kind::Response));
        self.display.interval(interval, &response);
        let length_ns = interval.length.as_nanos().max(1) as f64;
        self.folder.add_intervals(&[IntervalRow {
            point: self.point,
            interval: interval.number as u32,
            start_s: interval.start.as_secs_f64(),
            length_s: interval.length.as_secs_f64(),
            sent: total.counts.sent,
            answered: interval.record.answered,
            ok: total.counts.ok,
            error: total.counts.error,
            timeout: total.counts.timeout,
            in_flight_mean: interval.record.in_flight_ns / length_ns,
            p50_ns: response.percentile_ns(50.0),
            p99_ns: response.percentile_ns(99.0),
            p999_ns: response.percentile_ns(99.9),
            max_ns: response.max_ns,
            room_wait_p99_ns: room_wait.percentile_ns(99.0),
            own_lag_p99_ns: own_lag.percentile_ns(99.0),
            own_lag_max_ns: own_lag.max_ns,
        }])?;
        let errors = interval.record.failures.iter().map(|failure| ErrorRow {
            point: self.point,
            interval: interval.number as u32,
            start_s: interval.start.as_secs_f64(),
            is_of_server: failure.is_of_server,
            count: failure.count,
            text: failure.text.clone(),
        });
        self.folder.add_errors(&errors.collect::<Vec<_>>())?;
        let methods = self.plan.workload.methods.iter();
        let mut histograms = Vec::new();
        for ((method, _), tally) in methods.zip(&interval.record.methods) {
            for kind in Kind::ALL {
                let values_ns = tally.times.of(kind);
                if !values_ns.is_empty() {
                    histograms.push(IntervalHistogram {
                        key: HistogramKey {
                            point: self.point,
                            method: method.name().into(),
                            kind,
                        },
                        start: self.offset + interval.start,
                        length: interval.length,
                        values_ns: values_ns.clone(),
                    });
                }
            }
        }
        self.folder.add_histograms(&histograms)
    }

    fn server(&self, before: &ServerSample, after: &ServerSample) -> Result<(), FolderError> {
        let ns = (after.cpu - before.cpu).as_nanos() as u64;
        self.folder.add_server(&[ServerRow {
            point: self.point,
            start_s: before.at.as_secs_f64(),
            length_s: (after.at - before.at).as_secs_f64(),
            cpu_ns: ns,
            cpu_user_s: after.cpu_user_s - before.cpu_user_s,
            cpu_system_s: after.cpu_system_s - before.cpu_system_s,
            voluntary_switches: after
                .voluntary_switches
                .saturating_sub(before.voluntary_switches),
            involuntary_switches: after
                .involuntary_switches
                .saturating_sub(before.involuntary_switches),
            rss_bytes: after.rss_bytes,
            threads: after.threads,
        }])
    }
}

/// More than the confidence bounds of a quantile make use of.
const STRETCHES_MAX: usize = 48;

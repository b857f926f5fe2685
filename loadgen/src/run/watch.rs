//! Writes down what a load tells while it runs, and shows how far it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::shown::Shown;
use crate::load::ServerSample;
use crate::load::generator::{Event, Interval, Plan};
use crate::results::{
    FolderError, HistogramKey, IntervalHistogram, IntervalRow, Kind, ResultWriter, ServerRow,
    Spread,
};

/// One point while it is measured.
pub(super) struct Watch<'a> {
    point: u32,
    /// Beginning of the window, since that of the folder.
    offset: Duration,
    plan: &'a Plan,
    folder: &'a ResultWriter,
    stop: &'a AtomicBool,
    shown: Shown,
    responses_ns: Vec<Histogram<u64>>,
    write_error: Option<String>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        point: u32,
        shown: Shown,
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
            shown,
            responses_ns: Vec::new(),
            write_error: None,
        }
    }

    pub(super) fn handle(&mut self, event: Event<'_>) {
        let written = match event {
            Event::Begin => {
                self.shown.begin();
                Ok(())
            }
            Event::Ready => Ok(()),
            Event::Tick => {
                self.shown.tick();
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

    /// Response times of each interval, and why something could not be written.
    pub(super) fn finish(self) -> (Vec<Histogram<u64>>, Option<String>) {
        (self.responses_ns, self.write_error)
    }

    fn interval(&mut self, interval: &Interval) -> Result<(), FolderError> {
        let total = interval.record.total();
        let response = Spread::of(total.times.of(Kind::Response));
        let lag = Spread::of(total.times.of(Kind::SendLag));
        self.responses_ns
            .push(total.times.of(Kind::Response).clone());
        self.shown.interval(interval, &response);
        let length_ns = interval.length.as_nanos().max(1) as f64;
        self.folder.add_intervals(&[IntervalRow {
            point: self.point,
            interval: interval.number as u32,
            start_s: interval.start.as_secs_f64(),
            length_s: interval.length.as_secs_f64(),
            sent: total.books.sent,
            answered: interval.record.answered,
            ok: total.books.ok,
            error: total.books.error,
            timeout: total.books.timeout,
            in_flight_mean: interval.record.in_flight_ns / length_ns,
            p50_ns: response.percentile_ns(50.0),
            p99_ns: response.percentile_ns(99.0),
            p999_ns: response.percentile_ns(99.9),
            max_ns: response.max_ns,
            send_lag_p99_ns: lag.percentile_ns(99.0),
            send_lag_max_ns: lag.max_ns,
        }])?;
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

//! Shows a load on the whole terminal while it runs: rate, percentiles and the histogram.

use std::io::{self, Stderr, stderr};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Bar, BarChart, BarGroup, Block, Gauge, Paragraph, Row, Sparkline, Table};
use ratatui::{Frame, Terminal};

use crate::load::generator::Interval;
use crate::results::{Failures, Kind, Spread};
use crate::run::text::failure_line;
use crate::units::{format_count, format_ns, or_dash, several};

/// The terminal while a load runs; as it was before afterwards.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    view: View,
}

impl Screen {
    /// Takes over the terminal of standard error. Keys are left to the terminal, so that Ctrl-C ends
    /// the load as ever.
    pub(super) fn open(label: &str, warmup: Duration, duration: Duration) -> io::Result<Self> {
        execute!(stderr(), EnterAlternateScreen, Hide)?;
        Ok(Self {
            terminal: Terminal::new(CrosstermBackend::new(stderr()))?,
            view: View::new(label, warmup, duration),
        })
    }

    pub(super) fn begin(&mut self) {
        self.view.begun = Some(Instant::now());
        self.draw();
    }

    pub(super) fn interval(&mut self, interval: &Interval) {
        self.view.add(interval);
        self.draw();
    }

    /// Draws what is known. A terminal that went away takes no more: the load goes on without.
    pub(super) fn draw(&mut self) {
        let view = &self.view;
        if let Err(error) = self.terminal.draw(|frame| view.render(frame)) {
            tracing::debug!(%error, "the terminal can't be drawn on");
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Err(error) = execute!(stderr(), LeaveAlternateScreen, Show) {
            tracing::debug!(%error, "the terminal can't be given back");
        }
    }
}

/// What is shown.
struct View {
    label: String,
    warmup: Duration,
    duration: Duration,
    begun: Option<Instant>,
    /// Answers per second in each interval.
    rates_per_s: Vec<u64>,
    /// The last interval, and all of them.
    last: Option<[Spread; Kind::ALL.len()]>,
    total: [Histogram<u64>; Kind::ALL.len()],
    /// Calls that failed, and why.
    failed: u64,
    failures: Failures,
}

impl View {
    fn new(label: &str, warmup: Duration, duration: Duration) -> Self {
        let empty = || Histogram::new(3).expect("three digits are allowed");
        Self {
            label: label.to_owned(),
            warmup,
            duration,
            begun: None,
            rates_per_s: Vec::new(),
            last: None,
            total: Kind::ALL.map(|_| empty()),
            failed: 0,
            failures: Failures::default(),
        }
    }

    fn add(&mut self, interval: &Interval) {
        let tally = interval.record.total();
        for (total, kind) in self.total.iter_mut().zip(Kind::ALL) {
            total
                .add(tally.times.of(kind))
                .expect("it grows as it has to");
        }
        self.failed += tally.counts.failed();
        self.failures += &interval.record.failures;
        let length_s = interval.length.as_secs_f64();
        // What ended after the window has no rate.
        if interval.start < self.duration && length_s > 0.0 {
            let per_s = interval.record.answered as f64 / length_s;
            self.rates_per_s.push(per_s.round() as u64);
            self.last = Some(Kind::ALL.map(|kind| Spread::of(tally.times.of(kind))));
        }
    }

    fn render(&self, frame: &mut Frame<'_>) {
        // Who has no failures has more room for the bars.
        let failures = match self.failures.iter().count() as u16 {
            0 => 0,
            texts => texts.min(FAILURES_SHOWN) + 2,
        };
        let [head, rates, times, errors, bars] = Layout::vertical([
            Constraint::Length(3),
            Constraint::Length(6),
            Constraint::Length(11),
            Constraint::Length(failures),
            Constraint::Min(6),
        ])
        .areas(frame.area());
        self.progress(frame, head);
        self.rates(frame, rates);
        self.times(frame, times);
        self.failed(frame, errors);
        self.histogram(frame, bars);
    }

    /// Why calls failed, the most frequent first.
    fn failed(&self, frame: &mut Frame<'_>, area: Rect) {
        let mut failures: Vec<_> = self.failures.iter().collect();
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.count));
        let lines = failures
            .into_iter()
            .map(|failure| Line::from(failure_line(failure)));
        let title = format!(" FAILED: {} ", several(self.failed as usize, "call"));
        let text = Paragraph::new(lines.collect::<Vec<_>>());
        frame.render_widget(text.block(Block::bordered().title(title)), area);
    }

    fn progress(&self, frame: &mut Frame<'_>, area: Rect) {
        let passed = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        let all = self.warmup + self.duration;
        let phase = match self.begun {
            None => "connecting".to_owned(),
            Some(_) if passed < self.warmup => {
                format!("warm-up, {:.1?} of {:?}", passed, self.warmup)
            }
            Some(_) => format!(
                "{:.1?} of {:?}",
                passed.saturating_sub(self.warmup),
                self.duration
            ),
        };
        let ratio = passed.div_duration_f64(all).clamp(0.0, 1.0);
        let title = format!(" {} – Ctrl-C ends it and keeps what there is ", self.label);
        let gauge = Gauge::default().block(Block::bordered().title(title));
        frame.render_widget(gauge.ratio(ratio).label(phase), area);
    }

    fn rates(&self, frame: &mut Frame<'_>, area: Rect) {
        let now = self.rates_per_s.last().copied().unwrap_or(0);
        let most = self.rates_per_s.iter().copied().max().unwrap_or(0);
        let title = format!(
            " answered: {} calls/s, {} at most ",
            format_count(now),
            format_count(most)
        );
        let width = usize::from(area.width.saturating_sub(2));
        let from = self.rates_per_s.len().saturating_sub(width);
        let line = Sparkline::default().block(Block::bordered().title(title));
        frame.render_widget(line.data(&self.rates_per_s[from..]), area);
    }

    fn times(&self, frame: &mut Frame<'_>, area: Rect) {
        let mut rows = Vec::new();
        let total = self.total.each_ref().map(Spread::of);
        for (name, spreads) in [("all", Some(&total)), ("last interval", self.last.as_ref())] {
            for (kind, spread) in Kind::ALL.iter().zip(spreads.into_iter().flatten()) {
                let mut cells = vec![format!("{name}: {}", kind_name(*kind))];
                cells.extend([50.0, 90.0, 99.0].map(|percentile| spread.show(percentile)));
                let highest = spread.highest();
                cells.push(or_dash(highest, |highest| {
                    format!("p{} {}", highest.percentile, format_ns(highest.ns as f64))
                }));
                cells.push(format_ns(spread.max_ns as f64));
                rows.push(Row::new(cells));
            }
        }
        let widths = [Constraint::Min(24)]
            .into_iter()
            .chain([10, 10, 10, 17, 10].map(Constraint::Length));
        let table = Table::new(rows, widths)
            .header(
                Row::new(["", "p50", "p90", "p99", "highest told", "max"])
                    .style(Style::new().bold()),
            )
            .block(Block::bordered().title(" times "));
        frame.render_widget(table, area);
    }

    fn histogram(&self, frame: &mut Frame<'_>, area: Rect) {
        let response = &self.total[Kind::Response as usize];
        let bars: Vec<Bar<'_>> = doubling(response)
            .into_iter()
            .map(|(upto_ns, count)| {
                let label = Line::from(format!("<{}", format_ns(upto_ns as f64)));
                let bar = Bar::default().value(count).label(label);
                bar.text_value(format_count(count))
            })
            .collect();
        let chart = BarChart::default()
            .block(Block::bordered().title(" response times, from the intended time on "))
            .bar_width(9)
            .bar_gap(1)
            .data(BarGroup::default().bars(&bars));
        frame.render_widget(chart, area);
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Response => "response",
        Kind::Service => "service",
        Kind::RoomWait => "room wait",
        Kind::OwnLag => "own lag",
    }
}

/// Counts up to each bound, which doubles from one to the next; none before the first value.
fn doubling(values_ns: &Histogram<u64>) -> Vec<(u64, u64)> {
    let steps = values_ns.iter_log(FIRST_BOUND_NS, 2.0);
    let counts = steps.map(|step| {
        (
            step.value_iterated_to() + 1,
            step.count_since_last_iteration(),
        )
    });
    counts.skip_while(|(_, count)| *count == 0).collect()
}

/// Lines for why calls failed.
const FAILURES_SHOWN: u16 = 4;
/// Calls over loopback take longer.
const FIRST_BOUND_NS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Record;
    use ratatui::backend::TestBackend;

    fn interval(number: usize, times_ns: &[u64]) -> Interval {
        let mut record = Record::new(1);
        for ns in times_ns {
            record.methods[0]
                .times
                .record_many(Kind::Response, *ns, 1000);
        }
        record.answered = 1000 * times_ns.len() as u64;
        Interval {
            number,
            start: Duration::from_secs(number as u64),
            length: Duration::from_secs(1),
            record,
        }
    }

    fn drawn(view: &View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(100, 30)).unwrap();
        terminal.draw(|frame| view.render(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content.chunks(100);
        let text = |cells: &[ratatui::buffer::Cell]| {
            cells.iter().map(|cell| cell.symbol()).collect::<String>()
        };
        lines.map(text).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_screen_shows_rate_percentiles_and_histogram() {
        let second = Duration::from_secs(1);
        let mut view = View::new("20000/s poisson", second, 5 * second);
        assert!(drawn(&view).contains("connecting"));
        view.begun = Some(Instant::now());
        view.add(&interval(0, &[90_000, 90_000, 90_000, 90_000]));
        view.add(&interval(1, &[90_000, 700_000]));
        let text = drawn(&view);
        for part in [
            "20000/s poisson",
            "answered: 2 000 calls/s, 4 000 at most",
            "all: response",
            "last interval: response",
            "90.0 µs",
            "<128 µs",
            "5 000",
        ] {
            assert!(text.contains(part), "{part:?}\n{text}");
        }
        assert!(!text.contains("FAILED"), "{text}");
        let mut failing = interval(2, &[90_000]);
        failing.record.methods[0].counts.error = 1200;
        failing
            .record
            .failures
            .add("NOT_FOUND: no such key", true, 1200);
        view.add(&failing);
        let text = drawn(&view);
        for part in [
            "FAILED: 1 200 calls",
            "1 200 × the server: NOT_FOUND: no such key",
        ] {
            assert!(text.contains(part), "{part:?}\n{text}");
        }
    }

    #[test]
    fn bars_begin_with_the_first_value() {
        let mut values_ns = Histogram::new(3).unwrap();
        values_ns.record_n(5_000, 3).unwrap();
        values_ns.record_n(9_000, 4).unwrap();
        assert_eq!(doubling(&values_ns), [(8_000, 3), (16_000, 4)]);
    }
}

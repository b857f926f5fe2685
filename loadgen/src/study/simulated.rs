//! Servers whose truth is known, for tests.

use std::convert::Infallible;

use hdrhistogram::Histogram;

use super::{Load, Probe, Probed, Side};
use crate::analysis::queueing::Kind;
use crate::analysis::slo::Slo;
use crate::load::flight::Window;
use crate::load::slices::Slices;
use crate::results::{
    CallCounts, Completion, Disturbance, Failures, FullCap, Latency, LoopKind, PointSummary,
    ServerUse, Spread, Validity,
};
use crate::run::quiet::quiet;

/// One queue that is fed at random; side B takes a share longer, and each load of either has its own
/// luck.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) services_per_s: f64,
    pub(crate) cost_of_b: f64,
    pub(crate) luck: f64,
    pub(crate) window_s: f64,
    /// What each answer takes on top.
    pub(crate) way_s: f64,
    pub(crate) generator_max_per_s: f64,
    pub(crate) disturbance: Disturbance,
    /// So often, and for so long, others take its CPU.
    pub(crate) pause_s: Option<(f64, f64)>,
    /// The objective that its quiet is judged by.
    pub(crate) slo: Option<Slo>,
    pub(crate) loads: Vec<Load>,
    pub(crate) random: fastrand::Rng,
}

impl Server {
    pub(crate) fn random(services_per_s: f64) -> Self {
        Self {
            kind: Kind::RandomRandom,
            services_per_s,
            cost_of_b: 0.0,
            luck: 0.0,
            window_s: 20.0,
            way_s: 0.0,
            generator_max_per_s: f64::INFINITY,
            disturbance: Disturbance::default(),
            pause_s: None,
            slo: None,
            loads: Vec::new(),
            random: fastrand::Rng::with_seed(11),
        }
    }

    fn exponential(&mut self, per_s: f64) -> f64 {
        -(1.0 - self.random.f64()).ln() / per_s
    }

    /// When a service ends that begins then and takes so long, pauses left aside.
    fn end_s(&self, mut start_s: f64, mut work_s: f64) -> f64 {
        let Some((every_s, length_s)) = self.pause_s else {
            return start_s + work_s;
        };
        loop {
            // Each period ends with its pause.
            let period_s = (start_s / every_s).floor() * every_s;
            let pause_s = period_s + every_s - length_s;
            let until_pause_s = pause_s - start_s;
            if work_s <= until_pause_s {
                return start_s + work_s;
            }
            work_s -= until_pause_s.max(0.0);
            // A little behind its end: the next period begins there, however it is rounded.
            start_s = period_s + every_s * (1.0 + 1e-9);
        }
    }

    /// The slices of a window, with its pauses.
    fn slices(&self, window_s: f64) -> Option<Slices> {
        let window = Window {
            from_ns: 0,
            until_ns: (window_s * 1e9) as u64,
        };
        let mut slices = Slices::new(window, &self.slo.as_ref()?.slow_from_ns())?;
        let (every_s, length_s) = self.pause_s?;
        for number in 1..=(window_s / every_s) as u32 {
            let end_s = f64::from(number) * every_s;
            slices.disturb(((end_s - length_s) * 1e9) as u64, (end_s * 1e9) as u64);
        }
        Some(slices)
    }

    /// Response times of the calls that come in the window, by interval and by slice, and how many
    /// ended in it.
    fn simulate(
        &mut self,
        rate_per_s: f64,
        services_per_s: f64,
        window_s: f64,
        lag_s: f64,
    ) -> (Vec<Histogram<u64>>, Option<Slices>, u64) {
        let mut slices = self.slices(window_s);
        let empty = Histogram::new(3).unwrap();
        let mut intervals = vec![empty; INTERVALS];
        let (mut at_s, mut free_s, mut ended) = (0.0, 0.0, 0);
        loop {
            at_s += self.exponential(rate_per_s);
            if at_s >= window_s {
                return (intervals, slices, ended);
            }
            let service_s = match self.kind {
                Kind::RandomRandom => self.exponential(services_per_s),
                _ => 1.0 / services_per_s,
            };
            free_s = self.end_s(f64::max(free_s, at_s), service_s);
            ended += u64::from(free_s < window_s);
            let interval = (at_s / window_s * INTERVALS as f64) as usize;
            let response_ns = ((free_s - at_s + lag_s) * 1e9) as u64;
            intervals[interval].record(response_ns).unwrap();
            if let Some(slices) = &mut slices {
                slices.record((at_s * 1e9) as u64, response_ns);
            }
        }
    }
}

impl Probe for Server {
    type Error = Infallible;

    fn probe(&mut self, load: &Load) -> Result<Probed, Infallible> {
        self.loads.push(load.clone());
        let luck = 1.0 + self.luck * (2.0 * self.random.f64() - 1.0);
        let cost = if load.side == Side::B {
            1.0 + self.cost_of_b
        } else {
            1.0
        };
        let services_per_s = self.services_per_s / cost / luck;
        let rate_per_s = load.rate_per_s.unwrap_or(0.5 * self.services_per_s);
        let window_s = self.window_s.max(load.calls_min / rate_per_s);
        let is_late = rate_per_s > self.generator_max_per_s;
        let lag_s = self.way_s + if is_late { LAG_S } else { 0.0 };
        let (intervals, slices, ended) = self.simulate(rate_per_s, services_per_s, window_s, lag_s);
        let busy_ratio = rate_per_s / services_per_s;
        let quiet = slices.and_then(|mut slices| {
            slices.settle(busy_ratio);
            quiet(&slices, self.slo.as_ref()?, window_s)
        });
        let mut pooled = intervals[0].clone();
        for interval in &intervals[1..] {
            pooled.add(interval).unwrap();
        }
        let calls = pooled.len();
        let reasons = match is_late {
            true => vec!["the generator was late".to_owned()],
            false => Vec::new(),
        };
        let achieved_per_s = ended as f64 / window_s;
        let point = PointSummary {
            point: self.loads.len() as u32 - 1,
            label: load.label.clone(),
            start_s: 0.0,
            warmup_s: 0.0,
            window_s,
            loop_kind: LoopKind::Open,
            completion: Completion::Complete,
            validity: Validity {
                is_valid: !is_late,
                lags: reasons.clone(),
                is_late,
                reasons,
                ..Validity::default()
            },
            slo: None,
            offered_per_s: calls as f64 / window_s,
            achieved_per_s,
            counts: CallCounts {
                scheduled: calls,
                sent: calls,
                ok: calls,
                ..CallCounts::default()
            },
            latency: Latency {
                response: Spread::of(&pooled),
                service: Spread::of(&pooled),
                room_wait: Spread::default(),
                own_lag: Spread::default(),
            },
            in_flight_mean: 0.0,
            in_flight_max: 1024,
            full_cap: FullCap::default(),
            disturbance: self.disturbance,
            quiet,
            server_shards: 1,
            server: Some(ServerUse {
                cpu_us_per_call: 1e6 / services_per_s,
                cpus_busy: achieved_per_s / services_per_s,
                system_ratio: 0.5,
                context_switches_per_s: 0.0,
                rss_bytes_max: 1 << 24,
            }),
            failures: Failures::default(),
            methods: Vec::new(),
        };
        Ok(Probed {
            point,
            responses_ns: intervals,
        })
    }
}

const INTERVALS: usize = 10;
/// By how much a generator beyond its limit is late.
const LAG_S: f64 = 0.5;

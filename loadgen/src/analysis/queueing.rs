//! Models of waiting.
//!
//! A shard is one server with one queue. `k` shards are `k` separate queues, not one queue before
//! `k` servers: a call waits for its shard even when another is idle.

/// One server with one queue. Times are seconds; response time is wait and service together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queue {
    /// How calls come, and how long they take.
    pub kind: Kind,
    /// Calls that come in a second: λ.
    pub arrivals_per_s: f64,
    /// Calls that the server ends in a second while it is busy: μ.
    pub services_per_s: f64,
}

/// Kendall's names for arrivals and service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// M/M/1: random arrivals, exponentially distributed service times.
    RandomRandom,
    /// M/D/1: random arrivals, every call takes the same time.
    RandomFixed,
    /// D/D/1: evenly spaced arrivals, every call takes the same time.
    FixedFixed,
}

impl Queue {
    /// Share of time in which the server is busy: ρ.
    pub fn utilisation(&self) -> f64 {
        self.arrivals_per_s / self.services_per_s
    }

    /// The mean response time; infinite when more comes than can be served.
    pub fn mean_s(&self) -> f64 {
        let (load, service_s) = (self.utilisation(), 1.0 / self.services_per_s);
        if load >= 1.0 {
            return if self.kind == Kind::FixedFixed && load == 1.0 {
                service_s
            } else {
                f64::INFINITY
            };
        }
        match self.kind {
            Kind::RandomRandom => service_s / (1.0 - load),
            Kind::RandomFixed => service_s * (1.0 + load / (2.0 * (1.0 - load))),
            Kind::FixedFixed => service_s,
        }
    }

    /// The probability of a response time of at most `time_s`.
    pub fn share_within(&self, time_s: f64) -> f64 {
        let service_s = 1.0 / self.services_per_s;
        if self.mean_s().is_infinite() || time_s < 0.0 {
            return 0.0;
        }
        match self.kind {
            Kind::RandomRandom => -(-(self.services_per_s - self.arrivals_per_s) * time_s).exp_m1(),
            Kind::FixedFixed => f64::from(u8::from(time_s >= service_s)),
            Kind::RandomFixed if time_s < service_s => 0.0,
            Kind::RandomFixed => self.share_waiting_within(time_s - service_s),
        }
    }

    /// A quantile of the response time.
    pub fn quantile_s(&self, quantile: f64) -> f64 {
        assert!((0.0..1.0).contains(&quantile));
        if self.mean_s().is_infinite() {
            return f64::INFINITY;
        }
        match self.kind {
            Kind::RandomRandom => {
                -(-quantile).ln_1p() / (self.services_per_s - self.arrivals_per_s)
            }
            Kind::FixedFixed => 1.0 / self.services_per_s,
            Kind::RandomFixed => quantile_of(|time_s| self.share_within(time_s), quantile),
        }
    }

    /// M/D/1: the probability of a wait of at most `wait_s` (Franx 2001). All terms are positive,
    /// unlike those of Crommelin's older formula, whose sum loses all digits in the tail.
    fn share_waiting_within(&self, wait_s: f64) -> f64 {
        let service_s = 1.0 / self.services_per_s;
        let services = (wait_s / service_s).floor() as usize + 1;
        let mean = self.arrivals_per_s * (services as f64 * service_s - wait_s);
        let in_system = cumulative(&self.occupancy(services + 1));
        let mut poisson = (-mean).exp();
        let mut share = 0.0;
        for arrived in 0..services {
            // One more than wait are in the system: the one in service.
            share += poisson * in_system[services - arrived];
            poisson *= mean / (arrived + 1) as f64;
        }
        share.min(1.0)
    }

    /// M/D/1: probabilities of 0, 1, … calls in the system, from the balance of steps up and down
    /// across each level.
    fn occupancy(&self, count: usize) -> Vec<f64> {
        let load = self.utilisation();
        let arrivals = poisson(load, count + 2);
        // at_least[k]: more than k - 1 calls come during one service.
        let below = cumulative(&arrivals);
        let at_least = |calls: usize| (1.0 - below[calls - 1]).max(0.0);
        let mut occupancy = vec![1.0 - load];
        for level in 0..count.saturating_sub(1) {
            let from_empty = occupancy[0] * at_least(level + 1);
            let from_others: f64 = (1..=level)
                .map(|at| occupancy[at] * at_least(level - at + 2))
                .sum();
            occupancy.push((from_empty + from_others) / arrivals[0]);
        }
        occupancy
    }
}

/// `k` separate queues, each with its share of the arrivals.
#[derive(Clone, Debug, PartialEq)]
pub struct SeparateQueues {
    /// The queues.
    pub queues: Vec<Queue>,
}

impl SeparateQueues {
    /// Splits arrivals among queues by their shares, which need not add up to one.
    pub fn new(whole: Queue, shares: &[f64]) -> Self {
        let sum: f64 = shares.iter().sum();
        let queue = |share: &f64| Queue {
            arrivals_per_s: whole.arrivals_per_s * share / sum,
            ..whole
        };
        Self {
            queues: shares.iter().map(queue).collect(),
        }
    }

    /// The mean response time of all calls.
    pub fn mean_s(&self) -> f64 {
        self.of_calls(Queue::mean_s)
    }

    /// A quantile of the response time of all calls.
    pub fn quantile_s(&self, quantile: f64) -> f64 {
        if self.mean_s().is_infinite() {
            return f64::INFINITY;
        }
        quantile_of(
            |time_s| self.of_calls(|queue| queue.share_within(time_s)),
            quantile,
        )
    }

    /// The mean over calls, not over queues.
    fn of_calls(&self, value: impl Fn(&Queue) -> f64) -> f64 {
        let busy = self
            .queues
            .iter()
            .filter(|queue| queue.arrivals_per_s > 0.0);
        let (sum, calls) = busy.fold((0.0, 0.0), |(sum, calls), queue| {
            let arrivals = queue.arrivals_per_s;
            (sum + arrivals * value(queue), calls + arrivals)
        });
        sum / calls
    }
}

/// A server that stood still once in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stall {
    /// How long it stood still.
    pub stall_s: f64,
    /// How long the run was.
    pub run_s: f64,
    /// The server's utilisation otherwise.
    pub utilisation: f64,
}

impl Stall {
    /// The share of calls with a longer response time, apart from those that are usual: calls that
    /// come in the stall wait for its rest, and those that come while the backlog is worked off
    /// wait as well, which stretches the stall by 1 ÷ (1 − ρ).
    pub fn share_beyond(&self, time_s: f64) -> f64 {
        ((self.stall_s - time_s) / ((1.0 - self.utilisation) * self.run_s)).clamp(0.0, 1.0)
    }

    /// A quantile of the response time; zero where it lies among the usual ones.
    pub fn quantile_s(&self, quantile: f64) -> f64 {
        (self.stall_s - (1.0 - quantile) * (1.0 - self.utilisation) * self.run_s).max(0.0)
    }
}

/// Probabilities of 0, 1, … events.
fn poisson(mean: f64, count: usize) -> Vec<f64> {
    let mut term = (-mean).exp();
    (0..count)
        .map(|events| {
            let probability = term;
            term *= mean / (events + 1) as f64;
            probability
        })
        .collect()
}

fn cumulative(probabilities: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let sums = probabilities.iter().map(|probability| {
        sum += probability;
        sum
    });
    sums.collect()
}

/// The time within which a share ends, by bisection.
fn quantile_of(share_within: impl Fn(f64) -> f64, quantile: f64) -> f64 {
    let mut high_s = 1e-9;
    while share_within(high_s) < quantile {
        high_s *= 2.0;
    }
    let mut low_s = 0.0;
    for _ in 0..BISECTIONS {
        let middle_s = f64::midpoint(low_s, high_s);
        if share_within(middle_s) < quantile {
            low_s = middle_s;
        } else {
            high_s = middle_s;
        }
    }
    high_s
}

/// Enough for eleven digits.
const BISECTIONS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(kind: Kind, arrivals_per_s: f64) -> Queue {
        Queue {
            kind,
            arrivals_per_s,
            services_per_s: 5000.0,
        }
    }

    fn is_close(value: f64, expected: f64, tolerance: f64) -> bool {
        (value / expected - 1.0).abs() < tolerance
    }

    /// Response times of a simulated queue (Lindley), sorted.
    fn simulate(queue: Queue, calls: usize) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(9);
        let mut exponential = |per_s: f64| -(1.0 - random.f64()).ln() / per_s;
        let mut wait_s: f64 = 0.0;
        let mut responses: Vec<f64> = (0..calls)
            .map(|_| {
                let service_s = match queue.kind {
                    Kind::RandomRandom => exponential(queue.services_per_s),
                    _ => 1.0 / queue.services_per_s,
                };
                let response_s = wait_s + service_s;
                wait_s = (response_s - exponential(queue.arrivals_per_s)).max(0.0);
                response_s
            })
            .collect();
        responses.sort_by(f64::total_cmp);
        responses
    }

    #[test]
    fn the_textbook_is_right() {
        let [mm1, md1, dd1] = [Kind::RandomRandom, Kind::RandomFixed, Kind::FixedFixed]
            .map(|kind| queue(kind, 4000.0));
        assert!(is_close(mm1.mean_s(), 1.0e-3, 1e-9));
        assert!(is_close(mm1.quantile_s(0.99), 4.605e-3, 1e-3));
        assert!(is_close(mm1.quantile_s(0.999), 6.908e-3, 1e-3));
        assert!(is_close(md1.mean_s(), 0.6e-3, 1e-9));
        assert!(is_close(dd1.mean_s(), 0.2e-3, 1e-9));
        assert!(is_close(dd1.quantile_s(0.99), 0.2e-3, 1e-9));
    }

    #[test]
    fn models_agree_with_simulated_queues() {
        for (kind, arrivals_per_s) in [
            (Kind::RandomRandom, 4000.0),
            (Kind::RandomFixed, 2500.0),
            (Kind::RandomFixed, 4500.0),
        ] {
            let queue = queue(kind, arrivals_per_s);
            let responses = simulate(queue, 400_000);
            let mean_s = responses.iter().sum::<f64>() / responses.len() as f64;
            assert!(is_close(mean_s, queue.mean_s(), 0.05), "{queue:?}");
            for quantile in [0.6, 0.9, 0.99] {
                let simulated_s = super::super::quantile_of_sorted(&responses, quantile);
                let model_s = queue.quantile_s(quantile);
                assert!(is_close(simulated_s, model_s, 0.06), "{queue:?} {quantile}");
            }
        }
    }

    #[test]
    fn fixed_service_keeps_its_digits_in_the_far_tail() {
        let shares: Vec<_> = (1..200)
            .map(|step| queue(Kind::RandomFixed, 4750.0).share_within(f64::from(step) * 1e-4))
            .collect();
        assert!(shares.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        // The tail of an M/D/1 wait falls by the root of ρ(e^η - 1) = η per service time.
        let beyond =
            |services: f64| 1.0 - queue(Kind::RandomFixed, 4000.0).share_within(services / 5000.0);
        let decay = (beyond(30.0) / beyond(20.0)).ln() / -10.0;
        let (load, eta) = (0.8, decay);
        assert!(is_close(load * eta.exp_m1(), eta, 1e-3), "{eta}");
    }

    #[test]
    fn overload_never_ends() {
        for kind in [Kind::RandomRandom, Kind::RandomFixed, Kind::FixedFixed] {
            assert!(queue(kind, 5001.0).mean_s().is_infinite());
            assert!(queue(kind, 5001.0).quantile_s(0.5).is_infinite());
        }
        assert!(queue(Kind::RandomRandom, 5000.0).mean_s().is_infinite());
    }

    #[test]
    fn separate_queues_do_not_help_each_other() {
        let whole = queue(Kind::RandomRandom, 8000.0);
        let even = SeparateQueues::new(whole, &[1.0, 1.0]);
        assert!(is_close(even.mean_s(), 1e-3, 1e-9));
        assert!(is_close(even.quantile_s(0.99), 4.605e-3, 1e-3));
        let uneven = SeparateQueues::new(whole, &[0.6, 0.4]);
        assert!(uneven.mean_s() > even.mean_s());
        let idle = SeparateQueues::new(queue(Kind::RandomRandom, 4000.0), &[1.0, 0.0]);
        assert!(is_close(idle.mean_s(), 1e-3, 1e-9));
    }

    #[test]
    fn a_stalled_server_has_the_tail_of_the_formula() {
        let stall = Stall {
            stall_s: 1.0,
            run_s: 60.0,
            utilisation: 0.2,
        };
        assert!(is_close(stall.quantile_s(0.99), 0.52, 1e-9));
        assert!(is_close(stall.quantile_s(0.999), 0.952, 1e-9));
        assert_eq!(stall.quantile_s(0.9), 0.0);
        assert!(is_close(stall.share_beyond(0.52), 0.01, 1e-9));
        assert_eq!(stall.share_beyond(2.0), 0.0);
    }
}
